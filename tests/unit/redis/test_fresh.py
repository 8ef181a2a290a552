"""Look-ups that take leases, and fills: what they return, whom they wake, what they count."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest
from twisted.internet.task import Clock

from tagcache.errors import BackendUnavailable, KeyTooLong, ValueTooLarge
from tagcache.model.activity import Activity
from tagcache.model.fetched import HIT, LEASE, STALE, WAIT, Fetched, FreshCounts
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tagcache.redis import fresh, scripts
from tagcache.redis.cache import RedisCache
from tagcache.redis.partitions import Partitions
from tests.unit.redis.scripted import ScriptedPipeline, outcome

KEYS = (b"a", b"b", b"c", b"d")
GONE = BackendUnavailable("no connection")


class World:
    """Leases over a pipeline that a test answers; tokens are 1, 2, 3 ..."""

    def __init__(self, limits: Limits | None = None, partitions: int = 1) -> None:
        self.is_heard = True
        self.pipeline = ScriptedPipeline()
        tokens = count(1)
        there = Partitions([self.pipeline], "p:", partitions)  # type: ignore[list-item]
        self.root, self.roots = there.root, there.roots
        self.cache = RedisCache(
            there,
            limits or Limits(),
            Activity(Random(1)),
            Clock().seconds,
            None,
            lambda: next(tokens),
            lambda: self.is_heard,
        )
        self.fresh = self.cache.fresh
        self.ended: list[bytes] = []
        self.fresh.on_end = self.ended.append
        self.answer = self.pipeline.answer


def test_what_a_look_up_finds() -> None:
    world = World()
    for number, (answer, expected) in enumerate(
        (
            # The first hit is a sample.
            ([b"v", [b"t"]], Fetched(HIT, b"v")),
            (b"v", Fetched(HIT, b"v")),
            ([0, None, []], Fetched(LEASE, None, 3)),
            ([7, None, []], Fetched(WAIT, None, None, 7)),
            ([0, b"old", [b"t"]], Fetched(STALE, b"old", 5, 0, (b"t",))),
            ([7, b"old", [b"t"]], Fetched(STALE, b"old", None, 7, (b"t",))),
        ),
        1,
    ):
        found = outcome(world.fresh.fetch(b"k", 5000))
        more = b"1" if number == 1 else b""
        asked = world.answer(scripts.FETCH, answer)
        assert asked == (b"k", more, number, 5000, 16_384)
        assert found == [expected]
    assert (world.cache.hits, world.cache.misses) == (2, 4)
    assert world.cache.activity(b"t").stale_served == 2
    assert world.fresh.counts() == FreshCounts(leases_granted=2, stale_served=2)


def test_what_a_fill_and_a_release_count() -> None:
    world = World(Limits(default_ttl_ms=60_000))
    for answer, stored in ((1, True), (0, False)):
        done = outcome(world.fresh.fill(9, b"k", b"v", StoreOptions([b"t", b"t"], None, 7)))
        assert world.answer(scripts.FILL, answer) == (b"k", 9, b"v", 60_000, 7, b"t")
        assert done == [stored]
        done = outcome(world.fresh.release(9, b"k"))
        assert world.answer(scripts.RELEASE, answer) == (b"k", 9)
        assert done == [stored]
    assert world.cache.puts == 1
    assert world.cache.activity(b"t").refused == 1
    assert world.fresh.counts() == FreshCounts(fills=1, fills_refused=1, leases_released=1)


def test_what_exceeds_a_limit_or_fails_counts_nothing() -> None:
    world = World(Limits(max_key_length=1, max_value_length=1))
    with pytest.raises(KeyTooLong):
        world.fresh.fetch(b"key", 1)
    with pytest.raises(ValueTooLarge):
        world.fresh.fill(1, b"k", b"value", StoreOptions())
    assert world.pipeline.waiting == []
    found = outcome(world.fresh.fetch(b"k", 1))
    world.answer(scripts.FETCH, GONE)
    assert found == [GONE]
    assert world.fresh.counts() == FreshCounts()


def test_who_waits_is_told_once_of_the_end() -> None:
    world = World()
    outcome(world.fresh.fetch(b"k", 1))
    world.answer(scripts.FETCH, [7, None, []])
    world.fresh.all_ended()
    assert world.ended == [b"k"]
    world.fresh.all_ended()
    assert world.ended == [b"k"]
    # Another lease of the same key.
    outcome(world.fresh.fetch(b"k", 1))
    world.answer(scripts.FETCH, [7, None, []])
    world.fresh.ended(b"k")
    assert world.ended == [b"k", b"k"]


def test_an_end_that_is_heard_before_the_answer_is_not_missed() -> None:
    world = World()
    found = outcome(world.fresh.fetch(b"k", 1))
    other = outcome(world.fresh.fetch(b"k", 1))
    world.fresh.ended(b"k")
    world.answer(scripts.FETCH, [7, None, []])
    world.answer(scripts.FETCH, [7, None, []])
    assert (found, other) == ([], [])
    # Both ask again, once each.
    world.answer(scripts.FETCH, b"v")
    world.answer(scripts.FETCH, [7, None, []])
    assert (found, other) == ([Fetched(HIT, b"v")], [Fetched(WAIT, None, None, 7)])
    assert world.pipeline.waiting == []
    assert not world.fresh._asking
    assert not world.fresh._ended


def test_the_leases_of_a_partition_end_together() -> None:
    world = World(partitions=2)
    here, there = (next(k for k in KEYS if world.root(k) == root) for root in world.roots)
    for key in (here, there):
        world.fresh.fetch(key, 1)
        world.answer(scripts.FETCH, [7, None, []])
    found = outcome(world.fresh.fetch(here, 1))
    world.fresh.ended_in(world.root(here))
    assert set(world.ended) == {here}
    # This one was granted before.
    world.answer(scripts.FETCH, [7, None, []])
    world.answer(scripts.FETCH, [0, None, []])
    assert found[0].found is LEASE
    world.fresh.all_ended()
    assert world.ended[-1] == there


def test_who_would_not_hear_of_the_end_asks_again_soon() -> None:
    world = World()
    world.is_heard = False
    found = outcome(world.fresh.fetch(b"k", 60_000))
    world.answer(scripts.FETCH, [50_000, None, []])
    assert found == [Fetched(WAIT, None, None, 500)]


def test_the_keys_that_are_waited_for_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "_MOST_AWAITED", 2)
    world = World()
    for key in (b"a", b"b", b"c"):
        world.fresh.fetch(key, 1)
        world.answer(scripts.FETCH, [7, None, []])
    assert world.ended == [b"a"]
