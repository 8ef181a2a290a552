"""Free the memory of removed entries, a little at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from tagcache.engine.entry import Entries
from tagcache.engine.store import Store, Tables
from tagcache.engine.tags import ManyEntries, parts


class Backlog:
    """The removed entries that still use memory.

    Entries that were marked dead are still stored, and are removed one by one. Flushed entries are
    not stored: only the tables that held them are dismantled.

    Attributes:
        on_garbage: called when there is something to reclaim.
        flushed: how many flushed entries are left.
        flushed_memory: the approximate bytes that they take.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.on_garbage: Callable[[], None] = _nothing
        self.flushed = 0
        self.flushed_memory = 0
        # The work of dismantling, one for each flush.
        self._flushes: deque[Iterator[None]] = deque()

    def __len__(self) -> int:
        return self._store.dead_left + self.flushed

    def flush(self, memory: int) -> None:
        """Remove all entries from the store; they take about ``memory`` bytes."""
        left, left_memory = self.flushed + self._store.items, self.flushed_memory + memory
        self._flushes.append(self._dismantle(self._store.tables(), memory))
        try:
            self._store.flush()
        except MemoryError:
            self._flushes.pop()
            raise
        self.flushed, self.flushed_memory = left, left_memory
        self.on_garbage()

    def reclaim(self) -> Iterator[None]:
        """Remove dead entries and free flushed ones, yielding after each entry."""
        dead = self._store.dead
        while dead:
            oldest = dead[-1]
            for part in parts(oldest):
                yield from self._remove_all(part)
            if dead and dead[-1] is oldest:
                dead.pop()
        while self._flushes:
            flush = self._flushes[0]
            # Not "yield from": a caller that stops in the middle would close it for all others.
            for _ in flush:
                yield
            if self._flushes and self._flushes[0] is flush:
                self._flushes.popleft()

    def _remove_all(self, dead: Entries) -> Iterator[None]:
        """Remove these dead entries. Each stays in the set until then, or it would live again."""
        store = self._store
        while dead:
            entry = dead.last()
            if store.find(entry.key) is entry:
                store.remove_dead(entry)
            dead.pop_last()
            yield

    def _dismantle(self, flushed: Tables, memory: int) -> Iterator[None]:
        yield from _clear(flushed.dead)
        yield from flushed.tags.dismantle()
        flushed.expiry.dismantle()
        # Break the links, because neighbours in a ring refer to each other.
        flushed.end.break_links()
        each = memory // flushed.items
        for shard in flushed.shards:
            while shard:
                shard.pop_last().break_links()
                self.flushed -= 1
                self.flushed_memory -= each
                memory -= each
                yield
        self.flushed_memory -= memory


def _clear(sets: list[Entries | ManyEntries]) -> Iterator[None]:
    for each in sets:
        for part in parts(each):
            part.clear()
            yield


def _nothing() -> None:
    """Do nothing: nobody waits for garbage."""
