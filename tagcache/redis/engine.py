"""The Redis engine, with the interface of all engines."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tagcache.model.activity import TagActivity
from tagcache.model.fetched import FreshCounts
from tagcache.model.interfaces import IEngine
from tagcache.model.limits import Limits
from tagcache.model.statistics import Counters, EngineTotals, Totals
from tagcache.model.views import Consistency, EntryView, TagMeasure, TagSize
from tagcache.redis.cache import RedisCache
from tagcache.redis.deferreds import as_deferred
from tagcache.redis.session import RedisSession
from tagcache.redis.upkeep import Upkeep


@implementer(IEngine)
class RedisEngine:
    """An IEngine in Redis, which several servers share.

    The figures that it returns at once (IMeasured) are from the last round of ``upkeep``, except
    the numbers of look-ups, stores and removals, which are those of this server.
    """

    store = None
    # The Redis servers have policies of their own.
    eviction_policy = None

    def __init__(self, cache: RedisCache, upkeep: Upkeep) -> None:
        self.upkeep = upkeep
        self.session = RedisSession(cache)
        self._cache = cache
        self._listing = cache.listing
        self._pipelines = count(1)

    @property
    def limits(self) -> Limits:
        """The largest sizes of an entry."""
        return self._cache.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._cache.limits = limits

    @property
    def trouble(self) -> str:
        """The reason why Redis cannot be used now; empty while it can."""
        return self.upkeep.availability.trouble

    @property
    def memory(self) -> int:
        """The bytes that the Redis servers use."""
        return self.upkeep.memory

    @property
    def max_memory(self) -> int:
        """The bytes that they may use; 0 if one of them has no limit."""
        return self.upkeep.max_memory

    @property
    def backlog(self) -> int:
        """How many dead and flushed entries still use memory."""
        return self._cache.seen.backlog

    @property
    def on_lease_end(self) -> Callable[[bytes], None]:
        """Called with the key of a lease that ended early, if somebody waits for it."""
        return self._cache.fresh.on_end

    @on_lease_end.setter
    def on_lease_end(self, called: Callable[[bytes], None]) -> None:
        self._cache.fresh.on_end = called

    def open_session(self) -> RedisSession:
        return RedisSession(self._cache, next(self._pipelines))

    def counters(self) -> Counters:
        cache = self._cache
        return replace(
            self._cache.seen.counters,
            hits=cache.hits,
            misses=cache.misses,
            puts=cache.puts,
            invalidations=cache.invalidations,
        )

    def held(self) -> Totals:
        seen = self._cache.seen
        return Totals(seen.items, seen.tags, seen.bytes)

    @as_deferred
    async def peek(self, key: bytes) -> EntryView | None:
        return (await self._listing.peek_many([key]))[0]

    def peek_many(self, keys: Sequence[bytes]) -> Deferred[list[EntryView | None]]:
        return self._listing.peek_many(keys)

    @as_deferred
    async def keys_by_tag(self, tag: bytes) -> list[bytes]:
        return [entry.key for entry in await self.search([tag])]

    def search(
        self, tags: Sequence[bytes], every: bool = False, offset: int = 0, limit: int | None = None
    ) -> Deferred[list[EntryView]]:
        return self._listing.search(tags, every, offset, limit)

    def newest(self, prefix: bytes, offset: int, limit: int) -> Deferred[list[EntryView]]:
        return self._listing.newest(prefix, offset, limit)

    def scan_keys(
        self,
        cursor: int,
        count: int | None = None,
        wanted: Callable[[bytes], bool] | None = None,
    ) -> Deferred[tuple[int, list[bytes]]]:
        return self._listing.scan_keys(cursor, count, wanted)

    def random_key(self) -> Deferred[bytes | None]:
        return self._listing.random_key()

    def count(self, tags: Sequence[bytes], every: bool = False) -> Deferred[int]:
        return self._listing.count(tags, every)

    @as_deferred
    async def count_keys(self, keys: Sequence[bytes]) -> int:
        found = await self._listing.peek_many(list(dict.fromkeys(keys)))
        return len(found) - found.count(None)

    @as_deferred
    async def largest_tags(
        self, prefix: bytes, most: int, measure: TagMeasure = "keys"
    ) -> list[TagSize]:
        await self._cache.settle()
        found = await self._listing.tags(prefix)

        def rank(tag: TagSize) -> tuple[int, bytes]:
            return tag.rank(measure, self.activity), tag.name

        return heapq.nlargest(most, (TagSize(*row) for row in found), key=rank)

    def activity(self, tag: bytes) -> TagActivity:
        """Return the activity of this server for a tag; hits and misses are samples."""
        return self._cache.activity(tag)

    def fresh_counts(self) -> FreshCounts:
        return self._cache.fresh.counts()

    def all_counters(self) -> Deferred[Counters]:
        return self._cache.counters()

    def totals(self) -> Deferred[EngineTotals]:
        """Return the totals of the engine. Fails with BackendUnavailable."""
        return self._cache.totals().addCallback(self.upkeep.measured)

    def check(self) -> Deferred[Consistency]:
        return self._listing.check()

    def describe(self) -> dict[str, Any]:
        return self.upkeep.describe()
