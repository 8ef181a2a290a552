"""The caches of all databases in this process, under one memory limit."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from zope.interface import implementer

from tagcache.engine.memory import MemoryCache
from tagcache.engine.shared_limit import SharedLimit
from tagcache.model.interfaces import IMaintained
from tagcache.model.limits import Limits
from tagcache.model.numbered import Numbered
from tagcache.model.statistics import Counters, Totals
from tagcache.model.views import Saved
from tagcache.model.work import run_to_end


@implementer(IMaintained)
class MemoryCaches:
    """A MemoryCache for each database, made by ``make`` when it is first used.

    ``max_memory`` is one limit for all of them, and evicts from the one that takes the most.
    """

    def __init__(self, make: Callable[[], MemoryCache], count: int = 1) -> None:
        self._make = make
        self._limit = SharedLimit()
        self._caches = Numbered(count, self._begin)
        self._on_garbage: Callable[[], None] | None = None
        self._first = self._caches[0]

    def _begin(self, number: int) -> MemoryCache:
        cache = self._make()
        if number:
            cache.limits = self.limits
            self._share(cache)
        if self._on_garbage is not None:
            cache.on_garbage = self._on_garbage
        return cache

    def _share(self, cache: MemoryCache) -> None:
        # A single cache checks its own limit, which is faster than a shared one.
        if self._first.budget.shared is None:
            self._limit.join(self._first.budget)
        self._limit.join(cache.budget)

    @property
    def count(self) -> int:
        """How many databases there may be."""
        return self._caches.count

    def __getitem__(self, number: int) -> MemoryCache:
        """Return the cache of a database. Raises InvalidDatabase."""
        return self._caches[number]

    def __iter__(self) -> Iterator[tuple[int, MemoryCache]]:
        """Yield the number and the cache of each database in use."""
        return iter(self._caches)

    def __len__(self) -> int:
        return sum(len(cache) for _, cache in self)

    @property
    def limits(self) -> Limits:
        """The limits of an entry."""
        return self._first.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        for _, cache in self:
            cache.limits = limits

    @property
    def on_garbage(self) -> Callable[[], None]:
        """Called when there is something to reclaim."""
        return self._first.on_garbage

    @on_garbage.setter
    def on_garbage(self, called: Callable[[], None]) -> None:
        self._on_garbage = called
        for _, cache in self:
            cache.on_garbage = called

    @property
    def max_memory(self) -> int:
        """How many bytes all entries may take; 0: no limit."""
        return self._first.max_memory

    @property
    def memory(self) -> int:
        """The approximate bytes that all entries and their indexes take."""
        return sum(cache.memory for _, cache in self)

    @property
    def backlog(self) -> int:
        """How many entries were removed but still use memory."""
        return sum(cache.backlog for _, cache in self)

    def counters(self) -> Counters:
        return Counters.sum(cache.counters() for _, cache in self)

    def held(self) -> Totals:
        return Totals.sum(cache.held() for _, cache in self)

    def sweep(self) -> Iterator[None]:
        for _, cache in self:
            yield from cache.sweep()

    def reclaim(self) -> Iterator[None]:
        for _, cache in self:
            yield from cache.reclaim()

    def flush(self) -> Generator[None, None, int]:
        """Work that removes every entry of all databases atomically; returns how many."""
        yield from self.sweep()
        # The expired entries have been removed, so nothing here takes long.
        return sum(run_to_end(cache.flush()) for _, cache in self)

    def saved(self) -> Iterator[Saved]:
        for number, cache in self:
            for entry in cache.saved():
                yield entry._replace(database=number) if number else entry

    def restore(self, entry: Saved, downtime: float) -> bool:
        return self[entry.database].restore(entry, downtime)
