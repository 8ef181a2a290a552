"""A client without a server, for tests of programs that use a cache."""

from __future__ import annotations

import sys
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
from tagcache.client.single_flight import Flights
from tagcache.engine.caches import MemoryCaches
from tagcache.engine.databases import MemoryDatabases
from tagcache.engine.memory import MemoryCache
from tagcache.errors import CommandError
from tagcache.model.fetched import Fetched
from tagcache.model.work import run_to_end
from tagcache.server.commands.resp.table import error_reply
from tagcache.server.resp.commands import ENTRY_COMMANDS
from tagcache.wire import resp
from tagcache.wire.resp_replies import ReplyReader
from tagcache.wire.resp_requests import RequestBuffer

T = TypeVar("T")

_DATABASES = 16


class FakeClient(BlockingClient):
    """A Client whose cache is in this process: the code of the server, without sockets.

    Two of them share nothing. ``monotonic`` is the clock for times to live. Raises
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
        self._flights = Flights()
        self._server = _Server(monotonic)
        self._lock = RLock()
        if self._options.db:
            self._perform(select(self._options.db))

    @property
    def state(self) -> State:
        """Always CLOSED: the server is always available."""
        return State.CLOSED

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _perform(self, request: Request[T]) -> T:
        return request.read(self._reply(request.payload))

    def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        return read_all(requests, [self._reply(request.payload) for request in requests])

    def _reply(self, payload: bytes) -> Any:
        with self._lock:
            return self._server.reply(payload)


class _Server:
    """Runs the commands on a cache without a connection, as a Caller does in the server."""

    resp = 2

    def __init__(self, monotonic: Callable[[], float]) -> None:
        caches = MemoryCaches(lambda: MemoryCache(monotonic=monotonic), _DATABASES)
        self._databases = MemoryDatabases(caches, monotonic)
        self.select(0)
        self._commands = {row.verb: row.run for row in ENTRY_COMMANDS}
        self._requests = RequestBuffer(sys.maxsize, sys.maxsize)
        self._replies = ReplyReader()

    def reply(self, payload: bytes) -> Any:
        """Return the reply to a request as a client reads it."""
        (arguments,) = self._requests.feed(payload)
        try:
            reply = self._execute(arguments)
        except CommandError as error:
            reply = error_reply(error)
        return self._replies.feed(reply)[0]

    def _execute(self, arguments: list[bytes]) -> bytes:
        match arguments[0]:
            case b"PING":
                return resp.PONG
            case b"SELECT":
                self.select(int(arguments[1]))
                return resp.OK
            case b"TAG.INFO":
                items = self.engine.store.totals().items
                return resp.bulk(b'{"cache":{"items":%d}}' % items)
            case b"TAG.CLIENTS":
                return resp.bulk(b"[]")
        reply = self._commands[arguments[0]](self, arguments)
        return cast(bytes, reply)  # no command takes long here

    def select(self, database: int) -> None:
        self.engine = self._databases[database]
        self.session = self.engine.open_session()

    def fetch(self, key: bytes, lease_ms: int, wait_ms: int) -> Fetched:
        # Only one call runs at a time, so nobody would end the wait.
        return self.session.fetch(key, lease_ms)

    def run_work(self, work: Generator[None, None, T]) -> T:
        return run_to_end(work)

    def invalidated(self, verb: bytes, names: Sequence[bytes], count: int) -> None:
        """Do nothing: there are no events here."""
