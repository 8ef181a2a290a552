"""Leases, grace and soft invalidations in Redis against a plain model, over random histories."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tagcache.model.fetched import Found
from tagcache.model.store_options import StoreOptions
from tagcache.redis.partitions import Partitions
from tests.distributed.engines import Remote
from tests.distributed.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
KEYS = st.sampled_from([b"a", b"b"])
TAGS = st.lists(st.sampled_from([b"x", b"y"]), max_size=2, unique=True)
GRACES = st.sampled_from([0, 0, 3_600_000])
# Long enough never to end within a history; and as short as possible, with a pause to end for sure.
HOUR = 3_600_000
PAUSE = 0.004


@dataclass
class Kept:
    value: bytes
    tags: tuple[bytes, ...]
    grace: int = 0


@dataclass
class Out:
    token: int
    good: bool = True
    outdated: list[frozenset[bytes]] = field(default_factory=list)

    def is_good(self, tags: list[bytes]) -> bool:
        return self.good and not any(each <= set(tags) for each in self.outdated)


class FreshMachine(RuleBasedStateMachine):
    url: ClassVar[str]

    @initialize(partitions=st.sampled_from([1, 1, 3]))
    def start(self, partitions: int) -> None:
        self.engine: Any = Remote(self.url, partitions=partitions)
        self.engine.wait(self.engine.client.flushall())
        self.values = count(1)
        self.live: dict[bytes, Kept] = {}
        self.stale: dict[bytes, Kept] = {}
        self.leases: dict[bytes, Out] = {}

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            assert self.engine.check().faults == ()
            self.engine.close()

    # The model

    def leave(self, key: bytes, soft: bool) -> None:
        entry = self.live.pop(key)
        self.stale.pop(key, None)
        if soft and entry.grace:
            self.stale[key] = entry

    def store(self, key: bytes, value: bytes, options: StoreOptions) -> None:
        self.live[key] = Kept(value, options.tags, options.grace_ms)
        self.stale.pop(key, None)
        self.outdate(key)
        if options.asked_ms == 1:
            time.sleep(PAUSE)
            self.leave(key, soft=True)

    def outdate(self, key: bytes) -> None:
        if key in self.leases:
            self.leases[key].good = False

    def invalidated(self, entries: set[bytes], old: set[bytes], soft: bool) -> None:
        for key in old if not soft else ():
            self.stale.pop(key)
        for key in entries:
            self.leave(key, soft)

    # What clients do

    @rule(key=KEYS, tags=TAGS, ttl_ms=st.sampled_from([None, HOUR, 1]), grace_ms=GRACES)
    def put(self, key: bytes, tags: list[bytes], ttl_ms: int | None, grace_ms: int) -> None:
        value = b"%d" % next(self.values)
        options = StoreOptions(tags, ttl_ms, grace_ms)
        self.engine.put_with(key, value, options)
        self.store(key, value, options)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.engine.get(key) == (self.live[key].value if key in self.live else None)

    @rule(key=KEYS, lease_ms=st.sampled_from([HOUR, HOUR, 1]))
    def fetch(self, key: bytes, lease_ms: int) -> None:
        found, value, token, left_ms, carried = self.engine.fetch(key, lease_ms)
        if key in self.live:
            assert (found, value, token) == (Found.HIT, self.live[key].value, None)
            return
        out = self.leases.get(key)
        if key in self.stale:
            old = self.stale[key]
            assert (found, value, carried) == (Found.STALE, old.value, old.tags)
        else:
            assert value is None
            assert found is (Found.WAIT if out else Found.LEASE)
        assert (token is None) == (out is not None)
        if out is not None:
            assert 0 < left_ms <= HOUR
        elif lease_ms == HOUR:
            assert token is not None
            self.leases[key] = Out(token)
        else:
            time.sleep(PAUSE)

    @precondition(lambda self: self.leases)
    @rule(key=KEYS, tags=TAGS, ttl_ms=st.sampled_from([None, HOUR, 1]), grace_ms=GRACES)
    def fill(self, key: bytes, tags: list[bytes], ttl_ms: int | None, grace_ms: int) -> None:
        if key not in self.leases:
            (key,) = self.leases
        out = self.leases.pop(key)
        value = b"%d" % next(self.values)
        options = StoreOptions(tags, ttl_ms, grace_ms)
        expected = out.is_good(tags) and key not in self.live
        assert self.engine.fill(out.token, key, value, options) == expected
        if expected:
            self.store(key, value, options)

    @rule(key=KEYS)
    def present_another_token(self, key: bytes) -> None:
        assert self.engine.fill(2**62, key, b"wrong", StoreOptions()) is False
        assert self.engine.release(2**62, key) is False

    @rule(key=KEYS)
    def release(self, key: bytes) -> None:
        out = self.leases.pop(key, None)
        assert self.engine.release(2**62 if out is None else out.token, key) == (out is not None)

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.engine.delete(key) == (key in self.live)
        self.invalidated({key} & set(self.live), {key} & set(self.stale), soft=False)
        self.outdate(key)

    @rule(tags=TAGS, soft=st.booleans())
    def invalidate_any(self, tags: list[bytes], soft: bool) -> None:
        def meant(kept: dict[bytes, Kept]) -> set[bytes]:
            return {key for key, entry in kept.items() if set(tags) & set(entry.tags)}

        entries, old = meant(self.live), meant(self.stale)
        assert self.engine.invalidate_any(tags, soft) == len(entries)
        self.invalidated(entries, old, soft)
        for out in self.leases.values():
            out.outdated += [frozenset({tag}) for tag in tags]

    @rule(tags=TAGS, soft=st.booleans())
    def invalidate_all(self, tags: list[bytes], soft: bool) -> None:
        def meant(kept: dict[bytes, Kept]) -> set[bytes]:
            return {key for key, entry in kept.items() if tags and set(tags) <= set(entry.tags)}

        entries, old = meant(self.live), meant(self.stale)
        assert self.engine.invalidate_all(tags, soft) == len(entries)
        self.invalidated(entries, old, soft)
        for out in self.leases.values():
            out.outdated += [frozenset(tags)] if tags else []

    @rule(keys=st.lists(KEYS, max_size=3), soft=st.booleans())
    def invalidate_keys(self, keys: list[bytes], soft: bool) -> None:
        entries, old = set(keys) & set(self.live), set(keys) & set(self.stale)
        assert self.engine.invalidate_keys(keys, soft) == len(entries)
        self.invalidated(entries, old, soft)
        for key in keys:
            self.outdate(key)

    @rule()
    def flush(self) -> None:
        assert self.engine.flush() == len(self.live)
        self.live.clear()
        self.stale.clear()
        self.leases.clear()

    # What the server does

    @rule()
    def keep_up(self) -> None:
        self.engine.settle()
        self.engine.reclaim()
        assert self.engine.totals().items == len(self.live)
        assert self.engine.fresh_counts().leases == len(self.leases)

    @invariant()
    def the_model_is_right(self) -> None:
        if hasattr(self, "engine"):
            held = self.engine.peek_many([b"a", b"b"])
            found = {entry.key: (entry.value, entry.tags) for entry in held if entry}
            assert found == {key: (entry.value, entry.tags) for key, entry in self.live.items()}


@pytest.fixture(autouse=True)
def in_redis(
    request: pytest.FixtureRequest, empty_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use the code paths for many entries even for one or two, and those for few."""
    monkeypatch.setattr(Partitions, "at_once", request.cls.at_once)
    FreshMachine.url = empty_redis.url


OPTIONS: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "stateful_step_count": 40,
}


class TestManyEntries(FreshMachine.TestCase):
    at_once = 1
    settings = settings(max_examples=40, **OPTIONS)


class TestFewEntries(FreshMachine.TestCase):
    at_once = 100
    settings = settings(max_examples=25, **OPTIONS)


@pytest.mark.slow
class TestMoreHistories(FreshMachine.TestCase):
    at_once = 1
    settings = settings(max_examples=200, **OPTIONS)
