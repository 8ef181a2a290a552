"""Counts and times the requests of one connection."""

from __future__ import annotations

from tagcache.server.net.connections import Connection
from tagcache.server.observe.traffic import MIXED, Traffic


class Meter:
    """Counts and times the requests of one connection, for all protocols alike.

    Attributes:
        traffic: the totals of all connections; a fast path compares with ``traffic.above``
            before it calls ``note``.
        verbs: ``traffic.verbs``.
    """

    __slots__ = ("connection", "traffic", "verbs")
    # Known once the connection is made.
    connection: Connection

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.verbs = traffic.verbs

    def note(self, took: float, name: str, argument: bytes | None) -> None:
        """Record how many seconds one request took, if that is at least ``traffic.above``."""
        if took >= self.traffic.above:
            self.traffic.took(took, name, 1, argument, self.connection.peer)

    def note_together(self, took: float, name: str, requests: int) -> None:
        """Record how many seconds several requests took; ``name`` is empty if they differ."""
        if took >= self.traffic.above:
            self.traffic.took(took, name or MIXED, requests, None, self.connection.peer)
