"""Operations of clients: the scripts they call, their counts, and what is kept near."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from tagcache.engine.memory import MemoryCache
from tagcache.errors import (
    BackendUnavailable,
    IntegerOverflow,
    KeyTooLong,
    NotAnInteger,
    TagTooLong,
    TooManyTags,
    ValueTooLarge,
)
from tagcache.model.activity import Activity
from tagcache.model.fetched import FreshCounts
from tagcache.model.limits import Limits
from tagcache.model.statistics import Counters
from tagcache.redis import scripts
from tagcache.redis.cache import RedisCache
from tagcache.redis.caches import RedisCaches
from tagcache.redis.near import STALENESS_SECONDS, Near
from tagcache.redis.partitions import Partitions
from tests.unit.redis.scripted import ScriptedPipeline, outcome

ALL = "p:{all}:"
GONE = BackendUnavailable("no connection")
# The answer to SWEEP where nothing is left to sweep, but dead sets are.
SWEPT = [0, [3, 2, 30, 1, [], 1, 0, 0]]


class World:
    """A cache over a pipeline that a test answers."""

    def __init__(
        self, partitions: int = 1, limits: Limits | None = None, near: bool = False
    ) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.pipeline = ScriptedPipeline()
        self.partitions = Partitions([self.pipeline], "p:", partitions)  # type: ignore[list-item]
        self.roots = self.partitions.roots
        self.answer = self.pipeline.answer
        self.near: Any = None
        if near:
            store = MemoryCache(monotonic=self.clock.seconds, wall=self.clock.seconds)
            self.near = Near(store, self.clock.seconds)
            self.near.fresh_until = self.clock.seconds() + STALENESS_SECONDS
        self.cache = RedisCache(
            self.partitions,
            limits or Limits(),
            Activity(Random(1)),
            self.clock.seconds,
            self.near,
        )

    def keep(self, key: bytes, *tags: bytes) -> None:
        """Look an entry up, so that it is near."""
        self.cache.get(key)
        self.answer(scripts.GET, [b"v", b"", list(tags)])
        assert self.cache.get_near(key) == b"v"

    @property
    def counted(self) -> tuple[int, int, int, int]:
        cache = self.cache
        return cache.hits, cache.misses, cache.puts, cache.invalidations


def caches_of(cache: RedisCache) -> RedisCaches:
    """The caches of an engine with one database."""
    return RedisCaches(1, lambda _: cache, Partitions)  # type: ignore[arg-type]


def test_one_of_the_look_ups_in_flight_asks_for_tags() -> None:
    world = World()
    many = [outcome(world.cache.get(b"k")) for _ in range(3)]
    asked = [world.answer(scripts.GET, None)[1] for _ in range(3)]
    assert (many, asked) == ([[None]] * 3, [b"1", b"", b""])
    # A miss has no tags: the next one asks again.
    failed, _ = outcome(world.cache.get(b"k")), world.cache.get(b"k")
    assert world.answer(scripts.GET, GONE)[1] == b"1"
    assert failed == [GONE]
    # So does one of the next 64 if there was no answer.
    for _ in range(64):
        assert world.answer(scripts.GET, b"v")[1] == b""
        world.cache.get(b"k")
    assert world.answer(scripts.GET, [b"v", b"", [b"t"]])[1] == b"1"
    assert world.cache.activity(b"t").hits == 65


def test_a_look_up_is_a_hit_or_a_miss() -> None:
    world = World()
    found = outcome(world.cache.get(b"k"))
    # The first hit is a sample.
    assert world.answer(scripts.GET, [b"v", b"", [b"t"]]) == (b"k", b"1")
    assert found == [b"v"]
    assert world.cache.activity(b"t").hits == 1
    found = outcome(world.cache.get(b"k"))
    assert world.answer(scripts.GET, b"w") == (b"k", b"")
    assert found == [b"w"]
    found = outcome(world.cache.get(b"none"))
    world.answer(scripts.GET, None)
    assert found == [None]
    assert world.counted == (2, 1, 0, 0)
    assert world.cache.get_near(b"k") is None


def test_a_look_up_that_fails_counts_nothing() -> None:
    world = World(near=True)
    found = outcome(world.cache.get(b"k"))
    world.answer(scripts.GET, GONE)
    assert found == [GONE]
    assert sum(world.counted) == 0


def test_a_store_sends_time_to_live_grace_and_tags() -> None:
    world = World(limits=Limits(default_ttl_ms=60_000))
    done = outcome(world.cache.put(b"k", b"v"))
    assert world.answer(scripts.PUT, 1) == (b"k", b"v", b"60000", 0)
    assert done == [60_000]
    done = outcome(world.cache.put(b"k", b"v", [b"t", b"u", b"t"], 5, 17))
    assert world.answer(scripts.PUT, 1) == (b"k", b"v", b"5", 17, b"t", b"u")
    assert done == [5]
    assert world.counted == (0, 0, 2, 0)
    done = outcome(World().cache.put(b"k", b"v"))
    assert done == []


def test_add_counts_what_it_stored() -> None:
    world = World()
    for stored in (1, 0):
        done = outcome(world.cache.add(b"k", b"v", [b"t"], 5))
        assert world.answer(scripts.ADD, stored) == (b"k", b"v", b"5", b"t")
        assert done == [bool(stored)]
    assert world.cache.puts == 1


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ([b"-7"], -7),
        (b"overflow", IntegerOverflow),
        (b"not an integer", NotAnInteger),
        (b"9", ValueTooLarge),
    ],
)
def test_increments(answer: Any, result: Any) -> None:
    world = World(limits=Limits(max_value_length=8, default_ttl_ms=60_000))
    done = outcome(world.cache.increment(b"k", -3, [b"t"]))
    assert world.answer(scripts.INCR, answer) == (b"k", b"-3", b"", b"60000", 8, b"", b"t")
    assert done == [result] if isinstance(result, int) else type(done[0]) is result
    assert world.cache.puts == isinstance(result, int)


def test_a_step_of_more_than_64_bits_is_refused_here() -> None:
    world = World()
    with pytest.raises(IntegerOverflow):
        world.cache.increment(b"k", 2**63)
    assert world.pipeline.waiting == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"key", b"v", []), KeyTooLong),
        ((b"k", b"value", []), ValueTooLarge),
        ((b"k", b"v", [b"a", b"b", b"c"]), TooManyTags),
        ((b"k", b"v", [b"tag"]), TagTooLong),
    ],
)
def test_what_exceeds_a_limit_is_refused_here(
    arguments: tuple[bytes, bytes, list[bytes]], error: type[Exception]
) -> None:
    limits = Limits(max_key_length=2, max_value_length=4, max_tags_per_entry=2, max_tag_length=2)
    world = World(limits=limits)
    for store in (world.cache.put, world.cache.add):
        with pytest.raises(error):
            store(*arguments)
    assert world.pipeline.waiting == []


def test_touch_and_delete() -> None:
    world = World()
    done = outcome(world.cache.touch(b"k", 7))
    assert world.answer(scripts.TOUCH, 1) == (b"k", b"7")
    assert done == [True]
    done = outcome(world.cache.delete(b"k"))
    assert world.answer(scripts.DELETE, 1) == (b"k",)
    assert done == [True]
    assert world.cache.invalidations == 1


def test_keys_are_deleted_partition_by_partition() -> None:
    world = World(2)
    keys = [b"k%d" % number for number in range(6)]
    done = outcome(world.cache.invalidate_keys([*keys, keys[0]]))
    asked = [world.answer(scripts.DELETE, 2, root) for root in world.roots]
    assert sorted(asked[0] + asked[1]) == keys
    assert all(world.partitions.root(key) == world.roots[0] for key in asked[0])
    assert done == [4]
    assert world.cache.invalidations == 4


def test_invalidations_count_and_show_in_the_activity_of_a_single_tag() -> None:
    world = World()
    done = outcome(world.cache.invalidate_any([b"t", b"t"]))
    assert world.answer(scripts.INVALIDATE, [2, 0, [], [b"a", b"b"]])[1:] == (b"any", b"", b"t")
    assert done == [2]
    assert world.cache.activity(b"t").invalidated == 2
    assert world.cache.activity(b"t").last_invalidated == 100
    done = outcome(world.cache.invalidate_all([b"t", b"u"]))
    assert world.answer(scripts.INVALIDATE, [1, 0, [], []])[1:] == (b"all", b"", b"t", b"u")
    assert done == [1]
    # One tag is no combination, and no tag is nothing at all.
    world.cache.invalidate_all([b"t"])
    assert world.answer(scripts.INVALIDATE, [0, 0, [], []])[1:] == (b"any", b"", b"t")
    assert outcome(world.cache.invalidate_all([])) == [0]
    assert outcome(world.cache.invalidate_any([])) == [0]
    assert world.cache.invalidations == 3


def test_very_many_tags_are_invalidated_in_several_calls() -> None:
    world = World()
    done = outcome(world.cache.invalidate_any([b"%d" % number for number in range(5000)]))
    assert len(world.answer(scripts.INVALIDATE, [1, 0, [], []])) == 3 + 4000
    assert len(world.answer(scripts.INVALIDATE, [2, 0, [], []])) == 3 + 1000
    assert done == [3]


def test_a_cancelled_invalidation_is_carried_out() -> None:
    world = World(2)
    work = world.cache.invalidate_any([b"t"])
    done = outcome(work)
    work.cancel()
    assert type(done[0]) is CancelledError
    for _ in range(2):
        world.answer(scripts.INVALIDATE, [1, 7, [], []])
    assert world.cache.invalidations == 2


def test_what_was_looked_up_is_near_until_it_changes() -> None:
    world = World(near=True)
    for change, script, answer in (
        (lambda: world.cache.put(b"k", b"w"), scripts.PUT, 1),
        (lambda: world.cache.delete(b"k"), scripts.DELETE, 1),
        (lambda: world.cache.invalidate_keys([b"k"]), scripts.DELETE, 1),
        (lambda: world.cache.invalidate_any([b"u"]), scripts.INVALIDATE, [1, 0, [], []]),
        (lambda: world.cache.invalidate_all([b"t", b"u"]), scripts.INVALIDATE, [1, 0, [], []]),
        (world.cache.flush, scripts.FLUSH, 1),
        # Nobody knows what became of it.
        (lambda: world.cache.put(b"k", b"w"), scripts.PUT, GONE),
        (lambda: world.cache.invalidate_any([b"u"]), scripts.INVALIDATE, GONE),
    ):
        world.keep(b"k", b"t", b"u")
        done = outcome(change())
        assert world.cache.get_near(b"k") is None
        # What is looked up meanwhile may be old, and is not kept.
        world.cache.get(b"k")
        world.answer(scripts.GET, [b"v", b"", [b"t", b"u"]])
        assert world.cache.get_near(b"k") is None
        world.answer(script, answer)
        assert len(done) == 1
        assert world.cache.get_near(b"k") is None


def test_a_miss_is_not_kept_near_and_an_entry_expires_there_too() -> None:
    world = World(near=True)
    found = outcome(world.cache.get(b"k"))
    assert world.answer(scripts.GET, None) == (b"k", b"1")
    assert found == [None]
    world.cache.get(b"k")
    world.answer(scripts.GET, [b"v", b"500", []])
    assert world.cache.get_near(b"k") == b"v"
    world.clock.advance(0.5)
    assert world.cache.get_near(b"k") is None


def test_while_nothing_is_heard_of_changes_nothing_is_kept_near() -> None:
    world = World(near=True)
    world.near.lose()
    world.cache.get(b"k")
    world.answer(scripts.GET, [b"v", b"", []])
    world.near.fresh_until = world.clock.seconds() + STALENESS_SECONDS
    assert world.cache.get_near(b"k") is None


def test_a_flush_counts_what_cannot_be_told_first() -> None:
    world = World()
    world.pipeline.replies = {"sweep": SWEPT, "purge_set": [0, 0]}
    done = outcome(world.cache.flush())
    assert world.answer(scripts.FLUSH, -1) == (b"",)
    assert world.answer(scripts.FLUSH, 12) == (b"",)
    assert done == [12]
    assert world.cache.invalidations == 12


def test_a_flush_gives_up_counting_in_the_end() -> None:
    world = World()
    world.pipeline.replies = {"sweep": SWEPT, "purge_set": [0, 0]}
    done = outcome(world.cache.flush())
    for _ in range(1000):
        assert world.answer(scripts.FLUSH, -1) == (b"",)
    assert world.answer(scripts.FLUSH, 12) == (b"now",)
    assert done == [12]


def test_memory_is_reclaimed_partition_by_partition() -> None:
    world = World(2)
    done = outcome(world.cache.reclaim())
    first, second = world.roots
    assert world.answer(scripts.RECLAIM, 1, first) == (100,)
    world.answer(scripts.RECLAIM, 0, first)
    world.answer(scripts.RECLAIM, 0, second)
    assert done == [None]


def test_counts_are_sent_once_and_again_if_they_were_lost() -> None:
    world = World()
    assert outcome(world.cache.send_counts()) == [None]
    world.cache.get(b"k")
    world.answer(scripts.GET, None)
    done = outcome(world.cache.send_counts())
    assert world.answer(scripts.COUNTS, GONE) == (0, 1, 0)
    assert done == [GONE]
    world.cache.put(b"k", b"v")
    world.answer(scripts.PUT, 1)
    world.cache.send_counts()
    assert world.answer(scripts.COUNTS, []) == (0, 1, 1)
    assert outcome(world.cache.send_counts()) == [None]


def test_who_sends_counts_waits_for_those_on_their_way() -> None:
    world = World()
    world.cache.put(b"k", b"v")
    world.answer(scripts.PUT, 1)
    world.cache.send_counts()
    done = outcome(world.cache.send_counts())
    assert done == []
    world.answer(scripts.COUNTS, [])
    assert done == [None]


def test_counters_are_those_of_all_partitions() -> None:
    world = World(2)
    done = outcome(world.cache.counters())
    world.answer(scripts.COUNTS, [b"hits", b"3", b"puts", b"1"])
    world.answer(scripts.COUNTS, [b"hits", b"4", b"evictions", b"2"])
    assert done == [Counters(7, 0, 1, 0, 0, 2)]


def test_totals_count_first_and_list_the_tags_of_a_cluster() -> None:
    world = World(2)
    world.pipeline.replies = {"sweep": SWEPT, "purge_set": [0, 0]}
    done = outcome(world.cache.totals())
    world.answer(scripts.TOTALS, [3, 2, 30, 1, [b"hits", b"1"], 1, 2, 3])
    world.answer(scripts.TOTALS, [4, 2, 40, 0, [], 1, 2, 3])
    world.answer(scripts.TAGS, [b"0", [[b"t", 1, 1], [b"u", 1, 1]]])
    world.answer(scripts.TAGS, [b"0", [[b"t", 1, 1]]])
    (totals,) = done
    assert (totals.items, totals.tags, totals.bytes, totals.backlog) == (7, 2, 70, 1)
    assert totals.counters.hits == 1
    assert world.cache.fresh.counts() == FreshCounts(leases=4, stale_items=6)
    # The number of tags is that of the last time where they are not listed.
    world.pipeline.replies = {"sweep": [0, [0, 0, 0, 0, [], 0, 2, 3]]}
    assert outcome(world.cache.keep_up(False))[0].tags == 2
    single = World()
    single.pipeline.replies = {"sweep": [0, [3, 2, 30, 1, [], 0, 2, 3]]}
    assert outcome(single.cache.keep_up(False))[0].tags == 2
