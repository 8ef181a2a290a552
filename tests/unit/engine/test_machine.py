"""The memory engine against a plain dictionary, over random histories."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.task import Clock

from tagcache.engine import invalidation, selection, tags
from tagcache.engine.entry import Entry
from tagcache.engine.expiry import TICKS_PER_SECOND
from tagcache.engine.memory import MemoryCache, Policy
from tagcache.errors import CommandError, OutOfMemory
from tagcache.model.limits import Limits
from tagcache.model.store_options import NEVER
from tagcache.model.views import Consistency
from tests.helpers import done, newest

KEYS = st.sampled_from([b"", b"a", b"b", b"c", b"key", b"toolong"])
TAGS = st.lists(st.sampled_from([b"", b"x", b"y", b"z", b"longtag"]), max_size=4)
VALUES = st.sampled_from([b"", b"1", b"-7", b" 12 ", b"text", b"9223372036854775807", b"x" * 21])
TTLS = st.sampled_from([None, 0, 1, 70, 1000, 10_000, 3_600_000, 2**64 - 1])
STEPS = st.sampled_from([-1, 1, 5, 2**63 - 1, -(2**63)])
LIMITS = Limits(max_key_length=5, max_value_length=20, max_tags_per_entry=3, max_tag_length=4)


@dataclass
class Model:
    value: bytes
    tags: tuple[bytes, ...]
    ttl_ms: int | None
    deadline: float


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.advance(500)
        self.start("sieve")
        self.model: dict[bytes, Model] = {}
        self.default_ttl_ms = 0
        self.hits = self.misses = self.puts = self.invalidations = 0
        self.sweeping = iter(())
        self.reclaiming: Iterator[None] = iter(())
        self.scanning: Iterator[tuple[bytes, Entry] | None] = iter(())
        self.invalidating: list[tuple[str, list[bytes], Generator[None, None, Any]]] = []
        # For each unfinished list: the results that were valid at one of its steps.
        self.listed: dict[int, list[list[bytes]]] = {}
        self.evictions = 0
        self.checking: Generator[None, None, Consistency] = self.cache.check()

    @initialize(policy=st.sampled_from(["sieve", "lru", "noeviction"]))
    def start(self, policy: Policy) -> None:
        self.policy = policy
        self.cache = MemoryCache(
            LIMITS, monotonic=self.clock.seconds, wall=self.clock.seconds, policy=policy
        )
        self.checking = self.cache.check()

    def note_evictions(self, stored: bytes | None = None) -> None:
        """Absent entries must be the evicted ones, and no others may be absent."""
        gone = [key for key in self.live() if self.cache.peek(key) is None]
        for key in gone:
            del self.model[key]
        assert stored not in gone
        evictions = self.cache.counters().evictions
        assert len(gone) == evictions - self.evictions
        assert not gone or (self.policy != "noeviction" and self.cache.limits.max_memory)
        self.evictions = evictions

    def refused(self, error: CommandError, key: bytes, value: bytes, tags: list[bytes]) -> None:
        """A refused store exceeds a limit for entries, or the memory limit."""
        if isinstance(error, OutOfMemory):
            most = self.cache.limits.max_memory
            cost = 310 + len(key) + len(value) + 200 * len(tags)
            assert most
            assert self.policy == "noeviction" or cost > most
            assert self.cache.memory + cost > most
        else:
            assert not self.fits(key, value, tags)

    def live(self) -> dict[bytes, Model]:
        now = self.clock.seconds()
        return {key: entry for key, entry in self.model.items() if entry.deadline > now}

    def fits(self, key: bytes, value: bytes, tags: list[bytes]) -> bool:
        distinct = dict.fromkeys(tags)
        return (
            len(key) <= 5
            and len(value) <= 20
            and len(distinct) <= 3
            and all(len(tag) <= 4 for tag in distinct)
        )

    def store(self, key: bytes, value: bytes, tags: list[bytes], ttl_ms: int | None) -> None:
        deadline = float("inf") if not ttl_ms else self.clock.seconds() + ttl_ms / 1000
        self.model[key] = Model(value, tuple(dict.fromkeys(tags)), ttl_ms or None, deadline)
        self.puts += 1
        self.note_evictions(key)

    def remove(self, keys: set[bytes]) -> int:
        for key in keys:
            del self.model[key]
        self.invalidations += len(keys)
        return len(keys)

    @rule(key=KEYS, value=VALUES, tags=TAGS, ttl_ms=TTLS)
    def put(self, key: bytes, value: bytes, tags: list[bytes], ttl_ms: int | None) -> None:
        effective = ttl_ms or self.default_ttl_ms or None
        try:
            assert self.cache.put(key, value, tags, ttl_ms) == effective
        except CommandError as error:
            self.refused(error, key, value, tags)
        else:
            assert self.fits(key, value, tags)
            self.store(key, value, tags, effective)

    @rule(tags=st.sampled_from([[b"x", b"y"], [b"x"], [b"y", b"z"]]), ttl_ms=TTLS)
    def put_many(self, tags: list[bytes], ttl_ms: int | None) -> None:
        """Without this rule, large invalidations rarely have entries in common."""
        for key in (b"k1", b"k2", b"k3", b"k4"):
            self.put(key, b"v", tags, ttl_ms)

    @rule(key=KEYS, value=VALUES, tags=TAGS, ttl_ms=TTLS)
    def add(self, key: bytes, value: bytes, tags: list[bytes], ttl_ms: int | None) -> None:
        absent = key not in self.live()
        try:
            assert self.cache.add(key, value, tags, ttl_ms) == absent
        except CommandError as error:
            # Invalid arguments are reported whether or not the key exists.
            assert absent or not isinstance(error, OutOfMemory)
            self.refused(error, key, value, tags)
        else:
            assert self.fits(key, value, tags)
            if absent:
                self.store(key, value, tags, ttl_ms or self.default_ttl_ms)

    @rule(key=KEYS, by=STEPS, tags=TAGS, ttl_ms=TTLS, down=st.booleans())
    def count(self, key: bytes, by: int, tags: list[bytes], ttl_ms: int | None, down: bool) -> None:
        step = -by if down else by
        old = self.live().get(key)
        result: int | None = None
        if -(2**63) <= step < 2**63:
            try:
                result = step if old is None else int(old.value) + step
            except ValueError:
                result = None
        legal = (
            result is not None
            and -(2**63) <= result < 2**63
            and self.fits(key, b"%d" % result, tags)
        )
        operation = self.cache.decrement if down else self.cache.increment
        try:
            answer = operation(key, by, tags, ttl_ms)
        except OutOfMemory as error:
            self.refused(error, key, b"%d" % (result or 0), tags or list(old.tags if old else ()))
            return
        except CommandError:
            assert not legal
            return
        assert legal
        assert answer == result
        if old is None:
            self.store(key, b"%d" % answer, tags, ttl_ms or self.default_ttl_ms)
        else:
            kept = tags or list(old.tags)
            self.store(key, b"%d" % answer, kept, ttl_ms or old.ttl_ms)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        entry = self.live().get(key)
        if entry is None:
            self.misses += 1
            assert self.cache.get(key) is None
        else:
            self.hits += 1
            assert self.cache.get(key) == entry.value

    @rule(key=KEYS, ttl_ms=TTLS)
    def touch(self, key: bytes, ttl_ms: int | None) -> None:
        old = self.live().get(key)
        try:
            assert self.cache.touch(key, ttl_ms) == (old is not None)
        except OutOfMemory as error:
            assert old is not None
            self.refused(error, key, old.value, list(old.tags))
            return
        if old is not None:
            self.store(key, old.value, list(old.tags), ttl_ms or self.default_ttl_ms)
            self.puts -= 1

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.cache.delete(key) == bool(self.remove({key} & set(self.live())))

    def meant(self, kind: str, names: list[bytes]) -> set[bytes]:
        """The keys of the entries that an invalidation would remove at this moment."""
        given = set(names)
        return {
            key
            for key, entry in self.live().items()
            if (kind in ("any", "list") and given & set(entry.tags))
            or (kind == "all" and given and given <= set(entry.tags))
            or (kind == "keys" and key in given)
            or kind == "flush"
        }

    @rule(kind=st.sampled_from(["any", "all"]), tags=TAGS)
    def invalidate(self, kind: str, tags: list[bytes]) -> None:
        self.invalidating.append((kind, tags, self.invalidation(kind, tags)))

    @rule(tag=st.sampled_from([b"x", b"y", b"z"]))
    def list_a_tag(self, tag: bytes) -> None:
        self.invalidating.append(("list", [tag], self.cache.keys_by_tag(tag)))

    @rule(keys=st.lists(KEYS, max_size=4))
    def invalidate_keys(self, keys: list[bytes]) -> None:
        self.invalidating.append(("keys", keys, self.cache.invalidate_keys(keys)))

    @rule()
    @precondition(lambda self: len(self.model) > 3)
    def flush(self) -> None:
        self.invalidating.append(("flush", [], self.cache.flush()))

    def invalidation(self, kind: str, tags: list[bytes]) -> Generator[None, None, int]:
        if kind == "all":
            return self.cache.invalidate_all(tags)
        if len(tags) == 1:
            return self.cache.invalidate_tag(tags[0])
        return self.cache.invalidate_any(tags)

    @rule(tag=st.sampled_from([b"x", b"y", b"z"]))
    def invalidate_tag_at_once(self, tag: bytes) -> None:
        """Earlier invalidations may have left entries that are not reclaimed yet."""
        meant = self.meant("any", [tag])
        assert done(self.cache.invalidate_tag(tag)) == self.remove(meant)

    @rule(which=st.integers(0, 9), steps=st.integers(1, 12))
    @precondition(lambda self: self.invalidating)
    def go_on_invalidating(self, which: int, steps: int) -> None:
        kind, names, work = job = self.invalidating[which % len(self.invalidating)]
        for _ in range(steps * 10 if kind == "list" else steps):
            meant = self.meant(kind, names)
            if kind == "list":
                self.listed.setdefault(id(work), []).append(sorted(meant))
            try:
                next(work)
            except StopIteration as end:
                # An invalidation takes effect now: exactly the entries that it covers are gone.
                # A list is put together after the moment that it shows.
                self.invalidating.remove(job)
                if kind == "list":
                    assert sorted(end.value) in self.listed.pop(id(work))
                else:
                    assert end.value == self.remove(meant)
                break

    @rule(steps=st.integers(1, 5))
    def reclaim_a_little(self, steps: int) -> None:
        for _ in range(steps):
            try:
                next(self.reclaiming)
            except StopIteration:
                self.reclaiming = self.cache.reclaim()
                break
        self.note_evictions()

    @rule()
    def reclaim_everything(self) -> None:
        for _ in self.cache.reclaim():
            pass
        self.note_evictions()
        most = self.cache.limits.max_memory
        assert self.cache.backlog == 0
        assert not most or self.policy == "noeviction" or self.cache.memory <= most

    @rule(tag=st.sampled_from([b"", b"x", b"y", b"z"]))
    def look_at_a_tag(self, tag: bytes) -> None:
        keys = {key for key, entry in self.live().items() if tag in entry.tags}
        assert set(done(self.cache.keys_by_tag(tag))) == keys
        assert {item[0] for item in self.cache.scan_any([tag]) if item} == keys

    @rule(keys=st.lists(KEYS, max_size=4))
    def get_many(self, keys: list[bytes]) -> None:
        live = self.live()
        expected = [live[key].value if key in live else None for key in keys]
        self.misses += expected.count(None)
        self.hits += len(keys) - expected.count(None)
        assert self.cache.get_many(keys) == expected

    @rule()
    def look_at_all(self) -> None:
        assert set(newest(self.cache)) == set(self.live())

    @rule(prefix=st.sampled_from([b"", b"k"]))
    def start_scanning(self, prefix: bytes) -> None:
        self.scanning = self.cache.scan(prefix)

    @rule(steps=st.integers(1, 4))
    def scan_a_little(self, steps: int) -> None:
        for item in islice(self.scanning, steps):
            assert item is None or item[0] in self.live()

    @rule(max_memory=st.sampled_from([0, 300, 700, 1500]))
    def change_memory(self, max_memory: int) -> None:
        self.cache.limits = replace(self.cache.limits, max_memory=max_memory)

    @rule(default_ttl_ms=st.sampled_from([0, 50]))
    def change_default_ttl(self, default_ttl_ms: int) -> None:
        self.default_ttl_ms = default_ttl_ms
        self.cache.limits = replace(self.cache.limits, default_ttl_ms=default_ttl_ms)

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.07, 1, 9.99, 3600, 10**6]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(steps=st.integers(1, 3))
    def sweep_a_little(self, steps: int) -> None:
        for _ in range(steps):
            try:
                next(self.sweeping)
            except StopIteration:
                self.sweeping = self.cache.sweep()
                break

    @rule()
    def take_totals(self) -> None:
        live = self.live()
        totals = self.cache.totals()
        assert totals.items == len(live)
        tags = len({tag for entry in live.values() for tag in entry.tags})
        size = sum(len(entry.value) for entry in live.values())
        if self.cache.backlog:
            assert totals.tags >= tags
            assert totals.bytes >= size
        else:
            assert (totals.tags, totals.bytes) == (tags, size)

    @invariant()
    def counters_agree(self) -> None:
        counted = self.cache.counters()
        assert (counted.hits, counted.misses) == (self.hits, self.misses)
        assert (counted.puts, counted.invalidations) == (self.puts, self.invalidations)

    @invariant()
    def the_indexes_say_what_the_entries_say(self) -> None:
        store = self.cache.store
        entries = {key: entry for shard in store.shards for key, entry in shard.items()}
        assert all(entry.key == key for key, entry in entries.items())
        dead = {key for key, entry in entries.items() if store.is_dead(entry)}
        assert store.dead_left == len(dead)
        assert store.items == len(entries)
        assert store.size == sum(len(key) + len(e.value) for key, e in entries.items())
        by_tag: dict[bytes, set[bytes]] = {}
        for key, entry in entries.items():
            for tag in entry.tags:
                by_tag.setdefault(tag, set()).add(key)
        indexed = {tag: {e.key for e in store.tags.entries(tag)} for tag, _ in store.tags.sizes()}
        for tag in by_tag.keys() | indexed.keys():
            # A removed tag no longer holds its dead entries.
            assert by_tag.get(tag, set()) - dead <= indexed.get(tag, set()) <= by_tag[tag]
        assert all(indexed.values())
        assert store.tags.count_all == len(indexed)
        assert store.tags.references == sum(len(entry.tags) for entry in entries.values())

    @invariant()
    def the_rings_hold_every_entry_once(self) -> None:
        store = self.cache.store
        entries = {entry for shard in store.shards for entry in shard.values()}
        stored = []
        place = store.end.newer
        while place is not store.end:
            assert place.newer.older is place
            stored.append(place)
            place = place.newer
        assert sorted(map(id, entries)) == sorted(id(e) for e in stored if isinstance(e, Entry))
        times = [entry.stored for entry in stored if isinstance(entry, Entry)]
        assert times == sorted(times)
        waiting = []
        for tick, bucket in store.expiry.buckets.items():
            place = bucket.later
            while isinstance(place, Entry):
                assert tick / TICKS_PER_SECOND <= place.expires
                waiting.append(place)
                place = place.later
            assert place is bucket
        expiring = [entry for entry in entries if entry.ttl != NEVER]
        assert sorted(map(id, waiting)) == sorted(map(id, expiring))
        assert store.sieve.hand in stored or store.sieve.hand is store.end
        if store.lru is not None:
            used = []
            at = store.lru.end.hotter
            while at is not store.lru.end:
                used.append(at)
                at = at.hotter
            assert sorted(map(id, entries)) == sorted(map(id, used))

    @rule()
    def start_checking(self) -> None:
        self.checking = self.cache.check()

    @rule(steps=st.integers(1, 1000))
    def check_a_little(self, steps: int) -> None:
        """A check finds no fault, whatever happens between its steps."""
        for _ in range(steps):
            try:
                next(self.checking)
            except StopIteration as end:
                assert end.value is None or end.value.faults == ()
                self.checking = self.cache.check()
                break

    @invariant()
    def what_lives_is_there(self) -> None:
        assert self.cache.held().items >= len(self.live())
        for key, model in self.live().items():
            entry = self.cache.peek(key)
            assert entry is not None
            assert (entry.value, entry.tags) == (model.value, model.tags)
            assert entry.ttl == (model.ttl_ms / 1000 if model.ttl_ms else NEVER)


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the code paths for large sets even for one or two entries."""
    monkeypatch.setattr(invalidation, "AT_ONCE", 1)
    monkeypatch.setattr(tags, "_SPLIT_AT", 2)
    monkeypatch.setattr(selection, "_SOME", 1)
    monkeypatch.setattr(selection, "_FEW", 1)


class TestCacheMachine(CacheMachine.TestCase):
    settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.slow
class TestMoreHistories(CacheMachine.TestCase):
    settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
