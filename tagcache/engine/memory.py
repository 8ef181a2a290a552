"""The cache in this process's memory."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Generator, Iterator
from random import Random

from zope.interface import implementer

from tagcache.engine import headroom, scans
from tagcache.engine.admission import Admission
from tagcache.engine.budget import Budget, Policy
from tagcache.engine.drafting import Drafting
from tagcache.engine.entry import Entry
from tagcache.engine.freshness import Freshness
from tagcache.engine.key_scan import KeyScan
from tagcache.engine.plain import plain_requests, use_limits
from tagcache.engine.reclaim import Backlog
from tagcache.engine.store import SHARD_MASK, Store
from tagcache.engine.versions import EntryVersions
from tagcache.engine.wall_time import WallTime
from tagcache.errors import NotAnInteger
from tagcache.model import int64, stored_values
from tagcache.model.activity import Activity, TagActivity
from tagcache.model.admission import check_integer, check_lengths
from tagcache.model.drafts import Draft
from tagcache.model.interfaces import ICache
from tagcache.model.limits import Limits
from tagcache.model.statistics import Counters, Totals
from tagcache.model.store_options import StoreOptions
from tagcache.model.views import Consistency, Saved

__all__ = ["MemoryCache", "Policy"]

_TOKEN_BITS = 63


@implementer(ICache)
class MemoryCache:
    """An ICache in this process; one thread owns it.

    ``monotonic`` and ``wall`` return seconds. Expiry and age use the first, which never jumps;
    the second is the time of day. ``random`` picks the look-ups to sample; ``random_bits`` returns
    a random number of so many bits that nobody can guess.

    ``policy`` says what happens when ``limits.max_memory`` is reached: ``sieve`` or ``lru``
    evict entries, ``noeviction`` refuses to store.

    This is a facade: ``store`` holds the entries (others may only read it), and each other part
    works on it. ``budget`` keeps the memory below the limit, which other caches may share.
    ``freshness`` has the leases and the stale entries.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        policy: Policy = "sieve",
        random: Random | None = None,
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self.policy = policy
        self._monotonic = monotonic
        self._clock = WallTime(monotonic, wall)
        random = random or Random()  # noqa: S311 - it only picks samples
        self._activity = Activity(random)
        self.store = Store(monotonic, self._activity, lru=policy == "lru")
        self._backlog = Backlog(self.store)
        self._key_scan = KeyScan(self.store, random)
        self._versions = EntryVersions(self.store)
        self.budget = Budget(self.store, self._backlog, policy)
        self._use_freshness(random_bits)
        # Shortcuts for look-ups. These stay the same objects.
        self._shards = self.store.shards
        self._dead = self.store.dead
        self._lru = self.store.lru
        self._hits = 0
        # The number of the next hit whose tags are recorded, as a sample. Other hits only cost
        # comparing two integers.
        self._next_sample = 1
        self._misses = 0
        self._puts = 0
        # Memory has been checked for puts up to this number, if none of them is large.
        self._enough_for = 0
        self._limits = limits or Limits()
        self._admission = Admission(self.store, self._limits)
        self._drafting = Drafting(self, self._admission, self._versions, self._clock)
        self.plain = plain_requests(
            self.store, self._activity, self._sampled, self.put_with, self.delete
        )
        self.limits = self._limits

    def _use_freshness(self, random_bits: Callable[[int], int]) -> None:
        self.freshness = Freshness(
            self.store,
            self._backlog,
            self._activity,
            self.budget,
            self.get,
            self.put_with,
            lambda: self._limits,
            lambda: random_bits(_TOKEN_BITS) or 1,
        )
        self.fetch = self.freshness.fetch
        self.fill = self.freshness.fill
        self.release = self.freshness.release

    @property
    def limits(self) -> Limits:
        """The limits of an entry."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._short_value = min(limits.max_value_length, headroom.UNIT_BYTES)
        self._admission.renew(limits)
        if self.plain is not None:
            use_limits(self.plain, limits, self._short_value)
        self.budget.max_memory = limits.max_memory
        self._put = self.budget.put if limits.max_memory else self.store.put
        if limits.max_memory and self.budget.total > limits.max_memory:
            self._backlog.on_garbage()

    @property
    def on_garbage(self) -> Callable[[], None]:
        """Called when there is something to reclaim."""
        return self._backlog.on_garbage

    @on_garbage.setter
    def on_garbage(self, called: Callable[[], None]) -> None:
        self._backlog.on_garbage = called

    def __len__(self) -> int:
        return self.store.items + self._backlog.flushed

    @property
    def max_memory(self) -> int:
        """How many bytes all entries may take; 0: no limit."""
        return self._limits.max_memory

    @property
    def backlog(self) -> int:
        """How many entries were removed but still use memory."""
        return len(self._backlog)

    @property
    def memory(self) -> int:
        """The approximate bytes that all entries and their indexes take."""
        return self.budget.memory

    def get(self, key: bytes, now: float | None = None) -> bytes | None:
        entry = self._shards[hash(key) & SHARD_MASK].get(key)
        if entry is not None:
            if now is None:
                now = self._monotonic()
            if entry.stored + entry.ttl > now and not (self._dead and self.store.is_dead(entry)):
                entry.visited = True
                if self._lru is not None:
                    self._lru.touch(entry)
                self._hits += 1
                if self._hits >= self._next_sample:
                    self._next_sample = self._activity.sample(self._hits, entry.tags)
                return entry.value
            self.store.remove_gone(entry)
        self._misses += 1
        self._activity.missed(key)
        return None

    def _take_counts(self) -> None:
        """Add the counts of requests that the native core answered."""
        plain = self.plain
        if plain is not None:
            self._hits += plain.hits
            self._misses += plain.misses
            self._puts += plain.puts
            plain.hits = plain.misses = plain.puts = 0

    def _sampled(self, entry: Entry) -> int:
        """Record a hit of the native core; return how many hits later to record the next one."""
        self._take_counts()
        self._next_sample = self._activity.sample(self._hits, entry.tags)
        return self._next_sample - self._hits

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
            entry = shards[hash(key) & SHARD_MASK].get(key)
            if entry is not None:
                if entry.stored + entry.ttl > now and not (dead and self.store.is_dead(entry)):
                    entry.visited = True
                    if lru is not None:
                        lru.touch(entry)
                    values.append(entry.value)
                    hit = entry
                    continue
                self.store.remove_gone(entry)
            misses += 1
            values.append(None)
            self._activity.missed(key)
        self._hits += len(keys) - misses
        self._misses += misses
        if self._hits >= self._next_sample and hit is not None:
            self._next_sample = self._activity.sample(self._hits, hit.tags)
        return values

    def peek(self, key: bytes) -> Entry | None:
        entry = self.store.find(key)
        live = entry is not None and self.store.is_live(entry, self._monotonic())
        return entry if live else None

    def created_ms(self, entry: Entry) -> int:
        return int((entry.stored + self._clock.epoch) * 1000)

    def put(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int | None:
        return self.put_with(key, value, StoreOptions(tags, ttl_ms))

    def put_with(
        self, key: bytes, value: bytes, options: StoreOptions, now: float | None = None
    ) -> int | None:
        limits = self._limits
        if len(key) > limits.max_key_length or len(value) > self._short_value:
            check_lengths(limits, key, value)
            self._enough_for -= len(value) // headroom.UNIT_BYTES
        if options.checked is not limits:
            self._admission.check(options)
            self._enough_for -= len(options.tags)
        tags = options.tags
        if not tags and limits.tag_rules is not None and limits.tag_rules.fitting(key):
            tags = self._admission.tags(limits.tags_of(key))
            self._enough_for -= len(tags)
        puts = self._puts + 1
        if puts > self._enough_for:
            self._enough_for = puts + headroom.check()
        self._put(key, value, tags, options.ttl, self._monotonic() if now is None else now)
        self._puts = puts
        if options.grace_ms:
            self.freshness.give_grace(key, options.grace_ms / 1000)
        return options.ttl_ms

    def add(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> bool:
        # Refuse bad arguments even if the key exists.
        options = self.checked(key, value, tags, ttl_ms)
        if self.peek(key) is not None:
            return False
        self.put_with(key, value, options)
        return True

    def checked(
        self, key: bytes, value: bytes, tags: Collection[bytes], ttl_ms: int | None
    ) -> StoreOptions:
        """Check an entry before it is stored, and return its options.

        Raises KeyTooLong, ValueTooLarge, TooManyTags, TagTooLong.
        """
        check_lengths(self._limits, key, value)
        options = StoreOptions(tags, ttl_ms)
        self._admission.check(options)
        self._enough_for -= len(options.tags) + len(value) // headroom.UNIT_BYTES
        return options

    def increment(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int:
        check_integer(by)
        options = self.checked(key, b"", tags, ttl_ms)
        entry = self.peek(key)
        if entry is None:
            self.put_with(key, b"%d" % by, options)
            return by
        stored = int64.parse(stored_values.number(entry.value))
        if stored is None:
            raise NotAnInteger
        result = stored + by
        check_integer(result)
        value = b"%d" % result
        check_lengths(self._limits, key, value)
        ttl = options.ttl if options.asked_ms else entry.ttl
        self.put_checked(key, value, options.tags or entry.tags, ttl, self._monotonic())
        return result

    def put_checked(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], ttl: float, now: float
    ) -> None:
        """Store a checked entry; ``ttl`` is in seconds from ``now``. Raises OutOfMemory."""
        puts = self._puts + 1
        self._put(key, value, tags, ttl, now)
        self._puts = puts

    def put_back(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], ttl: float, now: float
    ) -> None:
        """Restore an entry; this does not count as a put."""
        self._put(key, value, tags, ttl, now)

    def reserve(self, count: int) -> None:
        """Make sure that there is memory for so many stores. Raises OutOfMemory."""
        puts = self._puts + count
        if puts > self._enough_for:
            self._enough_for = puts + headroom.check()

    def decrement(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int:
        return self.increment(key, -by, tags, ttl_ms)

    def touch(self, key: bytes, ttl_ms: int | None = None) -> bool:
        entry = self.peek(key)
        if entry is None:
            return False
        options = StoreOptions((), ttl_ms)
        self._admission.check(options)
        self._put(key, entry.value, entry.tags, options.ttl, self._monotonic())
        return True

    def delete(self, key: bytes) -> bool:
        return self.freshness.delete(key)

    def draft(self, keys: Collection[bytes], counts: bool = False) -> Draft:
        return self._drafting.draft(keys, counts)

    def carry_out(self, draft: Draft) -> None:
        self._drafting.carry_out(draft)

    def version(self, key: bytes) -> object:
        return self._versions.of(key)

    def invalidate_tag(self, tag: bytes, soft: bool = False) -> Generator[None, None, int]:
        return self.freshness.any_of((tag,), soft)

    def invalidate_any(
        self, tags: Collection[bytes], soft: bool = False
    ) -> Generator[None, None, int]:
        return self.freshness.any_of(tags, soft)

    def invalidate_all(
        self, tags: Collection[bytes], soft: bool = False
    ) -> Generator[None, None, int]:
        return self.freshness.all_of(tags, soft)

    def invalidate_keys(
        self, keys: Collection[bytes], soft: bool = False
    ) -> Generator[None, None, int]:
        return self.freshness.keys(keys, soft)

    def keys_by_tag(self, tag: bytes) -> Generator[None, None, list[bytes]]:
        return self.freshness.hard.keys_by_tag(tag)

    def flush(self) -> Generator[None, None, int]:
        yield from self.store.sweep()
        self.store.settle()
        self._admission.renew(self._limits)
        return self.freshness.flush(self.budget.stored)

    def scan_any(self, tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
        return scans.any_of(self.store, tags)

    def scan_all(self, tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
        return scans.all_of(self.store, tags)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, Entry] | None]:
        return scans.by_prefix(self.store, prefix)

    def scan_keys(
        self, cursor: int, count: int | None, wanted: Callable[[bytes], bool] | None
    ) -> Generator[None, None, tuple[int, list[bytes]]]:
        return self._key_scan.keys(cursor, count, wanted)

    def random_key(self) -> bytes | None:
        return self._key_scan.random_key()

    def scan_tags(self, prefix: bytes) -> Iterator[tuple[bytes, int, int] | None]:
        return scans.tags_by_prefix(self.store, prefix)

    def sweep(self) -> Iterator[None]:
        yield from self.store.sweep()
        yield from self.freshness.sweep()

    def reclaim(self) -> Iterator[None]:
        yield from self.budget.reclaim()
        yield from self.freshness.reclaim()

    def saved(self) -> Iterator[Saved]:
        yield from scans.saved(self.store, self.freshness.graces.of)
        yield from self.freshness.graces.saved()

    def restore(self, entry: Saved, downtime: float) -> bool:
        now = self._monotonic()
        stored = now - entry.age - downtime
        if stored + entry.ttl + entry.grace <= now:
            return False
        check_lengths(self._limits, entry.key, entry.value)
        tags = self._admission.tags(entry.tags) if entry.tags else ()
        if stored + entry.ttl <= now:
            until = stored + entry.ttl + entry.grace
            self.freshness.restore_stale(entry.key, entry.value, tags, until)
            return False
        self._put(entry.key, entry.value, tags, self._admission.ttl(entry.ttl), stored)
        if entry.grace:
            self.freshness.give_grace(entry.key, entry.grace)
        return True

    def counters(self) -> Counters:
        self._take_counts()
        return Counters(
            hits=self._hits,
            misses=self._misses,
            puts=self._puts,
            invalidations=self.freshness.invalidated,
            expirations=self.store.expirations,
            evictions=self.budget.evictions,
        )

    def totals(self) -> Totals:
        self.store.settle()
        return self.held()

    def held(self) -> Totals:
        store = self.store
        return Totals(
            items=store.items - store.dead_left,
            tags=store.tags.count_all,
            bytes=store.size - store.key_size,
        )

    def activity(self, tag: bytes) -> TagActivity:
        return self._activity.of(tag)

    def check(self) -> Generator[None, None, Consistency]:
        return self.freshness.check()
