"""Check that the entries, the indexes and the totals agree, while the cache is in use."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Protocol

from tagcache.engine.entry import Entries, Entry, UsedEntry
from tagcache.engine.expiry import ExpiryIndex
from tagcache.engine.store import SHARD_MASK, Store
from tagcache.engine.tags import ManyEntries, TagIndex, parts
from tagcache.model.store_options import NEVER
from tagcache.model.views import MOST_FAULTS, Consistency

# Entries that are checked in one slice; adding up their lengths is much faster.
_SOME = 64
# The lengths of up to this many tag names are added up in one step. With more tags, the sum is
# tried this many times, until no tag is added or removed meanwhile.
_NAMES_AT_ONCE = 20_000
_ATTEMPTS = 5
# The running totals of the store.
_TOTALS = ("entries", "bytes of keys and values", "bytes of keys", "tags of entries")


class View(Protocol):
    """The part of Store that a check reads; see Store. It changes nothing."""

    @property
    def shards(self) -> Sequence[Entries]: ...
    @property
    def tags(self) -> TagIndex: ...
    @property
    def expiry(self) -> ExpiryIndex: ...
    @property
    def items(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def key_size(self) -> int: ...
    @property
    def dead(self) -> Sequence[object]: ...
    @property
    def dead_left(self) -> int: ...
    def find(self, key: bytes) -> Entry | None: ...
    def is_dead(self, entry: Entry) -> bool: ...


class Recount:
    """Adds up the entries, a shard at a time, and follows changes in the shards already counted.

    The store reports each key whose entry is about to be stored or removed. The change of the
    running totals until the next report belongs to that key: if its shard has been counted, the
    change is added to the sum. So the sum can be compared with the totals at any time, although
    the cache never stops.
    """

    def __init__(self, store: View) -> None:
        self._store = store
        self._counted = [False] * len(store.shards)
        self._sums = (0, 0, 0, 0)
        self._last = self.totals()
        self._key: bytes | None = None
        self.changes = 0
        self.was_flushed = False

    def totals(self) -> tuple[int, int, int, int]:
        """Return the running totals, in the order of ``_TOTALS``."""
        store = self._store
        return store.items, store.size, store.key_size, store.tags.references

    def changing(self, key: bytes) -> None:
        """Note that the entry of this key is about to be stored or removed."""
        self._follow()
        self._key = key
        self.changes += 1

    def flushed(self) -> None:
        """Note that all entries were removed."""
        self.was_flushed = True

    def count(self, number: int) -> None:
        """Add up the entries of a shard."""
        self._follow()
        shard = self._store.shards[number]
        entries = list(shard.values())
        keys = sum(map(len, shard))
        size = keys + sum(len(entry.value) for entry in entries)
        self._add((len(shard), size, keys, sum(len(entry.tags) for entry in entries)))
        self._counted[number] = True

    def compare(self) -> Iterator[str]:
        """Yield a sentence for each total that differs."""
        self._follow()
        for name, total, counted in zip(_TOTALS, self._last, self._sums, strict=True):
            if total != counted:
                yield f"the total of {name} is {total}, a recount gives {counted}"

    def _follow(self) -> None:
        now = self.totals()
        if self._key is not None and self._counted[hash(self._key) & SHARD_MASK]:
            last = self._last
            self._add([after - before for after, before in zip(now, last, strict=True)])
        self._last = now
        self._key = None

    def _add(self, more: Sequence[int]) -> None:
        items, size, keys, references = map(sum, zip(self._sums, more, strict=True))
        self._sums = items, size, keys, references


def check(store: Store) -> Generator[None, None, Consistency]:
    """Compare entries, indexes and totals, as work; entries may come and go meanwhile."""
    while True:
        recount = Recount(store)
        found = _Faults()
        store.watchers.append(recount)
        try:
            entries = yield from _check_entries(store, recount, found)
            tags = 0 if recount.was_flushed else (yield from _check_tags(store, found))
            if not recount.was_flushed:
                yield from _check_names(store, recount, found)
            if not recount.was_flushed:
                found.add_all(recount.compare())
                found.add_all(_small_things(store))
                return Consistency(entries, tags, tuple(found.told), found.count)
        finally:
            store.watchers.remove(recount)


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


def _check_entries(store: View, recount: Recount, found: _Faults) -> Generator[None, None, int]:
    seen = 0
    for number in range(len(store.shards)):
        recount.count(number)
        yield
        keys = list(store.shards[number])
        for start in range(0, len(keys), _SOME):
            if recount.was_flushed:
                return seen
            # A shard from which much was removed is replaced by a smaller copy.
            shard = store.shards[number]
            for key in keys[start : start + _SOME]:
                entry = shard.get(key)
                if entry is not None:
                    seen += 1
                    found.add_all(_entry_faults(store, number, key, entry))
            yield
    return seen


def _entry_faults(store: View, number: int, key: bytes, entry: Entry) -> Iterator[str]:
    if entry.key != key or hash(key) & SHARD_MASK != number:
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
        if store.tags.by_key(tag).get(key) is not entry and not store.is_dead(entry):
            yield f"the entry {key!r} carries the tag {tag!r}, whose index does not have it"


def _is_between(entry: Entry, before: str, after: str) -> bool:
    """Return whether the neighbours of an entry in an order have it as their neighbour."""
    previous, following = getattr(entry, before, None), getattr(entry, after, None)
    return getattr(previous, after, None) is entry and getattr(following, before, None) is entry


def _check_tags(store: View, found: _Faults) -> Generator[None, None, int]:
    index = store.tags
    seen = 0
    for shard in index.shards:
        for tag in list(shard):
            carriers = index.carriers(tag)
            if carriers is None:
                continue
            seen += 1
            if isinstance(carriers, Entry):
                found.add_all(_carrier_faults(store, tag, carriers.key, carriers))
            else:
                if not len(carriers):
                    found.add(f"the tag {tag!r} is in the index without an entry")
                yield from _check_carriers(store, index, tag, carriers, found)
            yield
        if store.tags is not index:
            break
    return seen


def _check_carriers(
    store: View,
    index: TagIndex,
    tag: bytes,
    carriers: Entries | ManyEntries,
    found: _Faults,
) -> Iterator[None]:
    for number, part in enumerate(parts(carriers)):
        keys = list(part)
        for start in range(0, len(keys), _SOME):
            # Stop if the tag was invalidated, or its entries were split into parts.
            if store.tags is not index or index.carriers(tag) is not carriers:
                return
            # A part from which much was removed is replaced by a smaller copy.
            current = parts(carriers)[number]
            for key in keys[start : start + _SOME]:
                entry = current.get(key)
                if entry is not None:
                    found.add_all(_carrier_faults(store, tag, key, entry))
            yield


def _carrier_faults(store: View, tag: bytes, key: bytes, entry: Entry) -> Iterator[str]:
    if entry.key != key:
        yield f"the index of the tag {tag!r} has the entry {entry.key!r} as {key!r}"
    if store.find(entry.key) is not entry:
        yield f"the index of the tag {tag!r} has an entry {key!r} that is not stored"
    elif tag not in entry.tags:
        yield f"the index of the tag {tag!r} has the entry {key!r}, which does not carry it"


def _check_names(store: View, recount: Recount, found: _Faults) -> Iterator[None]:
    for _ in range(_ATTEMPTS):
        index = store.tags
        at_once = index.count_all <= _NAMES_AT_ONCE
        before = recount.changes, index.count_all, index.name_bytes
        size = 0
        for shard in index.shards:
            size += sum(map(len, shard))
            if not at_once:
                yield
        if store.tags is not index:
            return
        if before == (recount.changes, index.count_all, index.name_bytes):
            if size != index.name_bytes:
                found.add(
                    f"the total of bytes of tag names is {index.name_bytes}, a recount gives {size}"
                )
            return


def _small_things(store: View) -> Iterator[str]:
    index = store.tags
    counted = sum(map(len, index.shards))
    if counted != index.count_all:
        yield f"the total of tags is {index.count_all}, a recount gives {counted}"
    if store.dead_left < 0 or (store.dead_left and not store.dead):
        yield f"{store.dead_left} entries are said to be invalidated and still stored"
    if not store.expiry.agrees():
        yield "the moments of expiry and their buckets differ"
