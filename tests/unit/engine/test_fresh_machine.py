"""Leases, grace and soft invalidations against a plain model, over random histories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.task import Clock

from tagcache.engine import consistency, freshness, invalidation, leases, selection, tags
from tagcache.engine.memory import MemoryCache
from tagcache.model.fetched import Found
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tests.helpers import done

KEYS = st.sampled_from([b"a", b"b", b"c"])
TAGS = st.lists(st.sampled_from([b"x", b"y", b"z"]), max_size=3, unique=True)
TTLS = st.sampled_from([None, 1000, 60_000])
GRACES = st.sampled_from([0, 0, 5000, 3_600_000])
NEVER = float("inf")


@dataclass
class Kept:
    value: bytes
    tags: tuple[bytes, ...]
    until: float
    grace: float = 0.0


@dataclass
class Out:
    token: int
    ends: float
    good: bool = True
    outdated: set[bytes] = field(default_factory=set)


class FreshMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.advance(500)
        self.tokens = count(1)
        self.values = count(1)
        self.max_memory = 0
        self.live: dict[bytes, Kept] = {}
        self.stale: dict[bytes, Kept] = {}
        self.leases: dict[bytes, Out] = {}
        self.reclaiming: Iterator[None] = iter(())
        self.start(0)

    @initialize(max_memory=st.sampled_from([0, 0, 1100]))
    def start(self, max_memory: int) -> None:
        self.max_memory = max_memory
        self.cache = MemoryCache(
            Limits(max_memory=max_memory),
            monotonic=self.clock.seconds,
            wall=self.clock.seconds,
            random_bits=lambda bits: next(self.tokens),
        )

    # The model

    def pass_a_moment(self) -> None:
        """No two stores happen at one time; what is over becomes stale, or is gone."""
        self.clock.advance(0.000_001)
        now = self.clock.seconds()
        for key, entry in list(self.live.items()):
            if entry.until <= now:
                self.leave(key, entry.until)
        self.stale = {key: old for key, old in self.stale.items() if old.until > now}
        self.leases = {key: out for key, out in self.leases.items() if out.ends > now}

    def leave(self, key: bytes, since: float | None) -> None:
        """An entry is removed; since when it is stale, or None."""
        entry = self.live.pop(key)
        self.stale.pop(key, None)
        if since is not None and entry.grace:
            self.stale[key] = replace(entry, until=since + entry.grace)
        if key in self.leases:
            self.leases[key].good = False

    def note_evictions(self) -> None:
        for key in [key for key in self.live if self.cache.peek(key) is None]:
            assert self.max_memory
            self.leave(key, None)

    def store(self, key: bytes, value: bytes, options: StoreOptions) -> None:
        ttl = options.asked_ms
        until = NEVER if ttl is None else self.clock.seconds() + ttl / 1000
        self.live[key] = Kept(value, tuple(options.tags), until, options.grace_ms / 1000)
        self.stale.pop(key, None)
        if key in self.leases:
            self.leases[key].good = False
        self.note_evictions()

    # What clients do

    @rule(key=KEYS, tags=TAGS, ttl_ms=TTLS, grace_ms=GRACES)
    def put(self, key: bytes, tags: list[bytes], ttl_ms: int | None, grace_ms: int) -> None:
        self.pass_a_moment()
        value = b"%d" % next(self.values)
        options = StoreOptions(tags, ttl_ms, grace_ms)
        self.cache.put_with(key, value, options)
        self.store(key, value, options)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        self.pass_a_moment()
        assert self.cache.get(key) == (self.live[key].value if key in self.live else None)

    @rule(key=KEYS, lease_ms=st.sampled_from([10, 2000, 60_000]))
    def fetch(self, key: bytes, lease_ms: int) -> None:
        self.pass_a_moment()
        now = self.clock.seconds()
        found, value, token, left_ms, carried = self.cache.fetch(key, lease_ms)
        if key in self.live:
            assert (found, value, token) == (Found.HIT, self.live[key].value, None)
            return
        out = self.leases.get(key)
        if found is Found.STALE:
            assert (value, carried) == (self.stale[key].value, self.stale[key].tags)
        else:
            assert value is None
            assert key not in self.stale or self.max_memory
            assert found is (Found.WAIT if out else Found.LEASE)
        assert (token is None) == (out is not None)
        if out is None:
            assert token is not None
            self.leases[key] = Out(token, now + lease_ms / 1000)
        else:
            assert 0 < left_ms <= (out.ends - now) * 1000 + 1

    @rule(
        key=KEYS,
        tags=TAGS,
        ttl_ms=TTLS,
        grace_ms=GRACES,
        right=st.sampled_from([True] * 4 + [False]),
    )
    def fill(
        self, key: bytes, tags: list[bytes], ttl_ms: int | None, grace_ms: int, right: bool
    ) -> None:
        self.pass_a_moment()
        out = self.leases.get(key)
        token = out.token if out and right else 2**62
        value = b"%d" % next(self.values)
        options = StoreOptions(tags, ttl_ms, grace_ms)
        expected = bool(out and right and out.good and not out.outdated & set(tags))
        expected = expected and key not in self.live
        assert self.cache.fill(token, key, value, options) == expected
        if out and right:
            del self.leases[key]
        if expected:
            self.store(key, value, options)

    @rule(key=KEYS, right=st.booleans())
    def release(self, key: bytes, right: bool) -> None:
        self.pass_a_moment()
        out = self.leases.get(key)
        there = bool(out and right)
        assert self.cache.release(out.token if out and right else 2**62, key) == there
        if there:
            del self.leases[key]

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        self.pass_a_moment()
        assert self.cache.delete(key) == (key in self.live)
        self.invalidated({key} & set(self.live), {key} & set(self.stale), soft=False)
        if key in self.leases:
            self.leases[key].good = False

    def invalidated(self, entries: set[bytes], old: set[bytes], soft: bool) -> None:
        for key in old if not soft else ():
            self.stale.pop(key)
        for key in entries:
            self.leave(key, self.clock.seconds() if soft else None)

    @rule(tags=TAGS, soft=st.booleans())
    def invalidate_any(self, tags: list[bytes], soft: bool) -> None:
        self.pass_a_moment()

        def meant(kept: dict[bytes, Kept]) -> set[bytes]:
            return {key for key, entry in kept.items() if set(tags) & set(entry.tags)}

        entries, old = meant(self.live), meant(self.stale)
        assert done(self.cache.invalidate_any(tags, soft)) == len(entries)
        self.invalidated(entries, old, soft)
        for out in self.leases.values():
            out.outdated |= set(tags)

    @rule(tags=TAGS, soft=st.booleans())
    def invalidate_all(self, tags: list[bytes], soft: bool) -> None:
        self.pass_a_moment()

        def meant(kept: dict[bytes, Kept]) -> set[bytes]:
            return {key for key, entry in kept.items() if tags and set(tags) <= set(entry.tags)}

        entries, old = meant(self.live), meant(self.stale)
        if tags:
            rarest = min(tags, key=self.cache.store.tags.count)
            for out in self.leases.values():
                out.outdated.add(rarest)
        assert done(self.cache.invalidate_all(tags, soft)) == len(entries)
        self.invalidated(entries, old, soft)

    @rule(keys=st.lists(KEYS, max_size=3), soft=st.booleans())
    def invalidate_keys(self, keys: list[bytes], soft: bool) -> None:
        self.pass_a_moment()
        entries, old = set(keys) & set(self.live), set(keys) & set(self.stale)
        assert done(self.cache.invalidate_keys(keys, soft)) == len(entries)
        self.invalidated(entries, old, soft)
        for key in set(keys) & set(self.leases):
            self.leases[key].good = False

    @rule()
    @precondition(lambda self: len(self.live) > 1 or len(self.stale) > 1)
    def flush(self) -> None:
        self.pass_a_moment()
        assert done(self.cache.flush()) == len(self.live)
        self.live.clear()
        self.stale.clear()
        self.leases.clear()

    # What the server does

    @rule(seconds=st.sampled_from([0.001, 0.5, 1, 4, 59, 3600, 10_000]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.pass_a_moment()

    @rule()
    def sweep(self) -> None:
        self.pass_a_moment()
        done(self.cache.sweep())  # type: ignore[arg-type]

    @rule(steps=st.integers(1, 4))
    def reclaim_a_little(self, steps: int) -> None:
        self.pass_a_moment()
        for _ in range(steps):
            if next(self.reclaiming, self) is self:
                self.reclaiming = self.cache.reclaim()
                break
        self.note_evictions()

    @rule()
    def restart(self) -> None:
        self.pass_a_moment()
        saved = list(self.cache.saved())
        self.start(self.max_memory)
        for entry in saved:
            self.cache.restore(entry, 0.0)
        self.leases.clear()
        self.reclaiming = iter(())
        self.note_evictions()

    @invariant()
    def the_model_is_right(self) -> None:
        now = self.clock.seconds()
        for key, entry in self.live.items():
            stored = self.cache.peek(key)
            if entry.until > now:
                assert stored is not None
                assert (stored.value, stored.tags) == (entry.value, entry.tags)
        assert len(self.cache.freshness.leases) >= len(self.leases)

    @invariant()
    def the_indexes_agree(self) -> None:
        for store in (self.cache.store, self.cache.freshness.stale.store):
            assert done(consistency.check(store)).faults == ()

    @invariant()
    def the_budget_knows_what_is_beside(self) -> None:
        before = self.cache.budget.beside
        self.cache.freshness._measure()
        assert self.cache.budget.beside == before


@pytest.fixture(autouse=True)
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the code paths for large sets even for one or two entries, and those for small ones."""
    monkeypatch.setattr(invalidation, "AT_ONCE", request.cls.at_once)
    monkeypatch.setattr(tags, "_SPLIT_AT", 2)
    monkeypatch.setattr(selection, "_SOME", 1)
    monkeypatch.setattr(selection, "_FEW", 1)
    monkeypatch.setattr(freshness, "_NAMES_AT_ONCE", 3)
    monkeypatch.setattr(leases, "_CHECKED_AT_ONCE", 1)


@pytest.mark.slow
class TestLargeSets(FreshMachine.TestCase):
    at_once = 1
    settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class TestSmallSets(FreshMachine.TestCase):
    at_once = 500
    settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


@pytest.mark.slow
class TestMoreHistories(FreshMachine.TestCase):
    at_once = 1
    settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
