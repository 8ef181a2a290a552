"""The Caller of a Redis client: what its commands use of its connection."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred

from tagcache.model.fetched import Fetched
from tagcache.model.interfaces import IDatabases, IEngine, ISession, Versions
from tagcache.server.commands.resp.table import RespCommand
from tagcache.server.commands.resp.transactions import Transaction
from tagcache.server.net.connections import Connection

if TYPE_CHECKING:
    from tagcache.server.cache_port.protocol import CacheProtocol

T = TypeVar("T")


class RespCaller:
    """The Caller of commands over RESP.

    Attributes:
        commands: the commands that all clients may use.
        resp: the version of the protocol, 2 or 3.
        transaction: the commands queued since MULTI; None without MULTI.
        watched: the states of the entries that WATCH named.
        watched_bytes: the approximate memory of ``watched``.
    """

    def __init__(
        self,
        protocol: CacheProtocol,
        commands: Sequence[RespCommand],
        now_ms: Callable[[], int],
    ) -> None:
        self.commands = commands
        self._protocol = protocol
        self.now_ms = now_ms
        self.resp = 2
        self.transaction: Transaction | None = None
        self.forget_watched()

    @property
    def session(self) -> ISession:
        """The client's session, which accesses the entries."""
        return self._protocol.session

    @property
    def engine(self) -> IEngine:
        """The engine that keeps the entries."""
        return self._protocol.engine

    @property
    def connection(self) -> Connection:
        """The client's connection."""
        return self._protocol.connection

    @property
    def admitted(self) -> bool:
        """Whether the client may use all commands."""
        return self._protocol.admitted

    def admit(self) -> None:
        """Allow all commands from the next request on."""
        self._protocol.admit()

    def select(self, database: int) -> None:
        """Use another database from the next request on. Raises InvalidDatabase."""
        self._protocol.select(database)

    @property
    def databases(self) -> IDatabases:
        """All databases."""
        return self._protocol.factory.databases

    def run_work(self, work: Generator[None, None, T]) -> T | Deferred[T]:
        """Run work over many entries or connections in slices."""
        return self._protocol.run_work(work)

    def invalidated(self, verb: bytes, names: Sequence[bytes], count: int) -> None:
        """Record that a command removed ``count`` entries by these keys or tags."""
        self._protocol.invalidated(verb, names, count)

    def fetch(self, key: bytes, lease_ms: int, wait_ms: int) -> Fetched | Deferred[Fetched]:
        """Look up a key, or take its lease; wait while another client has it."""
        return self._protocol.fetch(key, lease_ms, wait_ms)

    def forget_watched(self) -> None:
        """Stop watching all entries."""
        self.watched: Versions = {}
        self.watched_bytes = 0

    def reset(self) -> None:
        """Return to the state of a new connection."""
        self.resp = 2
        self.transaction = None
        self.forget_watched()
        self.connection.name = b""
        self._protocol.select(0)
        self._protocol.revoke()
