"""The graces of entries: how long an entry may be stale.

An entry with a grace becomes stale when its time to live ends, or when it is softly invalidated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

from tagcache.engine.entry import Entries, Entry
from tagcache.engine.stale import Stale
from tagcache.engine.store import SHARD_MASK, SHARDS, Store
from tagcache.engine.tags import ManyEntries, parts, shrink
from tagcache.model.views import Saved

# The approximate bytes that the grace of an entry takes.
_GRACE_BYTES = 180
_NO_GRACE = (-1.0, 0.0)


class Graces:
    """The graces of the entries in ``store``; most entries have none. An Heir.

    A grace is only valid for the entry that was stored at the recorded time, so storing without a
    grace need not touch this table. Entries that become stale go to ``stale``.
    """

    def __init__(self, store: Store, stale: Stale) -> None:
        self._store = store
        self._stale = stale
        # By key: when the entry was stored, and its grace, both in seconds.
        self._shards: list[dict[bytes, tuple[float, float]]] = [{} for _ in range(SHARDS)]
        self._count = 0
        # Sets of softened entries that are still in the store, and when they were softened.
        self._softened: list[tuple[Entries | ManyEntries, float]] = []

    def __len__(self) -> int:
        return self._count

    @property
    def memory(self) -> int:
        """The approximate bytes that all graces take."""
        return self._count * _GRACE_BYTES

    def give(self, key: bytes, seconds: float) -> None:
        """Give a grace to the entry that was just stored. A MemoryError changes nothing."""
        entry = self._store.find(key)
        if entry is not None:
            shard = self._shards[hash(key) & SHARD_MASK]
            count = self._count + (key not in shard)
            shard[key] = (entry.stored, seconds)
            self._count = count

    def of(self, entry: Entry) -> float:
        """Return the grace of a stored entry in seconds; 0 if it has none."""
        stored, seconds = self._shards[hash(entry.key) & SHARD_MASK].get(entry.key, _NO_GRACE)
        return seconds if stored == entry.stored else 0.0

    def _take(self, entry: Entry) -> float:
        """Return the grace of an entry, and forget it."""
        grace = self.of(entry)
        number = hash(entry.key) & SHARD_MASK
        if self._shards[number].pop(entry.key, None) is not None:
            self._count -= 1
            shrink(self._shards, number)
        return grace

    def clear(self) -> None:
        """Forget all."""
        self._shards = [{} for _ in range(SHARDS)]
        self._count = 0
        self._softened.clear()

    def leaving(self, entry: Entry) -> None:
        """Note that an entry is about to be removed; keep it if it becomes stale."""
        self._stale.discard(entry.key)
        grace = self._take(entry)
        since = self._stale_since(entry) if grace else None
        if since is not None:
            self._keep(entry, since + grace)

    def _stale_since(self, entry: Entry) -> float | None:
        """Return when a leaving entry became stale; None if it does not become stale."""
        if self._store.dead and self._store.is_dead(entry):
            softened = [when for dead, when in self._softened if dead.get(entry.key) is entry]
            # A hard invalidation may have marked the entry dead as well.
            marked = sum(dead.get(entry.key) is entry for dead in self._store.dead)
            return min(softened) if softened and len(softened) == marked else None
        return entry.expires if entry.expires <= self._store.monotonic() else None

    def _keep(self, entry: Entry, until: float) -> None:
        now = self._store.monotonic()
        if until > now:
            # Without enough memory, the stale value is lost.
            with suppress(MemoryError):
                self._stale.keep(entry.key, entry.value, entry.tags, until, now)

    def soften(self, entry: Entry) -> None:
        """Remove a live entry from the store; with a grace it becomes stale."""
        grace = self.of(entry)
        self._store.remove(entry)
        if grace:
            self._keep(entry, self._store.monotonic() + grace)

    def softened(self, dead: list[Entries | ManyEntries]) -> None:
        """Note that the entries of these sets were softened, and are removed later."""
        if self._count:
            now = self._store.monotonic()
            self._softened += [(each, now) for each in dead]

    def are_pending(self) -> bool:
        """Return whether softened entries are still in the store, and will become stale later."""
        stored = self._store.dead
        self._softened = [
            each for each in self._softened if any(each[0] is dead for dead in stored)
        ]
        return bool(self._softened)

    def saved(self) -> Iterator[Saved]:
        """Yield every stale entry for a snapshot; nothing may change meanwhile."""
        now = self._store.monotonic()
        for entry in self._stale.entries(now):
            if self._store.find(entry.key) is None:
                yield _saved(entry, entry.expires - now)
        for dead, when in self._softened:
            for entry in chain.from_iterable(part.values() for part in parts(dead)):
                left = when + self.of(entry) - now
                stored = self._store.find(entry.key) is entry
                if left > 0 and stored and self._stale_since(entry) == when:
                    yield _saved(entry, left)


def _saved(entry: Entry, left: float) -> Saved:
    """Return an expired entry that stays stale for ``left`` more seconds."""
    return Saved(entry.key, entry.value, entry.tags, 0.0, 0.0, grace=left)
