"""What the requests of one connection add to the counts, and which of them were slow."""

from __future__ import annotations

from tagcache.server.net.connections import Connection
from tagcache.server.observe.traffic import MIXED, Traffic


class Meter:
    """Counts and times the requests of one connection, for all protocols alike.

    Attributes:
        traffic: where that is kept for all connections; a fast path compares with its ``above``
            before it asks for a note.
        verbs: ``traffic.verbs``.
    """

    __slots__ = ("connection", "traffic", "verbs")
    # Known once the connection is made.
    connection: Connection

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.verbs = traffic.verbs

    def note(self, took: float, name: str, argument: bytes | None) -> None:
        """Note how many seconds one request took, if that is to be told."""
        if took >= self.traffic.above:
            self.traffic.took(took, name, 1, argument, self.connection.peer)

    def note_together(self, took: float, name: str, requests: int) -> None:
        """Note how many seconds it took to answer several requests, all of that name if any."""
        if took >= self.traffic.above:
            self.traffic.took(took, name or MIXED, requests, None, self.connection.peer)
