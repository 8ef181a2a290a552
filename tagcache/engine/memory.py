"""The cache in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from heapq import heappush, heappushpop
from itertools import chain, islice
from random import Random
from typing import Literal, TypeAlias

from zope.interface import implementer

from tagcache.engine import consistency
from tagcache.engine.consistency import Recount
from tagcache.engine.entry import Entry, Links
from tagcache.engine.eviction import Lru, Sieve, UsedEntry
from tagcache.engine.expiry import ExpiryIndex
from tagcache.engine.reclaim import Garbage, Overlap, Selection
from tagcache.engine.tags import ManyEntries, TagIndex, is_sparse, parts
from tagcache.errors import (
    IntegerOverflow,
    KeyTooLong,
    NotAnInteger,
    OutOfMemory,
    TagTooLong,
    TooManyTags,
    ValueTooLarge,
)
from tagcache.model import int64
from tagcache.model.activity import Activity, TagActivity
from tagcache.model.interfaces import ICache
from tagcache.model.limits import Limits
from tagcache.model.statistics import Counters, Totals
from tagcache.model.store_options import NEVER, StoreOptions
from tagcache.model.views import Consistency, Saved
from tagcache.wire import marks

# A dictionary that grows is copied as a whole: of a million entries in one, that takes 30 ms.
_SHARDS = 256
_SHARD = _SHARDS - 1
# Sharing tag sets and TTLs is an economy: only short ones, and so many, are remembered.
_SHARED_TAGS = 8192
_SHARED_TAG_BYTES = 512
_SHARED_TTLS = 4096
# So many entries are removed in one go: it takes less than a millisecond.
_AT_ONCE = 500
# What a store may do at most, besides storing: beyond that it is left to ``reclaim``.
_MOST_EVICTIONS = 64
_MOST_RECLAIMED = 128
# Invalidations that wait to be reclaimed: each makes finding an entry a little slower.
_MOST_DEAD = 16
# Names in a list, and those of them whose activity is noted.
_NAMES_AT_ONCE = 256
_NOTED_TAGS = 64
# What an entry takes besides its key and its value, what each of its tags adds, and what a tag
# takes that few entries carry; in bytes, measured on CPython 3.11.
_ENTRY_BYTES = 285
_REFERENCE_BYTES = 44
_TAG_BYTES = 130
_SPARE_BYTES = 65536
# Creation times follow the wall clock from the monotonic one; a jump beyond this is followed.
_WALL_JUMP_SECONDS = 1.0


Policy: TypeAlias = Literal["sieve", "lru", "noeviction"]


@implementer(ICache)
class MemoryCache:
    """An ICache that holds its entries in dictionaries; one thread owns it.

    ``monotonic`` and ``wall`` return seconds; expiry and age go by the first, which never
    jumps; the second says what o'clock that was. ``on_garbage`` is called when there is
    something to reclaim.

    ``policy`` says what happens when ``limits.max_memory`` is reached: ``sieve`` or ``lru``
    evict entries, ``noeviction`` refuses to store.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        policy: Policy = "sieve",
        random: Random | None = None,
    ) -> None:
        self.policy = policy
        self._activity = Activity(random or Random())  # noqa: S311 - it only picks samples
        self.on_garbage: Callable[[], None] = _nothing
        self._monotonic = monotonic
        self._wall = wall
        self._epoch = wall() - monotonic()
        self._shared_tags: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
        self._shared_ttls: dict[float, float] = {}
        self._garbage = Garbage()
        # What is to be told of every change: invalidations under way, and checks.
        self._watchers: list[Selection | Recount] = []
        # Invalidated, and still to be removed: they do not exist for any method.
        self._dead: list[dict[bytes, Entry] | ManyEntries] = []
        self._dead_left = 0
        self._hits = 0
        self._next_sample = 1
        self._misses = 0
        self._puts = 0
        self._invalidations = 0
        self._expirations = 0
        self._evictions = 0
        self._clear()
        self._refusing = False
        # Let go of when there is no memory for what must be brought to its end.
        self._spare = bytes(_SPARE_BYTES)
        self.limits = limits or Limits()

    def _clear(self) -> None:
        self._shards: list[dict[bytes, Entry]] = [{} for _ in range(_SHARDS)]
        self._tags = TagIndex()
        self._expiry = ExpiryIndex()
        # The end of the ring of all entries, in the order of storing.
        self._end = Links()
        self._end.older = self._end.newer = self._end
        self._sieve = Sieve(self._end)
        self._lru = Lru() if self.policy == "lru" else None
        self._items = 0
        # The lengths of all keys and values, and those of the keys alone.
        self._bytes = 0
        self._key_bytes = 0

    @property
    def limits(self) -> Limits:
        """What an entry may be at most."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        # Those tag sets were checked against the old limits.
        self._shared_tags = {}
        self._look_for_room()
        if limits.max_memory and self.memory > limits.max_memory:
            self.on_garbage()

    @property
    def refusing(self) -> bool:
        """Whether nothing is to be stored, because the system gives no more memory."""
        return self._refusing

    @refusing.setter
    def refusing(self, refusing: bool) -> None:
        self._spare = b"" if refusing else bytes(_SPARE_BYTES)
        self._refusing = refusing
        self._look_for_room()

    def _look_for_room(self) -> None:
        # Storing asks for one number only; 0 is no limit.
        self._max_memory = self._limits.max_memory or int(self._refusing)

    def __len__(self) -> int:
        return self._items + self._garbage.entries

    @property
    def max_memory(self) -> int:
        """How many bytes all entries may take; 0: no limit."""
        return self._limits.max_memory

    @property
    def backlog(self) -> int:
        """How many entries were removed already and still hold memory."""
        return self._dead_left + self._garbage.entries

    @property
    def memory(self) -> int:
        """How many bytes the entries take with all that belongs to them, about."""
        tags = self._tags
        return (
            self._bytes
            + self._items * _ENTRY_BYTES
            + tags.references * _REFERENCE_BYTES
            + tags.count_all * _TAG_BYTES
            + tags.name_bytes
            + self._garbage.memory
        )

    def get(self, key: bytes, now: float | None = None) -> bytes | None:
        entry = self._shards[hash(key) & _SHARD].get(key)
        if entry is not None:
            if now is None:
                now = self._monotonic()
            if entry.stored + entry.ttl > now and not (self._dead and self._is_dead(entry)):
                entry.visited = True
                if self._lru is not None:
                    self._lru.touch(entry)
                self._hits += 1
                if self._hits >= self._next_sample:
                    self._next_sample = self._activity.sample(self._hits, entry.tags)
                return entry.value
            self._remove_gone(entry)
        self._misses += 1
        self._activity.missed(key)
        return None

    def get_many(self, keys: Collection[bytes], now: float | None = None) -> list[bytes | None]:
        if now is None:
            now = self._monotonic()
        shards = self._shards
        dead = self._dead
        values: list[bytes | None] = []
        hit: Entry | None = None
        lru = self._lru
        misses = 0
        for key in keys:
            entry = shards[hash(key) & _SHARD].get(key)
            if entry is not None:
                if entry.stored + entry.ttl > now and not (dead and self._is_dead(entry)):
                    entry.visited = True
                    if lru is not None:
                        lru.touch(entry)
                    values.append(entry.value)
                    hit = entry
                    continue
                self._remove_gone(entry)
            misses += 1
            values.append(None)
            self._activity.missed(key)
        self._hits += len(keys) - misses
        self._misses += misses
        if self._hits >= self._next_sample and hit is not None:
            self._next_sample = self._activity.sample(self._hits, hit.tags)
        return values

    def peek(self, key: bytes) -> Entry | None:
        entry = self._find(key)
        return entry if entry is not None and self._is_live(entry, self._monotonic()) else None

    def created_ms(self, entry: Entry) -> int:
        epoch = self._wall() - self._monotonic()
        if abs(epoch - self._epoch) > _WALL_JUMP_SECONDS:
            self._epoch = epoch
        return int((entry.stored + self._epoch) * 1000)

    def put(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int | None:
        return self.put_with(key, value, StoreOptions(tags, ttl_ms))

    def put_with(
        self, key: bytes, value: bytes, options: StoreOptions, now: float | None = None
    ) -> int | None:
        limits = self._limits
        if len(key) > limits.max_key_length or len(value) > limits.max_value_length:
            self._check_lengths(key, value)
        if options.checked is not limits:
            self._check(options)
        self._store(
            key, value, options.tags, options.ttl, self._monotonic() if now is None else now
        )
        return options.ttl_ms

    def add(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> bool:
        options = StoreOptions(tags, ttl_ms)
        # What is wrong is told whether or not the key is there.
        self._check_lengths(key, value)
        self._check(options)
        if self.peek(key) is not None:
            return False
        self.put_with(key, value, options)
        return True

    def increment(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int:
        self._check_range(by)
        options = StoreOptions(tags, ttl_ms)
        self._check_lengths(key, b"")
        self._check(options)
        entry = self.peek(key)
        result = by
        if entry is not None:
            stored = int64.parse(marks.number(entry.value))
            if stored is None:
                raise NotAnInteger
            result += stored
            self._check_range(result)
        value = b"%d" % result
        self._check_lengths(key, value)
        if entry is None:
            carried, ttl = options.tags, options.ttl
        else:
            carried = options.tags or entry.tags
            ttl = options.ttl if options.asked_ms else entry.ttl
        self._store(key, value, carried, ttl, self._monotonic())
        return result

    def decrement(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int:
        return self.increment(key, -by, tags, ttl_ms)

    def touch(self, key: bytes, ttl_ms: int | None = None) -> bool:
        entry = self.peek(key)
        if entry is None:
            return False
        options = StoreOptions((), ttl_ms)
        self._check(options)
        self._store(key, entry.value, entry.tags, options.ttl, self._monotonic())
        self._puts -= 1
        return True

    def delete(self, key: bytes) -> bool:
        return self._invalidate((key,)) == 1

    def invalidate_tag(self, tag: bytes) -> Generator[None, None, int]:
        return self.invalidate_any((tag,))

    def invalidate_any(self, tags: Collection[bytes]) -> Generator[None, None, int]:
        index = self._tags
        tags = list(dict.fromkeys(tags))
        if len(tags) <= _NAMES_AT_ONCE and sum(map(index.count, tags)) <= _AT_ONCE:
            by_tag = {tag: [entry.key for entry in index.entries(tag)] for tag in tags}
            return self._invalidate([key for keys in by_tag.values() for key in keys], by_tag)
        largest, most = tags[0], -1
        for number, tag in enumerate(tags):
            if (count := self._tags.count(tag)) > most:
                largest, most = tag, count
            if not number % _NAMES_AT_ONCE:
                yield
        # The largest set is taken as it is, and from the others what it does not hold.
        meant = set(tags) - {largest}
        rest = Selection(
            lambda entries: [
                entry
                for entry in entries
                if largest not in entry.tags and not meant.isdisjoint(entry.tags)
            ],
            self._find_living,
        )
        dead = Overlap(
            lambda entries: [
                entry for entry in entries if largest in entry.tags and self._is_dead(entry)
            ],
            self._find,
            lambda: self._tags.by_key(largest),
        )
        yield from self._select(rest.look_at(self._some_entries(meant)), rest, dead)
        for tag in tags[:_NOTED_TAGS]:
            self._note_invalidation(
                tag, (entry.key for entry in self._tags.entries(tag)), self._tags.count(tag)
            )
        taken = self._tags.take_out(largest)
        return self._condemn([taken, rest.found], len(taken) - len(dead.found) + len(rest.found))

    def invalidate_all(self, tags: Collection[bytes]) -> Generator[None, None, int]:
        if not tags:
            return 0
        index = self._tags
        meant = set(tags)
        smallest = min(meant, key=index.count)
        selection = Selection(
            lambda entries: [entry for entry in entries if meant.issubset(entry.tags)],
            self._find_living,
        )
        if len(meant) == 1:
            return (yield from self.invalidate_any(meant))
        if index.count(smallest) <= _AT_ONCE:
            keys = [entry.key for entry in selection.wanted(list(index.entries(smallest)))]
            return self._invalidate(keys, dict.fromkeys(meant, keys))
        yield from self._select(self._look_for_all(selection, meant), selection)
        for tag in islice(meant, _NOTED_TAGS):
            self._note_invalidation(
                tag, chain.from_iterable(selection.found.parts), len(selection.found)
            )
        return self._condemn([selection.found], len(selection.found))

    def invalidate_keys(self, keys: Collection[bytes]) -> Generator[None, None, int]:
        if len(keys) <= _AT_ONCE:
            return self._invalidate(keys)
        meant = set(keys)
        selection = Selection(
            lambda entries: [entry for entry in entries if entry.key in meant], self._find_living
        )
        yield from self._select(selection.look_at(self._find_some(keys)), selection)
        return self._condemn([selection.found], len(selection.found))

    def flush(self) -> Generator[None, None, int]:
        yield from self.sweep()
        self._settle()
        count = self._items - self._dead_left
        for watcher in self._watchers:
            watcher.flushed()
        self._shared_tags.clear()
        if self._items:
            self._garbage.add(
                self._items,
                self.memory - self._garbage.memory,
                self._shards,
                self._end,
                self._tags,
                self._expiry,
                self._dead,
            )
            self._dead, self._dead_left = [], 0
            self._clear()
            self.on_garbage()
        self._invalidations += count
        return count

    def keys_by_tag(self, tag: bytes) -> Generator[None, None, list[bytes]]:
        if self._tags.count(tag) <= _AT_ONCE:
            now = self._monotonic()
            return [entry.key for entry in self._tags.entries(tag) if self._is_live(entry, now)]
        selection = Selection(
            lambda entries: [entry for entry in entries if tag in entry.tags], self._find_living
        )
        yield from self._select(selection.look_at(self._some_entries([tag])), selection)
        keys: list[bytes] = []
        for part in selection.found.parts:
            keys += part
            part.clear()
            yield
        return keys

    def scan_any(self, tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
        earlier: list[bytes] = []
        started = self._monotonic()
        for tag in dict.fromkeys(tags):
            for entry in self._tags.entries(tag):
                carried = entry.tags if self._is_current(entry) else ()
                # What was stored since may have had another of the tags before.
                if (
                    tag in carried
                    and entry.stored <= started
                    and not any(other in carried for other in earlier)
                ):
                    yield entry.key, entry
                else:
                    yield None
            earlier.append(tag)

    def scan_all(self, tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
        if tags:
            smallest = min(tags, key=self._tags.count)
            for entry in self._tags.entries(smallest):
                if self._is_current(entry) and all(tag in entry.tags for tag in tags):
                    yield entry.key, entry
                else:
                    yield None

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, Entry] | None]:
        end = self._end
        # Entries come and go on both sides of the mark; those stored anew go to the end.
        mark = Links()
        _link(mark, end.older, end)
        try:
            while self._end is end and (place := mark.older) is not end:
                self._sieve.leave(mark)
                _unlink(mark)
                _link(mark, place.older, place)
                if (
                    isinstance(place, Entry)
                    and place.key.startswith(prefix)
                    and self._is_live(place, self._monotonic())
                ):
                    yield place.key, place
                else:
                    yield None
        finally:
            if self._end is end:
                self._sieve.leave(mark)
                _unlink(mark)

    def scan_tags(self, prefix: bytes) -> Iterator[tuple[bytes, int, int] | None]:
        for tag, _ in self._tags.sizes():
            if not tag.startswith(prefix):
                yield None
                continue
            keys = size = 0
            for entry in self._tags.entries(tag):
                if self._is_current(entry) and tag in entry.tags:
                    keys += 1
                    size += len(entry.key) + len(entry.value)
                yield None
            if keys:
                yield tag, keys, size

    def sweep(self) -> Iterator[None]:
        now = self._monotonic()
        expiry = self._expiry
        for entry in expiry.past(now):
            if entry.expires <= now:
                self._remove_gone(entry)
            else:
                expiry.take_back(entry)
                expiry.schedule(entry, entry.expires, now)
            yield
            if self._expiry is not expiry:
                return

    def reclaim(self) -> Iterator[None]:
        yield from self._bury()
        while (
            0 < self._limits.max_memory < self.memory
            and self.policy != "noeviction"
            and not self.backlog
            and self._evict(None)
        ):
            yield

    def _bury(self) -> Iterator[None]:
        """Remove what was invalidated, and let go of what was flushed, yielding after each."""
        while self._dead:
            dead = self._dead[-1]
            for part in parts(dead):
                while part:
                    key, entry = part.popitem()
                    if self._find(key) is entry:
                        self._dead_left -= 1
                        self._remove(entry)
                    yield
            if self._dead and self._dead[-1] is dead:
                self._dead.pop()
        yield from self._garbage.dismantle()

    def saved(self) -> Iterator[Saved]:
        now = self._monotonic()
        place = self._end.newer
        while place is not self._end:
            if isinstance(place, Entry) and self._is_live(place, now):
                yield Saved(place.key, place.value, place.tags, now - place.stored, place.ttl)
            place = place.newer

    def restore(self, entry: Saved, downtime: float) -> bool:
        now = self._monotonic()
        stored = now - entry.age - downtime
        if stored + entry.ttl <= now:
            return False
        self._check_lengths(entry.key, entry.value)
        tags = self._shared(entry.tags) if entry.tags else ()
        self._store(entry.key, entry.value, tags, self._shared_ttl(entry.ttl), stored)
        self._puts -= 1
        return True

    def counters(self) -> Counters:
        return Counters(
            hits=self._hits,
            misses=self._misses,
            puts=self._puts,
            invalidations=self._invalidations,
            expirations=self._expirations,
            evictions=self._evictions,
        )

    def totals(self) -> Totals:
        self._settle()
        return self.held()

    def held(self) -> Totals:
        return Totals(
            items=self._items - self._dead_left,
            tags=self._tags.count_all,
            bytes=self._bytes - self._key_bytes,
        )

    def activity(self, tag: bytes) -> TagActivity:
        return self._activity.of(tag)

    def check(self) -> Generator[None, None, Consistency]:
        return consistency.check(self)

    def top_tags(self, count: int = 20) -> Generator[None, None, list[tuple[bytes, int]]]:
        yield from self.sweep()
        self._settle()
        largest: list[tuple[int, bytes]] = []
        for tag, entries in self._tags.sizes():
            if len(largest) < count:
                heappush(largest, (entries, tag))
            elif count:
                heappushpop(largest, (entries, tag))
            yield
        return [(tag, entries) for entries, tag in sorted(largest, reverse=True)]

    @staticmethod
    def _shard_of(key: bytes) -> int:
        return hash(key) & _SHARD

    def _find(self, key: bytes) -> Entry | None:
        """Return what is stored there, be it alive or not."""
        return self._shards[hash(key) & _SHARD].get(key)

    def _some_entries(self, tags: Iterable[bytes]) -> Iterator[list[Entry]]:
        """Yield what carries these tags, some at a time, and nothing for some that none carries."""
        for tag in tags:
            yield []
            yield from self._tags.some_entries(tag)

    def _find_living(self, key: bytes) -> Entry | None:
        """Return what is stored there, unless it was invalidated."""
        entry = self._find(key)
        return None if entry is not None and self._dead and self._is_dead(entry) else entry

    def _find_some(self, keys: Iterable[bytes]) -> Iterator[list[Entry]]:
        """Yield what is stored there, some at a time, and nothing for some that are not."""
        left = iter(keys)
        while some := list(islice(left, _NAMES_AT_ONCE)):
            yield list(filter(None, map(self._find, some)))

    def _is_live(self, entry: Entry, now: float) -> bool:
        return entry.stored + entry.ttl > now and not (self._dead and self._is_dead(entry))

    def _is_current(self, entry: Entry) -> bool:
        """Say whether an entry seen a while ago is still stored, and alive."""
        return self._find(entry.key) is entry and self._is_live(entry, self._monotonic())

    def _is_dead(self, entry: Entry) -> bool:
        return any(dead.get(entry.key) is entry for dead in self._dead)

    def _settle(self) -> None:
        """Reclaim all that has expired up to now, so that the totals are exact."""
        for _ in self.sweep():
            pass
        now = self._monotonic()
        for entry in self._expiry.present(now):
            if entry.expires <= now:
                self._remove_gone(entry)

    def _check(self, options: StoreOptions) -> None:
        """Hold options against the limits. Raises TooManyTags, TagTooLong."""
        limits = self._limits
        if options.tags:
            options.tags = self._shared(options.tags)
        options.ttl_ms = options.asked_ms or limits.default_ttl_ms or None
        options.ttl = NEVER
        if options.ttl_ms is not None:
            options.ttl = self._shared_ttl(options.ttl_ms / 1000)
        options.checked = limits

    def _shared_ttl(self, ttl: float) -> float:
        """Return one shared number for equal times to live."""
        if len(self._shared_ttls) >= _SHARED_TTLS:
            self._shared_ttls.clear()
        return self._shared_ttls.setdefault(ttl, ttl)

    def _check_lengths(self, key: bytes, value: bytes) -> None:
        """Raise KeyTooLong, ValueTooLarge."""
        limits = self._limits
        if len(key) > limits.max_key_length:
            raise KeyTooLong(f"the key has {len(key)} bytes, the limit is {limits.max_key_length}")
        # A mark and its escapes do not count.
        if len(value) > limits.max_value_length < (size := marks.length(value)):
            raise ValueTooLarge(
                f"the value has {size} bytes, the limit is {limits.max_value_length}"
            )

    def _shared(self, given: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return the tags without repetition, one tuple for equal sets."""
        shared = self._shared_tags.get(given)
        if shared is not None:
            return shared
        checked = tuple(map(self._tags.name, dict.fromkeys(given)))
        limits = self._limits
        if len(checked) > limits.max_tags_per_entry:
            raise TooManyTags(f"{len(checked)} tags, the limit is {limits.max_tags_per_entry}")
        for tag in checked:
            if len(tag) > limits.max_tag_length:
                raise TagTooLong(
                    f"a tag has {len(tag)} bytes, the limit is {limits.max_tag_length}"
                )
        if sum(map(len, given)) <= _SHARED_TAG_BYTES:
            if len(self._shared_tags) >= _SHARED_TAGS + self._items // 8:
                self._shared_tags.clear()
            self._shared_tags[given] = checked
        return checked

    def _store(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], ttl: float, now: float
    ) -> None:
        if self._max_memory:
            self._check_room(key, value, tags)
        shard = self._shards[hash(key) & _SHARD]
        entry = shard.get(key)
        if entry is not None and (
            entry.stored + entry.ttl <= now or (self._dead and self._is_dead(entry))
        ):
            self._remove_gone(entry)
            entry = None
            shard = self._shards[hash(key) & _SHARD]
        if self._watchers:
            self._touch(key)
        # All that may need memory comes first, so that running out of it changes nothing.
        self._activity.stored(key)
        puts = self._puts + 1
        end = self._end
        lru = self._lru
        if entry is None:
            items = self._items + 1
            size = self._bytes + len(key) + len(value)
            key_bytes = self._key_bytes + len(key)
            if lru is None:
                entry = Entry(key, value, tags, now, ttl)
            else:
                entry = UsedEntry(key, value, tags, now, ttl)
            try:
                shard[key] = entry
                if ttl != NEVER:
                    self._expiry.schedule(entry, now + ttl, now)
                if tags:
                    self._tags.add(entry)
            except MemoryError:
                self._take_back(shard, entry)
                raise
            if lru is not None:
                lru.add(entry)
            self._items = items
            self._bytes = size
            self._key_bytes = key_bytes
        else:
            size = self._bytes + len(value) - len(entry.value)
            if entry.ttl != ttl:
                bucket = self._expiry.bucket(now + ttl, now) if ttl != NEVER else None
            if entry.tags is not tags:
                self._retag(entry, tags)
            if entry.ttl != ttl:
                self._reschedule(entry, ttl, now, bucket)
                entry.ttl = ttl
            # Else it is looked at before it expires now, which is soon enough.
            entry.stored = now
            self._bytes = size
            entry.value = value
            if lru is not None:
                lru.touch(entry)
            elif self._sieve.hand is entry:
                self._sieve.leave(entry)
            older, newer = entry.older, entry.newer
            older.newer = newer
            newer.older = older
        newest = end.older
        entry.older = newest
        entry.newer = end
        newest.newer = end.older = entry
        self._puts = puts
        if self._max_memory:
            try:
                if self.memory > self._max_memory:
                    self._make_room(entry)
            except MemoryError:
                # It is stored; what is too much goes later.
                self._spare = b""
                self.on_garbage()

    def _take_back(self, shard: dict[bytes, Entry], entry: Entry) -> None:
        """Undo the storing of a new entry for which there was no memory."""
        if shard.get(entry.key) is entry:
            del shard[entry.key]
            if hasattr(entry, "sooner"):
                self._expiry.take_back(entry)

    def _retag(self, entry: Entry, tags: tuple[bytes, ...]) -> None:
        """Give an entry other tags; a MemoryError leaves it its own."""
        old = entry.tags
        try:
            self._tags.discard(entry)
            entry.tags = tags
            self._tags.add(entry)
        except MemoryError:
            self._spare = b""
            if entry.tags is old:
                self._tags.discard(entry)  # what is left to be discarded
            entry.tags = old
            self._tags.add(entry)
            raise

    def _check_room(self, key: bytes, value: bytes, tags: tuple[bytes, ...]) -> None:
        """Raise OutOfMemory if the entry never fits, or does not without an eviction forbidden."""
        if self._refusing:
            raise OutOfMemory("the system gives the server no more memory")
        cost = len(key) + len(value) + _ENTRY_BYTES + len(tags) * _REFERENCE_BYTES
        if cost > self._max_memory:
            raise OutOfMemory(f"the entry takes {cost} bytes, the limit is {self._max_memory}")
        if self.policy != "noeviction":
            return
        more = cost
        for tag in tags:
            if not self._tags.count(tag):
                more += _TAG_BYTES + len(tag)
        old = self._find(key)
        if old is not None:
            more -= len(key) + len(old.value) + _ENTRY_BYTES + len(old.tags) * _REFERENCE_BYTES
        if more <= 0 or self.memory + more <= self._max_memory or self.backlog:
            # What is gone already is about to make room.
            return
        for _ in islice(self.sweep(), _MOST_RECLAIMED):
            pass
        if self.memory + more > self._max_memory:
            raise OutOfMemory(f"the limit is {self._max_memory} bytes")

    def _make_room(self, stored: Entry) -> None:
        """Get below the limit, as far as that is quickly done."""
        for _ in islice(self._bury(), _MOST_RECLAIMED):
            pass
        if not self.backlog:
            for _ in islice(self.sweep(), _MOST_RECLAIMED):
                pass
            for _ in range(_MOST_EVICTIONS):
                if self.memory <= self._max_memory:
                    return
                if self.policy == "noeviction" or not self._evict(stored):
                    break
        self.on_garbage()

    def _evict(self, kept: Entry | None) -> bool:
        """Remove one entry, but not ``kept``; say whether there was one."""
        entry = (self._sieve if self._lru is None else self._lru).victim(kept)
        if entry is None:
            return False
        if self._is_live(entry, self._monotonic()):
            self._evictions += 1
            self._remove(entry)
        else:
            self._remove_gone(entry)
        return True

    def _reschedule(self, entry: Entry, ttl: float, now: float, bucket: Links | None) -> None:
        """Have an entry that is overwritten looked at in time for its new TTL."""
        if entry.ttl != NEVER:
            if entry.expires <= now + ttl != NEVER:
                return
            self._expiry.take_back(entry)
        if bucket is not None:
            self._expiry.wait(entry, bucket)

    def _touch(self, key: bytes) -> None:
        for watcher in self._watchers:
            watcher.storing(key)

    def _select(self, look: Iterator[None], *selections: Selection) -> Iterator[None]:
        """Find what an invalidation means: at the end, but not before, exactly that.

        ``look``, which is begun only after what has expired is gone, finds it. Nothing that
        expired is in the selections then, nor anywhere else.
        """
        yield from self.sweep()
        while len(self._dead) >= _MOST_DEAD:
            yield from self._bury()
            yield from self.sweep()
        self._watchers += selections
        try:
            yield from look
            for selection in selections:
                selection.looking = False
                yield from selection.look_again()
            yield from self.sweep()
            while any(selection.is_behind(self._dead) for selection in selections):
                for selection in selections:
                    yield from selection.consider(self._dead)
            # From here to the end in one go: there is not much left.
            self._settle()
            for selection in selections:
                for _ in selection.look_again():
                    pass
        finally:
            for selection in selections:
                self._watchers.remove(selection)

    def _look_for_all(self, selection: Selection, tags: Collection[bytes]) -> Iterator[None]:
        many = self._tags.many_entries(tags)
        if many is None:
            smallest = min(tags, key=self._tags.count)
            yield from selection.look_at(self._tags.some_entries(smallest))
        else:
            yield from selection.look_at_common(many)

    def _condemn(self, meant: list[dict[bytes, Entry] | ManyEntries], count: int) -> int:
        """Let these ``count`` entries exist no more, at once; an entry may be in several."""
        # The oldest is the last, and is reclaimed first.
        self._dead = [*filter(len, meant), *self._dead]
        self._dead_left += count
        self._invalidations += count
        if count:
            self.on_garbage()
        return count

    def _note_invalidation(self, tag: bytes, keys: Iterable[bytes], count: int) -> None:
        if count:
            self._activity.invalidated(tag, keys, count, self._monotonic())

    def _invalidate(
        self, keys: Iterable[bytes], by_tag: Mapping[bytes, list[bytes]] | None = None
    ) -> int:
        """Remove the entries with these keys; ``by_tag`` says which go for which tag."""
        now = self._monotonic()
        count = 0
        for tag, carriers in (by_tag or {}).items():
            if carriers:
                self._activity.invalidated(tag, carriers, len(carriers), now)
        for key in keys:
            entry = self._find(key)
            if entry is None:
                continue
            if self._is_live(entry, now):
                self._remove(entry)
                count += 1
            else:
                self._remove_gone(entry)
        self._invalidations += count
        return count

    def _remove_gone(self, entry: Entry) -> None:
        """Remove an entry that is stored, but does not exist any more."""
        if self._dead and self._is_dead(entry):
            self._dead_left -= 1
        else:
            self._expirations += 1
        self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        """The one way out of the cache, whatever the reason."""
        key = entry.key
        tags = entry.tags
        try:
            for watcher in self._watchers:
                watcher.removed(key)
            items = self._items - 1
            size = self._bytes - len(key) - len(entry.value)
            key_bytes = self._key_bytes - len(key)
            shard = self._shards[hash(key) & _SHARD]
            del shard[key]
            if is_sparse(shard):
                self._shards[hash(key) & _SHARD] = dict(shard)
            if tags:
                self._tags.discard(entry)
                tags = ()
            if entry.ttl != NEVER:
                self._expiry.take_back(entry)
            if self._lru is not None:
                self._lru.remove(entry)
            else:
                self._sieve.leave(entry)
            _unlink(entry)
        except MemoryError:
            self._remove_the_rest(entry, tags)
        else:
            self._items = items
            self._bytes = size
            self._key_bytes = key_bytes

    def _remove_the_rest(self, entry: Entry, tags: tuple[bytes, ...]) -> None:
        """Remove what is left of an entry; ``tags`` is empty if it is in no tag any more."""
        self._spare = b""
        key = entry.key
        for watcher in self._watchers:
            watcher.removed(key)
        shard = self._shards[hash(key) & _SHARD]
        if shard.get(key) is entry:
            del shard[key]
        if tags:
            self._tags.discard(entry)
        if hasattr(entry, "sooner"):
            self._expiry.take_back(entry)
        if self._lru is not None:
            if hasattr(entry, "colder"):
                self._lru.remove(entry)
        else:
            self._sieve.leave(entry)
        if hasattr(entry, "older"):
            _unlink(entry)
        self._items -= 1
        self._bytes -= len(key) + len(entry.value)
        self._key_bytes -= len(key)

    @staticmethod
    def _check_range(number: int) -> None:
        if not int64.MIN <= number <= int64.MAX:
            raise IntegerOverflow


def _link(place: Links, older: Links, newer: Links) -> None:
    """Put ``place`` between two neighbours in the order of storing."""
    place.older = older
    place.newer = newer
    older.newer = newer.older = place


def _unlink(place: Links) -> None:
    """Take ``place`` out of the order of storing."""
    older, newer = place.older, place.newer
    older.newer = newer
    newer.older = older
    del place.older, place.newer


def _nothing() -> None:
    """Nobody waits for garbage."""
