"""Stale entries: old values for look-ups that prefer an old value to none."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from random import Random

from tagcache.engine.budget import Budget
from tagcache.engine.entry import Entry
from tagcache.engine.invalidation import Invalidation
from tagcache.engine.reclaim import Backlog
from tagcache.engine.store import Store
from tagcache.model.activity import Activity


class Stale:
    """The stale entries, in a store of their own, each until its grace ends.

    A stale entry is ignored if an entry is stored for its key in the meantime; it is dropped at the
    latest when that entry leaves.

    ``store`` holds them, with the rest of their grace as time to live.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._activity = Activity(Random(0))  # noqa: S311 - nobody asks what happened to them
        self.store = Store(monotonic, self._activity, lru=False)
        self._backlog = Backlog(self.store)
        self._budget = Budget(self.store, self._backlog, "sieve")
        self._invalidation = Invalidation(self.store, self._backlog, self._activity)

    def __len__(self) -> int:
        return self.store.items - self.store.dead_left

    @property
    def memory(self) -> int:
        """The approximate bytes that the stale entries take."""
        return self._budget.memory

    @property
    def backlog(self) -> int:
        """How many were removed but still use memory."""
        return len(self._backlog)

    def keep(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], until: float, now: float
    ) -> None:
        """Store a stale entry until a time of the monotonic clock."""
        self.store.put(key, value, tags, until - now, now)

    def get(self, key: bytes, now: float) -> Entry | None:
        """Return the stale entry of a key for which no entry is stored."""
        entry = self.store.find(key)
        if entry is None:
            return None
        if not self.store.is_live(entry, now):
            self.store.remove_gone(entry)
            return None
        entry.visited = True
        return entry

    def entries(self, now: float) -> Iterator[Entry]:
        """Yield all stale entries; nothing may change meanwhile."""
        for shard in self.store.shards:
            for entry in shard.values():
                if self.store.is_live(entry, now):
                    yield entry

    def discard(self, key: bytes) -> None:
        """Drop the stale entry of a key, if there is one."""
        entry = self.store.find(key)
        if entry is not None:
            self.store.remove_gone(entry)

    def invalidate(
        self, choose: Callable[[Invalidation], Generator[None, None, int]]
    ) -> Generator[None, None, int]:
        """Work that invalidates stale entries; ``choose`` calls a method of the Invalidation."""
        removed = yield from choose(self._invalidation)
        # The invalidation remembered keys to count misses, which are not counted here.
        self._activity.removed.clear()
        return removed

    def evict(self) -> bool:
        """Drop a stale entry to make room; return whether there was one."""
        return self._budget.evict(None)

    def flush(self) -> None:
        """Drop all stale entries."""
        self._invalidation.flush(self._budget.stored)

    def sweep(self) -> Iterator[None]:
        """Drop the entries whose grace has ended, yielding after each."""
        return self.store.sweep()

    def reclaim(self) -> Iterator[None]:
        """Free the memory of dropped entries, yielding after each."""
        return self._backlog.reclaim()
