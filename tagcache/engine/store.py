"""The entries and all indexes of them, kept consistent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from tagcache.engine.entry import Entries, Entry, Links, StoreFields, UsedEntry
from tagcache.engine.eviction import Lru, Sieve
from tagcache.engine.expiry import ExpiryIndex
from tagcache.engine.tags import ManyEntries, TagIndex, shrink
from tagcache.model.activity import Activity
from tagcache.model.store_options import NEVER

# A growing dictionary is copied as a whole: with a million entries, that stops the server for
# 30 ms. So the entries are divided by the hash of the key among so many dictionaries that a copy
# takes less than a millisecond, up to about ten million entries.
SHARDS = 256
SHARD_MASK = SHARDS - 1


class Watcher(Protocol):
    """Sliced work that must know what changes between its slices."""

    def changing(self, key: bytes) -> None:
        """Note that the entry of this key is about to be stored or removed.

        The change may still fail for lack of memory.
        """

    def flushed(self) -> None:
        """Note that all entries were removed. Must not allocate memory."""


class Tables(NamedTuple):
    """The tables that hold the entries, for a flush."""

    items: int
    shards: list[Entries]
    end: Links
    tags: TagIndex
    expiry: ExpiryIndex
    dead: list[Entries | ManyEntries]


class Store(StoreFields):
    """The entries. ``put`` is the only way in for an entry, ``remove`` the only way out.

    An entry is in a shard, in the ring of all entries in the order of storing, in the index of
    its tags, in a bucket of the expiry index if it has a time to live, and in the order of use if
    the policy is ``lru``. ``put`` and ``remove`` change all of them together.

    Everything belongs to one thread, and each method is one step of it, so nothing is locked.
    Sliced work (invalidations, checks) watches for changes between its slices.

    A MemoryError leaves an entry as it was, neither half stored nor half removed: each method
    first allocates all memory, even for integers, and then only sets attributes and deletes.

    Attributes:
        shards: the entries by key. The list stays the same object, so others may refer to it.
        end: the end of the ring of entries in the order of storing; a flush replaces it.
        tags, expiry: the indexes; a flush replaces them.
        sieve, lru: the eviction policies; ``lru`` is None if SIEVE decides.
        items, size, key_size: the number of entries, and the lengths of their keys and values,
            and of their keys alone.
        dead: sets of entries that were invalidated but are still stored; no client sees them.
            The newest comes first; the list stays the same object.
        dead_left: how many such entries there are.
        expirations: how many entries were removed because they had expired.
        watchers: are notified of every change.
        leaving: called, if set, with each entry that is about to be removed. The entry stays if
            it raises a MemoryError.
    """

    def __init__(self, monotonic: Callable[[], float], activity: Activity, lru: bool) -> None:
        self.monotonic = monotonic
        self.shards: list[Entries] = [Entries() for _ in range(SHARDS)]
        self.dead: list[Entries | ManyEntries] = []
        self.dead_left = 0
        self.expirations = 0
        self.watchers: list[Watcher] = []
        self.leaving: Callable[[Entry], None] | None = None
        self.lru = Lru() if lru else None
        self.end = _ring()
        self.sieve = Sieve(self.end)
        self.tags = TagIndex()
        self.expiry = ExpiryIndex()
        self.items = self.size = self.key_size = 0
        self._activity = activity

    def find(self, key: bytes) -> Entry | None:
        """Return the entry that is stored for ``key``, live or not."""
        return self.shards[hash(key) & SHARD_MASK].get(key)

    def find_valid(self, key: bytes) -> Entry | None:
        """Return the entry that is stored for ``key``, unless it was invalidated."""
        entry = self.shards[hash(key) & SHARD_MASK].get(key)
        return None if entry is not None and self.dead and self.is_dead(entry) else entry

    def is_dead(self, entry: Entry) -> bool:
        """Return whether a stored entry was invalidated."""
        return any(dead.get(entry.key) is entry for dead in self.dead)

    def is_live(self, entry: Entry, now: float) -> bool:
        """Return whether a stored entry exists: it has neither expired nor been invalidated.

        MemoryCache.get, MemoryCache.get_many and ``put`` inline this test, because a call makes a
        look-up take a fifth longer.
        """
        return entry.stored + entry.ttl > now and not (self.dead and self.is_dead(entry))

    def is_current(self, entry: Entry) -> bool:
        """Return whether an entry that was found a while ago is still stored and live."""
        return self.find(entry.key) is entry and self.is_live(entry, self.monotonic())

    def put(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], ttl: float, now: float
    ) -> Entry:
        """Store an entry as the newest, or overwrite the existing one; return it.

        ``ttl`` is in seconds from ``now``. ``tags`` must not repeat a tag.
        """
        entry = self.shards[hash(key) & SHARD_MASK].get(key)
        if (
            entry is not None
            and (entry.stored + entry.ttl <= now or self.dead)
            and not self.is_live(entry, now)
        ):
            self.remove_gone(entry)
            entry = None
        if self.watchers:
            self._announce(key)
        if self._activity.removed:
            self._activity.stored(key)
        if entry is None:
            return self._insert(key, value, tags, ttl, now)
        self._overwrite(entry, value, tags, ttl, now)
        return entry

    def _insert(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], ttl: float, now: float
    ) -> Entry:
        lru = self.lru
        entry = (Entry if lru is None else UsedEntry)(key, value, tags, now, ttl)
        items = self.items + 1
        size = self.size + len(key) + len(value)
        key_size = self.key_size + len(key)
        bucket = None if ttl == NEVER else self.expiry.bucket(now + ttl, now)
        shard = self.shards[hash(key) & SHARD_MASK]
        shard[key] = entry
        if tags:
            try:
                self.tags.add(entry, tags)
            except MemoryError:
                del shard[key]
                raise
        # Nothing below allocates memory.
        if bucket is not None:
            entry.wait_in(bucket)
        if lru is not None:
            lru.add(entry)
        entry.link_before(self.end)
        self.items = items
        self.size = size
        self.key_size = key_size
        return entry

    def _overwrite(
        self, entry: Entry, value: bytes, tags: tuple[bytes, ...], ttl: float, now: float
    ) -> None:
        size = self.size + len(value) - len(entry.value)
        bucket = None
        # A deadline that moves further away may keep its bucket: expiry will reschedule it.
        moves = entry.ttl != ttl and not (entry.ttl != NEVER and entry.expires <= now + ttl < NEVER)
        if moves and ttl != NEVER:
            bucket = self.expiry.bucket(now + ttl, now)
        if entry.tags is not tags:
            self.tags.replace(entry, tags)
        # Nothing below allocates memory.
        if moves:
            if entry.ttl != NEVER:
                entry.take_back()
            if bucket is not None:
                entry.wait_in(bucket)
        entry.ttl = ttl
        entry.stored = now
        entry.value = value
        self.size = size
        if self.lru is not None:
            self.lru.touch(entry)
        elif self.sieve.hand is entry:
            self.sieve.leave(entry)
        entry.move_before(self.end)

    def remove(self, entry: Entry) -> None:
        """Remove a stored entry. This is the only way out, for any reason."""
        key = entry.key
        if self.watchers:
            self._announce(key)
        if self.leaving is not None:
            self.leaving(entry)
        items = self.items - 1
        size = self.size - len(key) - len(entry.value)
        key_size = self.key_size - len(key)
        number = hash(key) & SHARD_MASK
        shard = self.shards[number]
        if entry.tags:
            self.tags.discard(entry, entry.tags)
        # Nothing below allocates memory.
        del shard[key]
        if entry.ttl != NEVER:
            entry.take_back()
        if self.lru is not None:
            self.lru.remove(entry)
        else:
            self.sieve.leave(entry)
        entry.unlink()
        self.items = items
        self.size = size
        self.key_size = key_size
        shrink(self.shards, number)

    def remove_gone(self, entry: Entry) -> None:
        """Remove an entry that is stored, but not live."""
        if self.dead and self.is_dead(entry):
            self.remove_dead(entry)
        else:
            expirations = self.expirations + 1
            self.remove(entry)
            self.expirations = expirations

    def remove_dead(self, entry: Entry) -> None:
        """Remove an entry that was invalidated and is still stored."""
        left = self.dead_left - 1
        self.remove(entry)
        self.dead_left = left

    def mark_dead(self, found: ManyEntries, count: int, tag: bytes | None = None) -> None:
        """Mark these entries, and those that carry ``tag``, as dead, all at once.

        ``count`` is their number, without those that are already dead.
        """
        if tag is not None and not self.tags.count(tag):
            tag = None
        some_found = len(found) > 0
        left = self.dead_left + count
        # Reserve the places with empty sets: after take_out, nothing may allocate memory.
        self.dead[:0] = [Entries()] * (some_found + (tag is not None))
        if tag is not None:
            self.dead[0] = self.tags.take_out(tag)
        if some_found:
            self.dead[0 if tag is None else 1] = found
        self.dead_left = left

    def sweep(self) -> Iterator[None]:
        """Remove entries that expired before the current tick, yielding after each."""
        now = self.monotonic()
        expiry = self.expiry
        for entry in expiry.past(now):
            if entry.expires <= now:
                self.remove_gone(entry)
            else:
                bucket = expiry.bucket(entry.expires, now)
                entry.take_back()
                entry.wait_in(bucket)
            yield
            if self.expiry is not expiry:
                return

    def settle(self) -> None:
        """Remove all expired entries, so that the totals are exact."""
        for _ in self.sweep():
            pass
        now = self.monotonic()
        for entry in self.expiry.present(now):
            if entry.expires <= now:
                self.remove_gone(entry)

    def tables(self) -> Tables:
        """Return the tables of the entries, to be dismantled after ``flush``."""
        return Tables(
            self.items, self.shards.copy(), self.end, self.tags, self.expiry, self.dead.copy()
        )

    def flush(self) -> None:
        """Start again without entries."""
        shards = [Entries() for _ in range(SHARDS)]
        end, tags, expiry = _ring(), TagIndex(), ExpiryIndex()
        watchers = iter(self.watchers)
        self.shards[:] = shards
        # Nothing below allocates memory.
        self.dead.clear()
        self.dead_left = self.items = self.size = self.key_size = 0
        self.end = self.sieve.hand = end
        self.tags = tags
        self.expiry = expiry
        if self.lru is not None:
            self.lru.clear()
        for watcher in watchers:
            watcher.flushed()

    def _announce(self, key: bytes) -> None:
        for watcher in self.watchers:
            watcher.changing(key)


def _ring() -> Links:
    """Return the end of a ring without entries."""
    end = Links()
    end.start_rings()
    return end
