"""Whether the cache agrees with itself, found out while it goes on serving."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from tagcache.engine.entry import Entry
from tagcache.engine.eviction import UsedEntry
from tagcache.engine.tags import ManyEntries, TagIndex, parts
from tagcache.model.store_options import NEVER
from tagcache.model.views import MOST_FAULTS, Consistency

if TYPE_CHECKING:
    from tagcache.engine.memory import MemoryCache

# So many entries are looked at in one go; summing them up is much faster.
_SOME = 64
# The names of so many tags are added up in one go, and else until none came or went meanwhile.
_NAMES_AT_ONCE = 20_000
_ATTEMPTS = 5
# What the cache keeps running totals of.
_TOTALS = ("entries", "bytes of keys and values", "bytes of keys", "tags of entries")


class Recount:
    """Adds up what is stored, a shard at a time, and follows what changes behind it.

    The cache tells it of each key that is about to be stored or removed. What its totals change
    until the next such moment belongs to that key, so that the sum stays comparable with the
    totals whatever happens in between.
    """

    def __init__(self, cache: MemoryCache) -> None:
        self._cache = cache
        self._counted = [False] * len(cache._shards)
        self._sums = (0, 0, 0, 0)
        self._last = self.totals()
        self._key: bytes | None = None
        self.changes = 0
        self.was_flushed = False

    def totals(self) -> tuple[int, int, int, int]:
        """Return the running totals, in the order of ``_TOTALS``."""
        cache = self._cache
        return cache._items, cache._bytes, cache._key_bytes, cache._tags.references

    def storing(self, key: bytes) -> None:
        """Note that the key is about to be stored."""
        self._follow()
        self._key = key
        self.changes += 1

    removed = storing

    def flushed(self) -> None:
        """Note that all entries are gone."""
        self.was_flushed = True

    def count(self, number: int) -> None:
        """Add up the entries of a shard."""
        self._follow()
        shard = self._cache._shards[number]
        entries = shard.values()
        keys = sum(map(len, shard))
        size = keys + sum(len(entry.value) for entry in entries)
        self._add((len(shard), size, keys, sum(len(entry.tags) for entry in entries)))
        self._counted[number] = True

    def compare(self) -> Iterator[str]:
        """Yield what the totals say otherwise."""
        self._follow()
        for name, total, counted in zip(_TOTALS, self._last, self._sums, strict=True):
            if total != counted:
                yield f"the total of {name} is {total}, a recount gives {counted}"

    def _follow(self) -> None:
        now = self.totals()
        if self._key is not None and self._counted[self._cache._shard_of(self._key)]:
            last = self._last
            self._add([after - before for after, before in zip(now, last, strict=True)])
        self._last = now
        self._key = None

    def _add(self, more: Sequence[int]) -> None:
        items, size, keys, references = map(sum, zip(self._sums, more, strict=True))
        self._sums = items, size, keys, references


def check(cache: MemoryCache) -> Generator[None, None, Consistency]:
    """Work that compares entries, indexes and totals; entries may come and go meanwhile."""
    while True:
        recount = Recount(cache)
        found = _Faults()
        cache._watchers.append(recount)
        try:
            entries = yield from _check_entries(cache, recount, found)
            tags = 0 if recount.was_flushed else (yield from _check_tags(cache, found))
            if not recount.was_flushed:
                yield from _check_names(cache, recount, found)
            if not recount.was_flushed:
                found.add_all(recount.compare())
                found.add_all(_small_things(cache))
                return Consistency(entries, tags, tuple(found.told), found.count)
        finally:
            cache._watchers.remove(recount)


class _Faults:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.count = 0

    def add(self, fault: str) -> None:
        self.count += 1
        if len(self.told) < MOST_FAULTS:
            self.told.append(fault)

    def add_all(self, faults: Iterator[str]) -> None:
        for fault in faults:
            self.add(fault)


def _check_entries(
    cache: MemoryCache, recount: Recount, found: _Faults
) -> Generator[None, None, int]:
    seen = 0
    for number, shard in enumerate(cache._shards):
        recount.count(number)
        yield
        keys = list(shard)
        for start in range(0, len(keys), _SOME):
            if recount.was_flushed:
                return seen
            for key in keys[start : start + _SOME]:
                entry = shard.get(key)
                if entry is not None:
                    seen += 1
                    found.add_all(_entry_faults(cache, number, key, entry))
            yield
    return seen


def _entry_faults(cache: MemoryCache, number: int, key: bytes, entry: Entry) -> Iterator[str]:
    if entry.key != key or cache._shard_of(key) != number:
        yield f"the entry {entry.key!r} is stored as {key!r} in shard {number}"
    if not _is_between(entry, "older", "newer"):
        yield f"the entry {key!r} is not between its neighbours in the order of storing"
    if entry.ttl != NEVER:
        if not _is_between(entry, "sooner", "later"):
            yield f"the entry {key!r} has a time to live, and does not wait for its expiry"
    elif hasattr(entry, "sooner"):
        yield f"the entry {key!r} waits for an expiry, and has no time to live"
    if isinstance(entry, UsedEntry) and not _is_between(entry, "colder", "hotter"):
        yield f"the entry {key!r} is not between its neighbours in the order of use"
    if len(set(entry.tags)) != len(entry.tags):
        yield f"the entry {key!r} carries a tag twice"
    for tag in entry.tags:
        if not cache._tags.has(tag, entry) and not cache._is_dead(entry):
            yield f"the entry {key!r} carries the tag {tag!r}, whose index does not have it"


def _is_between(entry: Entry, before: str, after: str) -> bool:
    """Say whether its neighbours in an order have it as their neighbour."""
    previous, following = getattr(entry, before, None), getattr(entry, after, None)
    return getattr(previous, after, None) is entry and getattr(following, before, None) is entry


def _check_tags(cache: MemoryCache, found: _Faults) -> Generator[None, None, int]:
    index = cache._tags
    seen = 0
    for number in range(index.shard_count):
        for tag in index.in_shard(number):
            carriers = index.carriers(tag)
            if carriers is None:
                continue
            seen += 1
            if isinstance(carriers, Entry):
                found.add_all(_carrier_faults(cache, tag, carriers.key, carriers))
            else:
                if not len(carriers):
                    found.add(f"the tag {tag!r} is in the index without an entry")
                yield from _check_carriers(cache, index, tag, carriers, found)
            yield
        if cache._tags is not index:
            break
    return seen


def _check_carriers(
    cache: MemoryCache,
    index: TagIndex,
    tag: bytes,
    carriers: dict[bytes, Entry] | ManyEntries,
    found: _Faults,
) -> Iterator[None]:
    for part in parts(carriers):
        keys = list(part)
        for start in range(0, len(keys), _SOME):
            # It may have been invalidated, or split: then its entries were all looked at.
            if cache._tags is not index or index.carriers(tag) is not carriers:
                return
            for key in keys[start : start + _SOME]:
                entry = part.get(key)
                if entry is not None:
                    found.add_all(_carrier_faults(cache, tag, key, entry))
            yield


def _carrier_faults(cache: MemoryCache, tag: bytes, key: bytes, entry: Entry) -> Iterator[str]:
    if entry.key != key:
        yield f"the index of the tag {tag!r} has the entry {entry.key!r} as {key!r}"
    if cache._find(entry.key) is not entry:
        yield f"the index of the tag {tag!r} has an entry {key!r} that is not stored"
    elif tag not in entry.tags:
        yield f"the index of the tag {tag!r} has the entry {key!r}, which does not carry it"


def _check_names(cache: MemoryCache, recount: Recount, found: _Faults) -> Iterator[None]:
    for _ in range(_ATTEMPTS):
        index = cache._tags
        at_once = index.count_all <= _NAMES_AT_ONCE
        before = recount.changes, index.count_all, index.name_bytes
        size = 0
        for number in range(index.shard_count):
            size += index.name_bytes_in_shard(number)
            if not at_once:
                yield
        if cache._tags is not index:
            return
        if before == (recount.changes, index.count_all, index.name_bytes):
            if size != index.name_bytes:
                found.add(
                    f"the total of bytes of tag names is {index.name_bytes}, a recount gives {size}"
                )
            return


def _small_things(cache: MemoryCache) -> Iterator[str]:
    index = cache._tags
    counted = sum(len(index.in_shard(number)) for number in range(index.shard_count))
    if counted != index.count_all:
        yield f"the total of tags is {index.count_all}, a recount gives {counted}"
    if cache._dead_left < 0 or (cache._dead_left and not cache._dead):
        yield f"{cache._dead_left} entries are said to be invalidated and still stored"
    if not cache._expiry.agrees():
        yield "the moments of expiry and their buckets differ"
