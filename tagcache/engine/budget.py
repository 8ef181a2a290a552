"""How much memory the entries take, and making room where that is limited."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from operator import attrgetter
from typing import Literal, TypeAlias

from tagcache.engine.entry import Entry
from tagcache.engine.reclaim import Backlog
from tagcache.engine.store import Store
from tagcache.errors import OutOfMemory

# What an entry takes besides its key and its value, what each of its tags adds, and what a tag
# takes that few entries carry; in bytes, measured on CPython 3.11.
_ENTRY_BYTES = 285
_REFERENCE_BYTES = 44
_TAG_BYTES = 130
# How many entries one store may evict, or reclaim in one cache, at most: what is left is done by
# ``reclaim``.
_MOST_EVICTIONS = 64
_MOST_RECLAIMED = 128

Policy: TypeAlias = Literal["sieve", "lru", "noeviction"]


class Budget:
    """Keeps the entries below ``max_memory`` bytes; 0 is no limit.

    Several caches may have one limit for all of them together. The cache that takes the most memory
    then makes room, so that a small one can grow beside a large one.

    Attributes:
        others: the budgets that share the limit with this one.
        evictions: how many entries of this cache had to make room.
    """

    def __init__(self, store: Store, backlog: Backlog, policy: Policy) -> None:
        self.max_memory = 0
        self.evictions = 0
        self.others: tuple[Budget, ...] = ()
        self._store = store
        self._backlog = backlog
        self._evicts = policy != "noeviction"

    @property
    def stored(self) -> int:
        """About how many bytes the stored entries take with all that belongs to them."""
        store = self._store
        tags = store.tags
        return (
            store.size
            + store.items * _ENTRY_BYTES
            + tags.references * _REFERENCE_BYTES
            + tags.count_all * _TAG_BYTES
            + tags.name_bytes
        )

    @property
    def memory(self) -> int:
        """``stored``, and what was flushed and still takes memory."""
        return self.stored + self._backlog.flushed_memory

    @property
    def total(self) -> int:
        """The ``memory`` of all caches that share the limit."""
        memory = self.memory
        for each in self.others:
            memory += each.memory
        return memory

    def put(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], ttl: float, now: float
    ) -> None:
        """Do as Store.put, within the limit. Raises OutOfMemory."""
        cost = len(key) + len(value) + _ENTRY_BYTES + len(tags) * _REFERENCE_BYTES
        if cost > self.max_memory:
            raise OutOfMemory(f"the entry takes {cost} bytes, the limit is {self.max_memory}")
        if not self._evicts:
            self._check_room(key, cost, tags)
        entry = self._store.put(key, value, tags, ttl, now)
        try:
            if self.memory > self.max_memory or (self.others and self.total > self.max_memory):
                self._make_room(entry)
        except MemoryError:
            # The entry is stored; what is too much is evicted later.
            self._backlog.on_garbage()

    def _check_room(self, key: bytes, cost: int, tags: tuple[bytes, ...]) -> None:
        """Raise OutOfMemory if the entry does not fit without an eviction."""
        store = self._store
        more = cost
        for tag in tags:
            if not store.tags.count(tag):
                more += _TAG_BYTES + len(tag)
        old = store.find(key)
        if old is not None:
            more -= len(key) + len(old.value) + _ENTRY_BYTES + len(old.tags) * _REFERENCE_BYTES
        if more <= 0 or self.total + more <= self.max_memory or self._has_backlog():
            # The backlog is about to make room.
            return
        self._sweep_some()
        if self.total + more > self.max_memory:
            raise OutOfMemory(f"the limit is {self.max_memory} bytes")

    def _has_backlog(self) -> bool:
        """Say whether removed entries still use memory that counts towards the limit."""
        return len(self._backlog) > 0 or any(len(each._backlog) for each in self.others)

    def _sweep_some(self) -> None:
        for each in (self, *self.others):
            for _ in islice(each._store.sweep(), _MOST_RECLAIMED):
                pass

    def _make_room(self, stored: Entry) -> None:
        """Get below the limit, as far as that is quickly done."""
        for each in (self, *self.others):
            for _ in islice(each._backlog.reclaim(), _MOST_RECLAIMED):
                pass
        if not self._has_backlog():
            self._sweep_some()
            for _ in range(_MOST_EVICTIONS):
                if self.total <= self.max_memory:
                    return
                if not self._evicts or not self._evict(stored):
                    break
        self._backlog.on_garbage()

    def reclaim(self) -> Iterator[None]:
        """Reclaim the backlog, then evict down to the limit, yielding after each entry."""
        yield from self._backlog.reclaim()
        while (
            0 < self.max_memory < self.total
            and self._evicts
            and not self._has_backlog()
            and self._evict(None)
        ):
            yield

    def _evict(self, kept: Entry | None) -> bool:
        """Remove one entry, other than ``kept``, where most memory is used.

        Returns whether there was one.
        """
        if self.others:
            largest_first = sorted((self, *self.others), key=_memory, reverse=True)
            return any(each._evict_here(kept) for each in largest_first)
        return self._evict_here(kept)

    def _evict_here(self, kept: Entry | None) -> bool:
        store = self._store
        entry = (store.sieve if store.lru is None else store.lru).victim(kept)
        if entry is None:
            return False
        if store.is_live(entry, store.monotonic()):
            evictions = self.evictions + 1
            store.remove(entry)
            self.evictions = evictions
        else:
            store.remove_gone(entry)
        return True


def share(budgets: Collection[Budget]) -> None:
    """Make the limit of these budgets one for all of them together."""
    for budget in budgets:
        budget.others = tuple(each for each in budgets if each is not budget)


_memory = attrgetter("memory")
