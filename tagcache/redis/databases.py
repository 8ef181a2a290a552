"""The numbered databases of the Redis engine."""

from __future__ import annotations

from collections.abc import Iterator

from zope.interface import implementer

from tagcache.model.interfaces import IDatabases
from tagcache.model.limits import Limits
from tagcache.model.numbered import Numbered
from tagcache.model.statistics import Counters, Totals
from tagcache.redis.caches import RedisCaches
from tagcache.redis.deferreds import as_deferred, together
from tagcache.redis.engine import RedisEngine
from tagcache.redis.upkeep import Upkeep


@implementer(IDatabases)
class RedisDatabases:
    """An IDatabases over ``caches``. All share the connections to Redis, and ``upkeep``."""

    def __init__(self, caches: RedisCaches, upkeep: Upkeep) -> None:
        self.upkeep = upkeep
        self._caches = caches
        self._engines = Numbered(caches.count, lambda number: RedisEngine(caches[number], upkeep))

    @property
    def count(self) -> int:
        """How many databases there may be."""
        return self._caches.count

    @property
    def limits(self) -> Limits:
        """The largest sizes of an entry."""
        return self._caches.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._caches.limits = limits

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
        return sum(engine.backlog for _, engine in self)

    def __getitem__(self, number: int) -> RedisEngine:
        return self._engines[number]

    def __iter__(self) -> Iterator[tuple[int, RedisEngine]]:
        for number, _ in self._caches:
            yield number, self[number]

    def counters(self) -> Counters:
        return Counters.sum(engine.counters() for _, engine in self)

    def held(self) -> Totals:
        return Totals.sum(engine.held() for _, engine in self)

    @as_deferred
    async def flush_all(self) -> int:
        """Remove every entry of every database, even of those that only other servers use."""
        await self._caches.find_used(everywhere=True)
        return sum(await together(engine.session.flush() for _, engine in self))
