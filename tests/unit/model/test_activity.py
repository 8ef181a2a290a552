"""Statistics of the busiest tags, and their bounds."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock

from tagcache.engine.memory import MemoryCache
from tagcache.model.activity import Activity
from tests.helpers import done


def cache() -> MemoryCache:
    clock = Clock()
    clock.advance(100)
    return MemoryCache(monotonic=clock.seconds, wall=clock.seconds, random=Random(1))


def test_hits_are_estimated_whatever_the_pattern_of_requests() -> None:
    for at_once in (1, 7, 64):
        busy = cache()
        for number in range(16):
            busy.put(b"%d" % number, b"v", [b"all", b"odd" if number % 2 else b"even"])
        keys = [b"%d" % (number % 16) for number in range(64_000 // at_once * at_once)]
        for start in range(0, len(keys), at_once):
            if at_once == 1:
                busy.get(keys[start])
            else:
                busy.get_many(keys[start : start + at_once])
        hits = len(keys)
        assert busy.counters().hits == hits
        assert 0.9 * hits < busy.activity(b"all").hits < 1.1 * hits
        if at_once < 64:
            assert 0.4 * hits < busy.activity(b"odd").hits < 0.6 * hits


def test_misses_after_an_invalidation_are_counted_until_the_key_is_back() -> None:
    busy = cache()
    for key in (b"a", b"b", b"c"):
        busy.put(key, b"v", [b"t"])
    assert done(busy.invalidate_tag(b"t")) == 3
    busy.get(b"a")
    busy.get(b"a")
    busy.get(b"never there")
    busy.put(b"a", b"v")
    busy.delete(b"a")
    busy.get(b"a")
    seen = busy.activity(b"t")
    assert (seen.misses, seen.invalidations, seen.invalidated) == (2, 1, 3)
    assert seen.last_invalidated == 100


def test_a_large_invalidation_is_estimated_from_some_of_its_keys() -> None:
    busy = cache()
    for number in range(5120):
        busy.put(b"%d" % number, b"v", [b"t", b"u"])
    assert done(busy.invalidate_all([b"t", b"u"])) == 5120
    for number in range(5120):
        busy.get(b"%d" % number)
    assert busy.activity(b"t").invalidated == busy.activity(b"u").invalidated == 5120
    assert busy.activity(b"t").misses + busy.activity(b"u").misses == 5120


def test_any_notes_each_tag_with_its_own_entries() -> None:
    busy = cache()
    busy.put(b"1", b"v", [b"x"])
    busy.put(b"2", b"v", [b"x", b"y"])
    assert done(busy.invalidate_any([b"x", b"y", b"z"])) == 2
    assert [busy.activity(tag).invalidated for tag in (b"x", b"y", b"z")] == [2, 1, 0]
    assert busy.activity(b"z").last_invalidated is None


def test_it_is_bounded_and_keeps_the_busiest() -> None:
    activity = Activity(Random(1))
    for round in range(20):
        for number in range(500):
            activity.invalidated(b"%d of %d" % (number, round), [b"k%d" % number], 1, 0.0)
        activity.invalidated(b"busy", [b"%d.%d" % (round, n) for n in range(2000)], 2000, 0.0)
    assert len(activity) <= 1024
    assert len(activity.removed) <= 16384
    assert activity.of(b"busy").invalidated == 40_000
