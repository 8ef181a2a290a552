"""The memory engine against a plain dictionary, over random histories."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.task import Clock

from tagcache.engine.limits import Limits
from tagcache.engine.memory import MemoryCache
from tagcache.errors import CommandError

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
        self.cache = MemoryCache(LIMITS, monotonic=self.clock.seconds, wall=self.clock.seconds)
        self.model: dict[bytes, Model] = {}
        self.default_ttl_ms = 0
        self.hits = self.misses = self.puts = self.invalidations = 0
        self.sweeping = iter(())

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
        except CommandError:
            assert not self.fits(key, value, tags)
        else:
            assert self.fits(key, value, tags)
            self.store(key, value, tags, effective)

    @rule(key=KEYS, value=VALUES, tags=TAGS, ttl_ms=TTLS)
    def add(self, key: bytes, value: bytes, tags: list[bytes], ttl_ms: int | None) -> None:
        absent = key not in self.live()
        try:
            assert self.cache.add(key, value, tags, ttl_ms) == absent
        except CommandError:
            assert absent
            assert not self.fits(key, value, tags)
        else:
            if absent:
                assert self.fits(key, value, tags)
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

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.cache.delete(key) == bool(self.remove({key} & set(self.live())))

    @rule(tag=st.sampled_from([b"", b"x", b"y", b"z"]))
    def invalidate_tag(self, tag: bytes) -> None:
        keys = {key for key, entry in self.live().items() if tag in entry.tags}
        assert set(self.cache.keys_by_tag(tag)) == keys
        assert self.cache.invalidate_tag(tag) == self.remove(keys)

    @rule(tags=TAGS)
    def invalidate_any(self, tags: list[bytes]) -> None:
        keys = {key for key, entry in self.live().items() if set(tags) & set(entry.tags)}
        assert self.cache.invalidate_any(tags) == self.remove(keys)

    @rule(tags=TAGS)
    def invalidate_all(self, tags: list[bytes]) -> None:
        keys = {key for key, e in self.live().items() if tags and set(tags) <= set(e.tags)}
        assert self.cache.invalidate_all(tags) == self.remove(keys)

    @rule(keys=st.lists(KEYS, max_size=4))
    def invalidate_keys(self, keys: list[bytes]) -> None:
        assert self.cache.invalidate_keys(keys) == self.remove(set(keys) & set(self.live()))

    @rule()
    @precondition(lambda self: len(self.model) > 3)
    def flush(self) -> None:
        assert self.cache.flush() == self.remove(set(self.live()))

    @rule(default_ttl_ms=st.sampled_from([0, 50]))
    def change_default_ttl(self, default_ttl_ms: int) -> None:
        self.default_ttl_ms = default_ttl_ms
        self.cache.limits = Limits(5, 20, 3, 4, default_ttl_ms)

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
        assert totals.tags == len({tag for entry in live.values() for tag in entry.tags})
        assert totals.bytes == sum(len(key) + len(entry.value) for key, entry in live.items())

    @invariant()
    def counters_agree(self) -> None:
        counted = self.cache.counters()
        assert (counted.hits, counted.misses) == (self.hits, self.misses)
        assert (counted.puts, counted.invalidations) == (self.puts, self.invalidations)

    @invariant()
    def the_indexes_say_what_the_entries_say(self) -> None:
        entries = self.cache._entries
        by_tag: dict[bytes, set[bytes]] = {}
        for key, entry in entries.items():
            for tag in entry.tags:
                by_tag.setdefault(tag, set()).add(key)
        assert self.cache._tags._keys == by_tag
        waiting = [key for bucket in self.cache._expiry._buckets.values() for key in bucket]
        assert sorted(waiting) == sorted(k for k, e in entries.items() if e.bucket is not None)
        assert all(key in e.bucket for key, e in entries.items() if e.bucket is not None)
        assert self.cache._bytes == sum(len(key) + len(e.value) for key, e in entries.items())

    @invariant()
    def what_lives_is_there(self) -> None:
        for key, entry in self.live().items():
            stored = self.cache._entries[key]
            assert (stored.value, stored.tags, stored.ttl_ms) == (
                entry.value,
                entry.tags,
                entry.ttl_ms,
            )


CacheMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestCacheMachine = CacheMachine.TestCase
