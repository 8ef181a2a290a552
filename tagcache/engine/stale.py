"""Entries that exist only for those who would rather have an old value than none."""

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
    """The stale entries, each until its grace is over: a store of its own.

    A stale entry does not count if an entry is stored for its key in the meantime; it is dropped
    when that leaves, at the latest.

    ``store`` holds them: their time to live is what is left of their grace.
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
        """About how many bytes they take."""
        return self._budget.memory

    @property
    def backlog(self) -> int:
        """How many were removed already and still hold memory."""
        return len(self._backlog)

    def keep(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], until: float, now: float
    ) -> None:
        """Keep what an entry that leaves was, until a time of the monotonic clock."""
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
        """Yield all of them; nothing may change meanwhile."""
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
        """Work that drops what an invalidation means; ``choose`` calls that."""
        removed = yield from choose(self._invalidation)
        # It remembers keys, which nobody looks for here.
        self._activity.removed.clear()
        return removed

    def evict(self) -> bool:
        """Drop one, to make room; say whether there was one."""
        return self._budget.evict(None)

    def flush(self) -> None:
        """Drop all."""
        self._invalidation.flush(self._budget.stored)

    def sweep(self) -> Iterator[None]:
        """Drop those whose grace is over, yielding after each."""
        return self.store.sweep()

    def reclaim(self) -> Iterator[None]:
        """Give back the memory of those that were dropped, yielding after each."""
        return self._backlog.reclaim()
