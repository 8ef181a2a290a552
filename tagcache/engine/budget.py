"""Count the memory of the entries, and make room when there is a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

from tagcache.engine.entry import ENTRY_BYTES, REFERENCE_BYTES, TAG_BYTES, Entry
from tagcache.engine.reclaim import Backlog
from tagcache.engine.store import Store
from tagcache.errors import OutOfMemory

if TYPE_CHECKING:
    from tagcache.engine.shared_limit import SharedLimit

# The most entries that one store may evict, or reclaim in one cache. ``reclaim`` does the rest.
_MOST_EVICTIONS = 64
_MOST_RECLAIMED = 128

Policy: TypeAlias = Literal["sieve", "lru", "noeviction"]


class Budget:
    """Keeps the entries below ``max_memory`` bytes; 0 is no limit.

    Attributes:
        evictions: how many entries were evicted to make room.
        beside: the memory of leases, graces and stale entries, which are not in the store, in
            bytes.
        evict_beside: drops one stale entry; returns whether there was one.
        shared: the limit that this cache shares with others, if there are others.
        counted: the memory of this cache when the shared limit last counted it.
    """

    def __init__(self, store: Store, backlog: Backlog, policy: Policy) -> None:
        self.max_memory = 0
        self.evictions = 0
        self.counted = 0
        self.beside = 0
        self.evict_beside: Callable[[], bool] = _nothing
        self.shared: SharedLimit | None = None
        self._store = store
        self._backlog = backlog
        self._evicts = policy != "noeviction"

    @property
    def stored(self) -> int:
        """The approximate bytes of the stored entries with their tags and indexes."""
        store = self._store
        tags = store.tags
        return (
            store.size
            + store.items * ENTRY_BYTES
            + tags.references * REFERENCE_BYTES
            + tags.count_all * TAG_BYTES
            + tags.name_bytes
        )

    @property
    def memory(self) -> int:
        """``stored``, ``beside``, and flushed entries that still take memory."""
        return self.stored + self._backlog.flushed_memory + self.beside

    @property
    def total(self) -> int:
        """The ``memory`` of all caches that share the limit."""
        return self.memory if self.shared is None else self.shared.count_all()

    @property
    def has_backlog(self) -> bool:
        """Whether removed entries of this cache still use memory."""
        return len(self._backlog) > 0

    def put(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], ttl: float, now: float
    ) -> None:
        """Do as Store.put, within the limit. Raises OutOfMemory."""
        cost = len(key) + len(value) + ENTRY_BYTES + len(tags) * REFERENCE_BYTES
        if cost > self.max_memory:
            raise OutOfMemory(f"the entry takes {cost} bytes, the limit is {self.max_memory}")
        if not self._evicts:
            self._check_room(key, cost, tags)
        entry = self._store.put(key, value, tags, ttl, now)
        shared = self.shared
        try:
            if (self.memory if shared is None else shared.count(self)) > self.max_memory:
                self._make_room(entry)
        except MemoryError:
            # The entry is stored, so evict the excess later.
            self._backlog.on_garbage()

    def _check_room(self, key: bytes, cost: int, tags: tuple[bytes, ...]) -> None:
        """Raise OutOfMemory if the entry does not fit without an eviction."""
        store = self._store
        more = cost
        for tag in tags:
            if not store.tags.count(tag):
                more += TAG_BYTES + len(tag)
        old = store.find(key)
        if old is not None:
            more -= len(key) + len(old.value) + ENTRY_BYTES + len(old.tags) * REFERENCE_BYTES
        shared = self.shared
        used = self.memory if shared is None else shared.count(self)
        if more <= 0 or used + more <= self.max_memory:
            return
        if self._waits():
            return
        if shared is None:
            self.tidy()
        else:
            shared.tidy()
        for _ in range(_MOST_EVICTIONS):
            if self.total + more <= self.max_memory or not self.evict_beside():
                break
        if self.total + more > self.max_memory:
            raise OutOfMemory(f"the limit is {self.max_memory} bytes")

    def tidy(self) -> bool:
        """Remove a limited number of invalidated and expired entries.

        Returns whether no invalidated entry is left.
        """
        for _ in islice(self._backlog.reclaim(), _MOST_RECLAIMED):
            pass
        if len(self._backlog):
            return False
        for _ in islice(self._store.sweep(), _MOST_RECLAIMED):
            pass
        return True

    def _make_room(self, stored: Entry) -> None:
        """Evict a limited number of entries to get below the limit."""
        if self.shared is not None:
            if self.shared.make_room(stored, self.max_memory, _MOST_EVICTIONS):
                return
        elif self.tidy():
            for _ in range(_MOST_EVICTIONS):
                if self.memory <= self.max_memory:
                    return
                if not self.evict(stored):
                    break
        self._backlog.on_garbage()

    def reclaim(self) -> Iterator[None]:
        """Reclaim the backlog, then evict down to the limit, yielding after each entry."""
        yield from self._backlog.reclaim()
        limit = self if self.shared is None else self.shared
        while 0 < self.max_memory < self.total and not self._waits() and limit.evict(None):
            yield

    def _waits(self) -> bool:
        """Return whether removed entries will make room when they are reclaimed."""
        return self.has_backlog if self.shared is None else self.shared.has_backlog()

    def evict(self, kept: Entry | None) -> bool:
        """Evict an entry other than ``kept``, if the policy allows it; return whether it did."""
        if self.beside and self.evict_beside():
            return True
        if not self._evicts:
            return False
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


def _nothing() -> bool:
    """Drop nothing: there is nothing beside the entries."""
    return False
