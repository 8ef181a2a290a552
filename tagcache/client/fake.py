"""A client without a server, for tests of programs that use a cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from threading import RLock
from typing import Any, TypeVar, Unpack, cast

from tagcache.client._sync.client import BlockingClient
from tagcache.client.breaker import State
from tagcache.client.making import requests_for
from tagcache.client.options import OptionFields, Options
from tagcache.client.outcomes import read_all
from tagcache.client.requests import Request, select
from tagcache.engine.caches import MemoryCaches
from tagcache.engine.databases import MemoryDatabases
from tagcache.engine.memory import MemoryCache
from tagcache.errors import CommandError
from tagcache.model.work import run_to_end
from tagcache.server.commands.cache import CACHE_COMMANDS
from tagcache.wire import line as wire

T = TypeVar("T")

_DATABASES = 16


class FakeClient(BlockingClient):
    """A Client whose cache is in this process: the server's own, but for the sockets.

    Two of them share nothing. ``monotonic`` is the clock that times to live go by. Raises
    BadArgument, and Refused for a ``db`` that a server with the default configuration lacks.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        **changes: Unpack[OptionFields],
    ) -> None:
        self._options = (options or Options()).changed(changes)
        self._requests = requests_for(self._options)
        self._server = _Server(monotonic)
        self._lock = RLock()
        if self._options.db:
            self._perform(select(self._options.db))

    @property
    def state(self) -> State:
        """Its server is always there."""
        return State.CLOSED

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """There is nothing to close."""

    def _perform(self, request: Request[T]) -> T:
        return request.read(self._reply(request.payload))

    def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        return read_all(requests, [self._reply(request.payload) for request in requests])

    def _reply(self, payload: bytes) -> bytes:
        fields = wire.split(payload[:-1])
        with self._lock:
            try:
                return self._server.answer(fields)[:-1]
            except CommandError as error:
                return wire.error(error.code)[:-1]


class _Server:
    """The commands on a cache, without a connection: what a Caller is on a server."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        caches = MemoryCaches(lambda: MemoryCache(monotonic=monotonic), _DATABASES)
        self._databases = MemoryDatabases(caches, monotonic)
        self.select(0)
        self._commands = {row.verb: row.run for row in CACHE_COMMANDS}

    def answer(self, fields: list[bytes]) -> bytes:
        """Return the reply to a command. Raises CommandError."""
        match fields[0]:
            case b"INFO":
                items = self.engine.store.totals().items
                return wire.json_object(b"INFO", {"cache": {"items": items}})
            case b"CLIENTS":
                return wire.json_list(b"CLIENTS", [])
        reply = self._commands[fields[0]](self, fields)
        return cast(bytes, reply)  # no command takes long here

    def select(self, database: int) -> None:
        self.engine = self._databases[database]
        self.session = self.engine.open_session()

    def run_work(self, work: Generator[None, None, T]) -> T:
        return run_to_end(work)

    def invalidated(self, verb: bytes, names: Sequence[bytes], count: int) -> None:
        """Nobody looks at the events."""

    def left_out(self, count: int) -> None:
        """Nobody looks at the log."""
