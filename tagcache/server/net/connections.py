"""The open connections, and what the server knows about each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from tagcache.config.settings import Settings
from tagcache.server.observe.log_throttle import LogThrottle
from tagcache.sockopts import AppliedOption

log = Logger(namespace="tagcache.connections")


class Connection:
    """The state of one connection.

    Times are seconds of a monotonic clock. ``socket_options`` holds each requested option with its
    effective value right after it was set; ``last_verb`` is spelled as the client sent it;
    ``host`` is the peer without its port; ``counted`` says whether it counts towards
    ``max_connections``; ``logged_in`` whether credentials admitted the connection as a whole;
    ``dashboard`` whether the last HTTP request came from the dashboard. ``abort`` closes it at
    once, and ``hang_up`` does so without a reset if the peer reads its replies. ``held_bytes`` is
    its memory use when last measured, and ``measure`` returns the current one. ``catch_up`` adds
    the requests that the native core has answered since the last call to the counts and times
    here. ``name`` is what a Redis client calls itself, ``library`` the name and version of its
    library, and ``database`` the number of the selected database.
    """

    __slots__ = (
        "abort",
        "bytes_in",
        "bytes_out",
        "catch_up",
        "commands",
        "counted",
        "dashboard",
        "database",
        "hang_up",
        "held_bytes",
        "host",
        "id",
        "last_active",
        "last_verb",
        "library",
        "listener",
        "logged_in",
        "measure",
        "name",
        "opened",
        "peer",
        "socket_options",
        "transport",
    )

    def __init__(
        self,
        id: int,
        listener: str,
        transport: Any,
        options: tuple[AppliedOption, ...],
        now: float,
        counted: bool,
    ) -> None:
        self.id = id
        self.counted = counted
        self.listener = listener
        self.transport = transport
        peer = transport.getPeer()
        self.peer = address_text(peer)
        self.host: str = getattr(peer, "host", "") or "unix"
        self.socket_options = options
        self.opened = self.last_active = now
        self.commands = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.held_bytes = 0
        self.last_verb = b""
        self.name = b""
        self.library = (b"", b"")
        self.database = 0
        self.dashboard = False
        self.logged_in = False
        self.abort: Callable[[], None] = transport.abortConnection
        self.hang_up: Callable[[], None] = transport.abortConnection
        self.measure: Callable[[], int] = _nothing_held
        self.catch_up: Callable[[], None] = _nothing

    def describe(self, now: float) -> dict[str, Any]:
        """Return it as a JSON object; ``now`` is a time of the same clock."""
        return {
            "id": self.id,
            "listener": self.listener,
            "peer": self.peer,
            "age_seconds": round(now - self.opened, 3),
            "idle_seconds": round(now - self.last_active, 3),
            "commands": self.commands,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "held_bytes": self.held_bytes,
            "last_verb": self.last_verb.decode("latin-1").upper(),
            "dashboard": self.dashboard,
            "name": " ".join(each.decode() for each in (self.name, *self.library) if each),
            "socket_options": {each.name: each.describe() for each in self.socket_options},
        }


class Connections:
    """The open connections of all listeners; ids are never reused.

    ``clients`` is the number of open ones that count towards ``max_connections``; ``total``
    counts all connections since the start, ``refused`` the rejected ones; ``held_bytes`` is the
    memory of all their requests and replies, at most ``max_held_bytes`` (0: no limit).
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self.clients = 0
        self.total = 0
        self.refused = 0
        self.held_bytes = 0
        self.max_held_bytes = 0
        self._dropped = LogThrottle(1.0, monotonic)
        self._bytes_in = 0
        self._bytes_out = 0
        self._ids = itertools.count(1)
        self._open: dict[int, Connection] = {}

    def configure(self, settings: Settings) -> None:
        """Take new settings."""
        self.max_held_bytes = settings.performance.max_client_memory

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        self.catch_up()
        return iter(list(self._open.values()))

    def catch_up(self) -> None:
        """Bring the counts and times of all connections up to date."""
        for connection in self._open.values():
            connection.catch_up()

    def transferred(self) -> tuple[int, int]:
        """Return how many bytes were received and sent since the start."""
        self.catch_up()
        bytes_in, bytes_out = self._bytes_in, self._bytes_out
        for connection in self._open.values():
            bytes_in += connection.bytes_in
            bytes_out += connection.bytes_out
        return bytes_in, bytes_out

    def get(self, id: int) -> Connection | None:
        """Return the open connection with that id."""
        return self._open.get(id)

    def open(
        self, listener: str, transport: Any, options: tuple[AppliedOption, ...], counted: bool
    ) -> Connection:
        """Note a new connection."""
        self.total += 1
        self.clients += counted
        connection = Connection(
            next(self._ids), listener, transport, options, self.monotonic(), counted
        )
        self._open[connection.id] = connection
        return connection

    def hold(self, connection: Connection, held_bytes: int) -> None:
        """Record how much a connection holds; drop the largest if together they hold too much."""
        self._note(connection, held_bytes)
        if 0 < self.max_held_bytes < self.held_bytes:
            # Measure again, because clients may have read replies. Dropped ones already count 0.
            for other in self._open.values():
                if other.held_bytes:
                    self._note(other, other.measure())
            if self.max_held_bytes < self.held_bytes:
                self._drop_largest()

    def _note(self, connection: Connection, held_bytes: int) -> None:
        self.held_bytes += held_bytes - connection.held_bytes
        connection.held_bytes = held_bytes

    def _drop_largest(self) -> None:
        largest = max(self._open.values(), key=attrgetter("held_bytes"))
        more = self._dropped.now()
        if more is not None:
            log.warn(
                "{listener}: dropped {peer}, which holds {held} bytes: all clients together hold "
                "{total} bytes, and performance.max_client_memory is {limit}{more}",
                listener=largest.listener,
                peer=largest.peer,
                held=largest.held_bytes,
                total=self.held_bytes,
                limit=self.max_held_bytes,
                more=more,
            )
        self.held_bytes -= largest.held_bytes
        largest.held_bytes = 0
        largest.abort()

    def close(self, connection: Connection) -> None:
        """Forget a closed connection."""
        if self._open.pop(connection.id, None) is not None:
            connection.catch_up()
            self.held_bytes -= connection.held_bytes
            connection.held_bytes = 0
            self.clients -= connection.counted
            self._bytes_in += connection.bytes_in
            self._bytes_out += connection.bytes_out
            # Break the reference cycle: the garbage collector rarely looks at old objects.
            connection.transport = None
            connection.abort = connection.hang_up = connection.catch_up = _nothing
            connection.measure = _nothing_held


def _nothing() -> None:
    """Stand in for ``abort``, ``hang_up`` and ``catch_up`` of a closed connection."""


def _nothing_held() -> int:
    """Stand in for ``measure`` of a closed connection."""
    return 0


def address_text(address: IAddress | None) -> str:
    """Return an address as an operator would write it."""
    host = getattr(address, "host", None)
    if host is None:
        name = getattr(address, "name", None)
        return f"unix:{name.decode('utf-8', 'replace')}" if name else "unix"
    port = getattr(address, "port", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
