"""Leases, grace and soft invalidations in Redis against a plain model, over random histories."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import count, product
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
TTLS = st.sampled_from([None, HOUR, 1])
PAUSE = 0.004
SOME = st.sampled_from([[b"x"], [b"y"], [b"x", b"y"], [b"y", b"x"], []])
# What may happen at any time, also while a value is being computed: a method and its arguments.
INVALIDATIONS = (
    st.tuples(st.just("invalidate_any"), SOME, st.booleans()),
    st.tuples(st.just("invalidate_all"), SOME, st.booleans()),
    st.tuples(st.just("invalidate_keys"), st.lists(KEYS, max_size=2), st.booleans()),
)
CHANGES = st.one_of(
    *INVALIDATIONS,
    *INVALIDATIONS,
    st.tuples(st.just("put"), KEYS, TAGS, TTLS, GRACES),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("flush")),
    st.tuples(st.just("evict"), KEYS),
    st.tuples(st.just("release"), KEYS),
    st.tuples(st.just("present_an_old_token"), KEYS, st.integers(0, 5)),
)


@dataclass
class Kept:
    value: bytes
    tags: tuple[bytes, ...]
    grace: int = 0
    expires: bool = False


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
        # The tokens of leases that have ended, and one that never was one.
        self.past = [2**62]
        # Keys whose values Redis has evicted: they may still be counted.
        self.evicted: set[bytes] = set()

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
        self.live[key] = Kept(value, options.tags, options.grace_ms, options.asked_ms is not None)
        self.stale.pop(key, None)
        self.outdate(key)
        if options.asked_ms == 1:
            time.sleep(PAUSE)
            self.leave(key, soft=True)

    def outdate(self, key: bytes) -> None:
        if key in self.leases:
            self.leases[key].good = False

    def end_lease(self, key: bytes) -> Out:
        out = self.leases.pop(key)
        self.past.append(out.token)
        return out

    def counts(self, removed: int, entries: Collection[bytes]) -> None:
        assert len(entries) <= removed <= len(entries) + len(self.evicted)

    def invalidated(self, entries: set[bytes], old: set[bytes], soft: bool) -> None:
        for key in old if not soft else ():
            self.stale.pop(key)
        for key in entries:
            self.leave(key, soft)

    # What clients do

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
            self.past.append(token)
            time.sleep(PAUSE)

    @rule(
        key=KEYS,
        old_tags=st.one_of(st.none(), TAGS),
        changes=st.lists(CHANGES, min_size=1, max_size=2),
        upkeep=st.booleans(),
        tags=TAGS,
        ttl_ms=TTLS,
        grace_ms=GRACES,
    )
    def compute(
        self,
        key: bytes,
        old_tags: list[bytes] | None,
        changes: list[tuple[Any, ...]],
        upkeep: bool,
        tags: list[bytes],
        ttl_ms: int | None,
        grace_ms: int,
    ) -> None:
        """Take the lease of a key, let other things happen, and use it.

        ``old_tags``: those of a stale entry with this key.
        """
        self.release(key)
        if old_tags is not None:
            self.put(key, old_tags, None, HOUR)
            self.invalidate_keys([key], soft=True)
        elif key in self.live:
            self.delete(key)
        self.fetch(key, HOUR)
        token = self.leases[key].token
        for name, *arguments in changes:
            getattr(self, name)(*arguments)
        if upkeep:
            self.keep_up()
        self.fetch(key, HOUR)
        self.fill_under(token, key, tags, ttl_ms, grace_ms)
        self.fetch(key, HOUR)

    @rule(change=CHANGES)
    def change(self, change: tuple[Any, ...]) -> None:
        name, *arguments = change
        getattr(self, name)(*arguments)

    @precondition(lambda self: self.leases)
    @rule(key=KEYS, tags=TAGS, ttl_ms=TTLS, grace_ms=GRACES)
    def fill(self, key: bytes, tags: list[bytes], ttl_ms: int | None, grace_ms: int) -> None:
        if key not in self.leases:
            (key,) = self.leases
        self.fill_under(self.leases[key].token, key, tags, ttl_ms, grace_ms)

    def fill_under(
        self, token: int, key: bytes, tags: list[bytes], ttl_ms: int | None, grace_ms: int
    ) -> None:
        expected = False
        if key in self.leases and self.leases[key].token == token:
            expected = self.end_lease(key).is_good(tags) and key not in self.live
        value = b"%d" % next(self.values)
        options = StoreOptions(tags, ttl_ms, grace_ms)
        assert self.engine.fill(token, key, value, options) == expected
        if expected:
            self.store(key, value, options)

    def present_an_old_token(self, key: bytes, which: int) -> None:
        """Or that of another key."""
        others = [out.token for name, out in self.leases.items() if name != key]
        token = (self.past + others)[-1 - which % (len(self.past) + len(others))]
        assert self.engine.fill(token, key, b"wrong", StoreOptions()) is False
        assert self.engine.release(token, key) is False

    def release(self, key: bytes) -> None:
        if key not in self.leases:
            assert self.engine.release(self.past[-1], key) is False
            return
        token = self.end_lease(key).token
        assert self.engine.release(token, key) is True
        assert self.engine.release(token, key) is False

    def delete(self, key: bytes) -> None:
        assert self.engine.delete(key) == (key in self.live)
        self.invalidated({key} & set(self.live), {key} & set(self.stale), soft=False)
        self.outdate(key)

    def invalidate_any(self, tags: list[bytes], soft: bool) -> None:
        def meant(kept: dict[bytes, Kept]) -> set[bytes]:
            return {key for key, entry in kept.items() if set(tags) & set(entry.tags)}

        entries, old = meant(self.live), meant(self.stale)
        self.counts(self.engine.invalidate_any(tags, soft), entries)
        self.invalidated(entries, old, soft)
        for out in self.leases.values():
            out.outdated += [frozenset({tag}) for tag in tags]

    def invalidate_all(self, tags: list[bytes], soft: bool) -> None:
        def meant(kept: dict[bytes, Kept]) -> set[bytes]:
            return {key for key, entry in kept.items() if tags and set(tags) <= set(entry.tags)}

        entries, old = meant(self.live), meant(self.stale)
        self.counts(self.engine.invalidate_all(tags, soft), entries)
        self.invalidated(entries, old, soft)
        for out in self.leases.values():
            out.outdated += [frozenset(tags)] if tags else []

    def invalidate_keys(self, keys: list[bytes], soft: bool) -> None:
        entries, old = set(keys) & set(self.live), set(keys) & set(self.stale)
        assert self.engine.invalidate_keys(keys, soft) == len(entries)
        self.invalidated(entries, old, soft)
        for key in keys:
            self.outdate(key)

    def flush(self) -> None:
        self.counts(self.engine.flush(), self.live)
        self.live.clear()
        self.stale.clear()
        for key in list(self.leases):
            self.end_lease(key)

    # What the servers do

    def evict(self, key: bytes) -> None:
        """Redis evicts only what has a time to live; see tagcache.redis.policy."""
        if key in self.live and self.live[key].expires:
            client = self.engine.client
            names = self.engine.wait(client.keys(b"tagcache:v:{*}:*:" + key))
            self.engine.wait(client.unlink(*names))
            del self.live[key]
            self.evicted.add(key)

    @rule()
    def keep_up(self) -> None:
        self.engine.settle()
        self.engine.reclaim()
        assert self.engine.totals().items == len(self.live)
        self.evicted.clear()
        assert self.engine.fresh_counts().leases == len(self.leases)
        assert self.engine.fresh_counts().stale_items >= len(self.stale)

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
    at_once = request.cls.at_once if request.cls else request.getfixturevalue("at_once")
    monkeypatch.setattr(Partitions, "at_once", at_once)
    FreshMachine.url = empty_redis.url


ONE_CHANGE: list[tuple[Any, ...]] = [
    *(
        (name, tags, soft)
        for name in ("invalidate_any", "invalidate_all")
        for tags in ([b"x"], [b"y"], [b"x", b"y"])
        for soft in (False, True)
    ),
    *(("invalidate_keys", [key], soft) for key in (b"a", b"b") for soft in (False, True)),
    *(("put", b"a", [b"x"], ttl_ms, 0) for ttl_ms in (None, 1)),
    ("delete", b"a"),
    ("delete", b"b"),
    ("flush",),
    ("release", b"a"),
    ("present_an_old_token", b"a", 0),
]


@pytest.mark.parametrize("at_once", [1, 100])
def test_each_change_while_a_value_is_computed(at_once: int) -> None:
    machine = FreshMachine()
    try:
        machine.start(partitions=1)
        for change, old_tags, upkeep, tags in product(
            ONE_CHANGE, [None, [b"x"], [b"x", b"y"]], [False, True], [[b"x"], [b"x", b"y"]]
        ):
            machine.compute(b"a", old_tags, [change], upkeep, tags, HOUR, HOUR)
            machine.the_model_is_right()
    finally:
        machine.teardown()


OPTIONS: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "stateful_step_count": 30,
}


@pytest.mark.slow
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
