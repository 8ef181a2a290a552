"""Counts and times the requests of one connection."""

from __future__ import annotations

from collections.abc import Mapping

from tagcache.server.net.connections import Connection
from tagcache.server.net.pump_transport import Answered, PumpTransport
from tagcache.server.observe.traffic import MIXED, Traffic


class Meter:
    """Counts and times the requests of one connection, for all protocols alike.

    Attributes:
        traffic: the totals of all connections; a fast path compares with ``traffic.above``
            before it calls ``note``.
        verbs: ``traffic.verbs``.
    """

    __slots__ = ("_routes", "connection", "traffic", "verbs")
    # Set once the connection is made.
    connection: Connection

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.verbs = traffic.verbs
        self._routes: Mapping[bytes, str] = {}

    def follow(self, transport: PumpTransport, routes: Mapping[bytes, str] | None = None) -> None:
        """Also count and time the requests that this transport answers itself.

        ``routes`` are the labels of its verbs, in HTTP.
        """
        self._routes = routes or {}
        transport.on_slow = self._note_answers
        self.connection.catch_up = lambda: self._add(transport.take_answered())

    def _add(self, answered: Answered) -> None:
        connection = self.connection
        for verb, count in answered.requests.items():
            if count:
                connection.commands += count
                route = self._routes.get(verb)
                if route is None:
                    self.verbs[verb] += count
                else:
                    self.traffic.routes[route] += count
        connection.bytes_in += answered.bytes_in
        connection.bytes_out += answered.bytes_out
        if answered.last_active >= connection.last_active:
            connection.last_active = answered.last_active
            connection.last_verb = answered.last_verb

    def _note_answers(self, took: float, requests: int, verb: bytes) -> None:
        name = f"HTTP {MIXED}" if self._routes else ""
        if requests == 1:
            name = self._routes.get(verb) or verb.decode().lower()
        self.note_together(took, name, requests)

    def note(self, took: float, name: str, argument: bytes | None) -> None:
        """Record how many seconds one request took, if that is at least ``traffic.above``."""
        if took >= self.traffic.above:
            self.traffic.took(took, name, 1, argument, self.connection.peer)

    def note_together(self, took: float, name: str, requests: int) -> None:
        """Record how many seconds several requests took; ``name`` is empty if they differ."""
        if took >= self.traffic.above:
            self.traffic.took(took, name or MIXED, requests, None, self.connection.peer)
