"""The caches of all databases in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tagcache.model.limits import Limits
from tagcache.model.numbered import Numbered
from tagcache.redis import scripts
from tagcache.redis.cache import RedisCache
from tagcache.redis.deferreds import as_deferred, together
from tagcache.redis.partitions import Partitions


class RedisCaches:
    """A RedisCache for each database, created by ``make`` when any server uses it.

    ``partitions_of`` returns the partitions of a database.
    """

    def __init__(
        self,
        count: int,
        make: Callable[[int], RedisCache],
        partitions_of: Callable[[int], Partitions],
    ) -> None:
        self._make = make
        self._partitions_of = partitions_of
        self._caches = Numbered(count, self._begin)
        self._first = self._caches[0]

    def _begin(self, number: int) -> RedisCache:
        cache = self._make(number)
        if number:
            cache.limits = self.limits
        return cache

    @property
    def count(self) -> int:
        """How many databases there may be."""
        return self._caches.count

    @property
    def limits(self) -> Limits:
        """The largest sizes of an entry."""
        return self._first.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        for _, cache in self:
            cache.limits = limits

    def __getitem__(self, number: int) -> RedisCache:
        """Return the cache of a database. Raises InvalidDatabase."""
        return self._caches[number]

    def __iter__(self) -> Iterator[tuple[int, RedisCache]]:
        """Yield the number and the cache of each database in use."""
        return iter(self._caches)

    def lease_ended(self, number: int, key: bytes) -> None:
        """Note that a lease in a database has ended early, at any server."""
        cache = self._caches.used(number)
        if cache is not None:
            cache.fresh.ended(key)

    def leases_ended_in(self, number: int, root: str) -> None:
        """Note that all leases of a partition of a database have ended, at whatever server."""
        cache = self._caches.used(number)
        if cache is not None:
            cache.fresh.ended_in(root)

    def leases_ended(self) -> None:
        """Note that any leases may have ended."""
        for _, cache in self:
            cache.fresh.all_ended()

    @as_deferred
    async def find_used(self, everywhere: bool = False) -> None:
        """Look for databases that other servers use, or that were used before this one started.

        The first partition has the counts of all servers from their last rounds of upkeep. With
        ``everywhere``, look for entries in all partitions.
        """
        unknown = [number for number in range(self.count) if self._caches.used(number) is None]
        for number in unknown:
            partitions = self._partitions_of(number)
            roots = partitions.roots if everywhere else partitions.roots[:1]
            if await self._is_used(partitions, roots):
                self._caches[number]

    @staticmethod
    async def _is_used(partitions: Partitions, roots: list[str]) -> bool:
        each = await together([partitions.call_later(root, scripts.TOTALS) for root in roots])
        return any(items or backlog or counts for items, _, _, backlog, counts, *_ in each)
