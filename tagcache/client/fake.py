"""A client without a server, for tests of programs that use a cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from threading import RLock
from typing import Any, TypeVar, Unpack

from tagcache.client.blocking import BlockingClient
from tagcache.client.breaker import State
from tagcache.client.making import requests_for
from tagcache.client.options import OptionFields, Options
from tagcache.client.outcomes import read_all
from tagcache.client.requests import Request
from tagcache.engine.memory import MemoryCache
from tagcache.errors import CommandError
from tagcache.model.work import run_to_end
from tagcache.wire import line as wire

T = TypeVar("T")


class FakeClient(BlockingClient):
    """A Client whose cache is in this process: the server's own, but for the sockets.

    Two of them share nothing. ``monotonic`` is the clock that times to live go by. Raises
    BadArgument.
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
        self._cache = MemoryCache(monotonic=monotonic)
        self._lock = RLock()

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
                return self._answer(fields[0], *fields[1:])[:-1]
            except CommandError as error:
                return wire.error(error.code)[:-1]

    def _answer(self, verb: bytes, *fields: bytes) -> bytes:
        cache = self._cache
        match (verb, *fields):
            case b"GET", key:
                found = cache.get(key)
                return wire.NOT_FOUND if found is None else wire.value(found)
            case b"PUT", key, ttl, tags, value:
                cache.put(key, value, wire.parse_tags(tags), wire.parse_ttl(ttl))
                return wire.OK
            case b"ADD", key, ttl, tags, value:
                added = cache.add(key, value, wire.parse_tags(tags), wire.parse_ttl(ttl))
                return wire.ADDED if added else wire.EXISTS
            case ((b"INCR" | b"DECR"), key, by, ttl, tags):
                count = cache.increment if verb == b"INCR" else cache.decrement
                terms = wire.parse_tags(tags), wire.parse_ttl(ttl)
                return wire.integer(count(key, wire.parse_by(by), *terms))
            case b"TOUCH", key, ttl:
                there = cache.touch(key, wire.parse_ttl(ttl))
                return wire.TOUCHED if there else wire.NOT_FOUND
            case b"DEL", key:
                return wire.DELETED if cache.delete(key) else wire.NOT_DELETED
            case b"INV_TAG", tag:
                return _counted(verb, cache.invalidate_tag(tag))
            case b"INV_TAGS_ANY", tags:
                return _counted(verb, cache.invalidate_any(wire.parse_list(tags, "tags")))
            case b"INV_TAGS_ALL", tags:
                return _counted(verb, cache.invalidate_all(wire.parse_list(tags, "tags")))
            case b"INV_KEYS", keys:
                return _counted(verb, cache.invalidate_keys(wire.parse_list(keys, "keys")))
            case b"FLUSH", *_:
                return _counted(verb, cache.flush())
            case b"KEYS", tag:
                return run_to_end(wire.keys(run_to_end(cache.keys_by_tag(tag))))[0]
            case b"STATS", *_:
                told = cache.counters()
                return wire.stats(told.hits, told.misses, told.puts, told.invalidations, 0)
            case b"PING", *_:
                return wire.PONG
            case b"INFO", *_:
                return wire.json_object(verb, {"cache": {"items": cache.totals().items}})
            case b"CLIENTS", *_:
                return wire.json_list(verb, [])
        raise AssertionError(f"the clients say {verb!r}, and the fake does not know it")


def _counted(verb: bytes, work: Generator[None, None, int]) -> bytes:
    return wire.count(verb, run_to_end(work))
