"""The memory engine, one behaviour at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from sys import getsizeof
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tagcache.engine import invalidation, selection, tags
from tagcache.engine.entry import Entry
from tagcache.engine.memory import MemoryCache
from tagcache.engine.session import MemoryEngine
from tagcache.errors import (
    IntegerOverflow,
    KeyTooLong,
    NotAnInteger,
    TagTooLong,
    TooManyTags,
    ValueTooLarge,
)
from tagcache.model.interfaces import ICache
from tagcache.model.limits import Limits
from tagcache.model.store_options import NEVER
from tests.helpers import done, newest

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1000)
    return clock


@pytest.fixture
def cache(clock: Clock) -> MemoryCache:
    return MemoryCache(monotonic=clock.seconds, wall=lambda: clock.seconds() + 1_699_999_000.5)


def sweep(cache: MemoryCache) -> int:
    return sum(1 for _ in cache.sweep())


def test_it_is_a_cache(cache: MemoryCache) -> None:
    assert verifyObject(ICache, cache)


def test_get_counts_hits_and_misses_and_nothing_else_does(cache: MemoryCache) -> None:
    cache.put(b"k", b"v")
    assert cache.get(b"k") == b"v"
    assert cache.get(b"nope") is None
    cache.peek(b"k")
    cache.peek(b"nope")
    cache.add(b"k", b"v")
    done(cache.keys_by_tag(b"t"))
    counters = cache.counters()
    assert (counters.hits, counters.misses, counters.hit_ratio) == (1, 1, 0.5)


def test_the_hit_ratio_of_an_unused_cache_is_zero(cache: MemoryCache) -> None:
    assert cache.counters().hit_ratio == 0


def test_overwriting_replaces_value_tags_ttl_and_age(clock: Clock, cache: MemoryCache) -> None:
    cache.put(b"k", b"old", [b"a"], 50)
    clock.advance(0.03)
    cache.put(b"k", b"new", [b"b"])
    entry = cache.peek(b"k")
    assert entry is not None
    assert (entry.value, entry.tags, entry.ttl_ms) == (b"new", (b"b",), None)
    assert (entry.expires, cache.created_ms(entry)) == (NEVER, 1_700_000_000_530)
    assert done(cache.keys_by_tag(b"a")) == []
    clock.advance(1)
    assert cache.get(b"k") == b"new"


def test_expiry_is_exact_swept_or_not(clock: Clock, cache: MemoryCache) -> None:
    cache.put(b"k", b"v", [b"t"], 1500)
    clock.advance(1.499)
    assert cache.get(b"k") == b"v"
    clock.advance(0.001)
    assert done(cache.keys_by_tag(b"t")) == []
    assert cache.get(b"k") is None


def test_what_has_expired_counts_nowhere(clock: Clock, cache: MemoryCache) -> None:
    def store() -> None:
        cache.put(b"short", b"v", [b"t"], 10)
        clock.advance(0.010)

    store()
    assert cache.delete(b"short") is False
    store()
    assert done(cache.invalidate_tag(b"t")) == 0
    store()
    assert done(cache.invalidate_any([b"t"])) == done(cache.invalidate_all([b"t"])) == 0
    store()
    assert done(cache.invalidate_keys([b"short"])) == 0
    store()
    assert done(cache.flush()) == 0
    store()
    totals = cache.totals()
    assert (totals.items, totals.tags, totals.bytes) == (0, 0, 0)
    store()
    assert list(filter(None, cache.scan_tags(b""))) == []
    store()
    assert cache.add(b"short", b"new") is True
    assert cache.counters().invalidations == 0
    assert cache.counters().expirations == 7 + 1


def test_a_ttl_of_zero_is_none(clock: Clock, cache: MemoryCache) -> None:
    assert cache.put(b"k", b"v", [], 0) is None
    clock.advance(10**9)
    assert cache.get(b"k") == b"v"


def test_the_largest_ttl_is_accepted(clock: Clock, cache: MemoryCache) -> None:
    assert cache.put(b"k", b"v", [], 2**64 - 1) == 2**64 - 1
    clock.advance(10**9)
    assert cache.get(b"k") == b"v"
    assert sweep(cache) <= 1


def test_the_default_ttl_applies_where_none_is_given(clock: Clock, cache: MemoryCache) -> None:
    cache.limits = Limits(default_ttl_ms=1000)
    assert cache.put(b"a", b"v") == 1000
    assert cache.put(b"b", b"v", [], 5000) == 5000
    assert cache.add(b"c", b"v")
    cache.increment(b"d")
    clock.advance(1)
    assert [cache.get(key) for key in (b"a", b"b", b"c", b"d")] == [None, b"v", None, None]


def test_add_stores_only_what_is_absent(cache: MemoryCache) -> None:
    assert cache.add(b"k", b"1", [b"t"]) is True
    assert cache.add(b"k", b"2", [b"u"]) is False
    assert cache.get(b"k") == b"1"
    assert done(cache.keys_by_tag(b"u")) == []
    assert cache.counters().puts == 1


def test_counting_up_and_down(cache: MemoryCache) -> None:
    assert cache.increment(b"i") == 1
    assert cache.increment(b"i", 5) == 6
    assert cache.decrement(b"i", 10) == -4
    assert cache.decrement(b"d", 3) == -3
    assert cache.get(b"i") == b"-4"
    assert cache.counters().puts == 4


@pytest.mark.parametrize(
    ("stored", "result"),
    [(b"  7 \n", 8), (b"+5", 6), (b"007", 8), (b"-0", 1), (b"0" * 5000 + b"1", 2)],
)
def test_what_counts_as_an_integer(cache: MemoryCache, stored: bytes, result: int) -> None:
    cache.put(b"i", stored)
    assert cache.increment(b"i") == result
    assert cache.get(b"i") == b"%d" % result


@pytest.mark.parametrize(
    "stored",
    [b"", b"abc", b"1.0", b"1_0", b"\xd9\xa1", b"\xc2\xa07", b"+", b"9223372036854775808", b"1 2"],
)
def test_what_does_not(cache: MemoryCache, stored: bytes) -> None:
    cache.put(b"i", stored)
    with pytest.raises(NotAnInteger):
        cache.increment(b"i")
    assert cache.get(b"i") == stored


def test_integer_limits(cache: MemoryCache) -> None:
    cache.put(b"max", b"%d" % INT64_MAX)
    cache.put(b"min", b"%d" % INT64_MIN)
    cache.put(b"zero", b"0")
    cache.put(b"minus", b"-1")
    for count, key, by in [
        (cache.increment, b"max", 1),
        (cache.decrement, b"min", 1),
        (cache.decrement, b"zero", INT64_MIN),
        (cache.decrement, b"minus", INT64_MIN),
        (cache.decrement, b"absent", INT64_MIN),
    ]:
        before = cache.peek(key)
        with pytest.raises(IntegerOverflow):
            count(key, by)
        assert cache.peek(key) is before
    assert cache.increment(b"absent", INT64_MIN) == INT64_MIN
    assert cache.decrement(b"minus", INT64_MAX) == INT64_MIN


def test_counting_restarts_the_ttl_and_keeps_tags(clock: Clock, cache: MemoryCache) -> None:
    cache.put(b"i", b"1", [b"a", b"b"], 400)
    clock.advance(0.3)
    cache.increment(b"i")
    clock.advance(0.3)
    assert cache.get(b"i") == b"2"
    assert done(cache.keys_by_tag(b"a")) == [b"i"]
    clock.advance(0.1)
    assert cache.get(b"i") is None


def test_counting_takes_a_new_ttl_and_new_tags(clock: Clock, cache: MemoryCache) -> None:
    cache.put(b"i", b"1", [b"a", b"b"], 400)
    cache.increment(b"i", 1, [b"c"], 1000)
    assert (done(cache.keys_by_tag(b"a")), done(cache.keys_by_tag(b"c"))) == ([], [b"i"])
    clock.advance(0.999)
    assert cache.get(b"i") == b"2"
    clock.advance(0.001)
    assert cache.get(b"i") is None


def test_incrementing_an_expired_entry_starts_from_zero(clock: Clock, cache: MemoryCache) -> None:
    cache.put(b"i", b"41", [b"q"], 10)
    clock.advance(0.010)
    assert cache.increment(b"i") == 1
    assert done(cache.keys_by_tag(b"q")) == []


def test_an_invalidated_entry_leaves_all_its_tags(cache: MemoryCache) -> None:
    cache.put(b"k", b"1", [b"a", b"b"])
    assert done(cache.invalidate_tag(b"a")) == 1
    cache.put(b"k", b"2")
    assert done(cache.keys_by_tag(b"b")) == []
    assert done(cache.invalidate_tag(b"b")) == 0
    assert cache.get(b"k") == b"2"


def test_a_tag_without_entries_does_not_exist(clock: Clock, cache: MemoryCache) -> None:
    cache.put(b"k", b"1", [b"a", b"b"], 1000)
    assert cache.totals().tags == 2
    cache.put(b"k", b"1", [b"b"])
    assert cache.totals().tags == 1
    cache.delete(b"k")
    assert cache.totals().tags == 0


def test_invalidation_by_any_and_by_all(cache: MemoryCache) -> None:
    def fill() -> None:
        cache.put(b"1", b"", [b"x"])
        cache.put(b"2", b"", [b"y"])
        cache.put(b"3", b"", [b"x", b"y"])

    fill()
    assert done(cache.invalidate_all([b"x", b"y"])) == 1
    assert sorted(done(cache.keys_by_tag(b"x"))) == [b"1"]
    assert done(cache.invalidate_all([b"x", b"nope"])) == 0
    assert done(cache.invalidate_all([])) == done(cache.invalidate_any([])) == 0
    fill()
    assert done(cache.invalidate_all([b"x", b"x"])) == 2
    fill()
    assert done(cache.invalidate_any([b"x", b"y", b"nope"])) == 3
    assert cache.counters().invalidations == 6


def test_invalidation_by_keys_counts_each_once(cache: MemoryCache) -> None:
    cache.put(b"1", b"")
    assert done(cache.invalidate_keys([b"1", b"1", b"2"])) == 1


def test_flush_removes_everything(cache: MemoryCache) -> None:
    cache.put(b"1", b"", [b"x"])
    cache.put(b"2", b"", [b"x"], 1000)
    assert done(cache.flush()) == 2
    totals = cache.totals()
    assert (totals.items, totals.tags, totals.bytes) == (0, 0, 0)


def test_tags_lose_repetitions_and_keep_their_order(cache: MemoryCache) -> None:
    cache.put(b"k", b"", [b"b", b"a", b"b"])
    entry = cache.peek(b"k")
    assert entry is not None
    assert entry.tags == (b"b", b"a")
    assert done(cache.invalidate_tag(b"b")) == 1


def test_equal_tag_sets_share_one_tuple(cache: MemoryCache) -> None:
    for key in (b"1", b"2"):
        cache.put(key, b"", [bytes([97, 98]), bytes([99])])
    one, two = cache.peek(b"1"), cache.peek(b"2")
    assert one is not None
    assert two is not None
    assert one.tags is two.tags


def test_tag_sets_that_never_come_back_are_forgotten(cache: MemoryCache) -> None:
    for number in range(20_000):
        cache.put(b"k", b"", [b"%d" % number])
    assert len(cache._admission) <= 8192
    done(cache.flush())
    assert len(cache._admission) == 0
    cache.put(b"k", b"", [b"x" * 1000])
    assert len(cache._admission) == 0


def test_the_newest_come_first(clock: Clock, cache: MemoryCache) -> None:
    for key in (b"a", b"b", b"c", b"d"):
        cache.put(key, b"", [], 100 if key == b"d" else None)
    cache.put(b"a", b"again")
    assert newest(cache, 0, 10) == [b"a", b"d", b"c", b"b"]
    clock.advance(1)
    assert newest(cache, 1, 1) == [b"c"]
    assert newest(cache, 9, 9) == []


def test_scanning_goes_on_while_entries_come_and_go(clock: Clock, cache: MemoryCache) -> None:
    for number in range(10):
        cache.put(b"k%d" % number, b"", [], 1000 if number == 5 else None)
    cache.put(b"other", b"")
    scan = cache.scan(b"k")
    assert next(scan) is None
    first = next(scan)
    assert first is not None
    assert first[0] == b"k9"
    cache.delete(b"k8")
    cache.put(b"k99", b"")
    clock.advance(2)
    rest = [item[0] for item in scan if item is not None]
    assert rest == [b"k7", b"k6", b"k4", b"k3", b"k2", b"k1", b"k0"]


def test_scanning_tags_adds_up_their_entries(clock: Clock, cache: MemoryCache) -> None:
    cache.put(b"1", b"abc", [b"ta", b"tb"])
    cache.put(b"22", b"", [b"ta", b"other"])
    cache.put(b"3", b"", [b"gone"], 10)
    clock.advance(1)
    found = sorted(item for item in cache.scan_tags(b"") if item is not None)
    assert found == [(b"other", 1, 2), (b"ta", 2, 6), (b"tb", 1, 4)]
    assert sorted(item[0] for item in cache.scan_tags(b"t") if item) == [b"ta", b"tb"]


def test_scanning_by_any_and_by_all_tags(clock: Clock, cache: MemoryCache) -> None:
    def keys(scan: Iterator[tuple[bytes, Entry] | None]) -> list[bytes]:
        return sorted(item[0] for item in scan if item is not None)

    cache.put(b"1", b"", [b"x"])
    cache.put(b"2", b"", [b"x", b"y"])
    cache.put(b"3", b"", [b"x", b"y"], 10)
    clock.advance(1)
    assert keys(cache.scan_any([b"x", b"y", b"x"])) == [b"1", b"2"]
    assert keys(cache.scan_all([b"x", b"y"])) == [b"2"]
    assert keys(cache.scan_all([])) == keys(cache.scan_any([])) == []
    scan = cache.scan_any([b"x"])
    next(scan)
    cache.put(b"1", b"", [b"other"])
    cache.put(b"2", b"", [b"other"])
    assert keys(scan) == []


def test_limits_hold_at_the_limit_and_not_beyond(cache: MemoryCache) -> None:
    cache.limits = Limits(
        max_key_length=3, max_value_length=4, max_tags_per_entry=2, max_tag_length=5
    )
    cache.put(b"key", b"four", [b"a" * 5, b"b", b"b"])
    for error, arguments in [
        (KeyTooLong, (b"keyy", b"")),
        (ValueTooLarge, (b"k", b"fivee")),
        (TooManyTags, (b"k", b"", [b"a", b"b", b"c"])),
        (TagTooLong, (b"k", b"", [b"a" * 6])),
    ]:
        with pytest.raises(error):
            cache.put(*arguments)
        with pytest.raises(error):
            cache.add(*arguments)
    with pytest.raises(TooManyTags):
        cache.increment(b"i", 1, [b"a", b"b", b"c"])
    assert cache.totals().items == 1
    assert cache.counters().puts == 1


def test_new_limits_hold_for_tag_sets_seen_before(cache: MemoryCache) -> None:
    cache.put(b"k", b"", [b"a", b"b"])
    cache.limits = Limits(max_tags_per_entry=1)
    with pytest.raises(TooManyTags):
        cache.put(b"k", b"", [b"a", b"b"])


def test_sweeping_reclaims_what_has_expired_and_nothing_else(
    clock: Clock, cache: MemoryCache
) -> None:
    for number in range(100):
        cache.put(b"%d" % number, b"v", [b"t"], 1000 + number * 100)
    cache.put(b"stays", b"v")
    clock.advance(6)
    sweep(cache)
    # Deadlines from 1.0 to 5.9 s passed more than a tick ago; the one due now may remain.
    assert len(cache) in (51, 50)
    clock.advance(100)
    sweep(cache)
    assert newest(cache, 0, 9) == [b"stays"]
    assert cache.counters().expirations == 100
    assert cache.counters().invalidations == 0


def test_sweeping_can_be_left_and_taken_up_while_entries_change(
    clock: Clock, cache: MemoryCache
) -> None:
    for number in range(10):
        cache.put(b"%d" % number, b"v", [b"t"], 1000)
    clock.advance(2)
    work = cache.sweep()
    next(work)
    for number in range(10):
        cache.put(b"%d" % number, b"new", [b"t"], 1000)
    cache.delete(b"3")
    assert list(work) == []
    assert len(done(cache.keys_by_tag(b"t"))) == 9
    clock.advance(2)
    assert cache.totals().items == 0


def test_the_largest_tags_come_first(clock: Clock, cache: MemoryCache) -> None:
    cache.put(b"1", b"", [b"few", b"many"])
    cache.put(b"2", b"", [b"many", b"single"])
    cache.put(b"3", b"", [b"many", b"few"])
    found = MemoryEngine(cache, clock.seconds).largest_tags(b"", 2)
    assert [(tag.name, tag.keys) for tag in found] == [(b"many", 3), (b"few", 2)]


def steps(work: Generator[None, None, int]) -> tuple[int, int]:
    """Run a piece of work; return the number of its steps, and its result."""
    count = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            return count, end.value
        count += 1


def test_long_lists_of_names_are_worked_off_in_steps(cache: MemoryCache) -> None:
    names = [b"%d" % number for number in range(10_000)]
    assert steps(cache.invalidate_keys(names)) >= (10_000 // 256, 0)
    assert steps(cache.invalidate_any(names)) >= (10_000, 0)
    for name in names:
        cache.put(name, b"v", [name])
    work = cache.invalidate_any(names)
    count, removed = steps(work)
    assert removed == 10_000
    assert count >= 10_000
    # A look-up compares with few sets, however many tags were invalidated.
    assert len(cache.store.dead) <= 2
    assert cache.get(b"77") is None
    for _ in cache.reclaim():
        pass
    assert (len(cache), cache.totals().tags) == (0, 0)


def test_an_entry_that_changes_its_tag_during_a_scan_comes_once(
    clock: Clock, cache: MemoryCache
) -> None:
    for key in (b"1", b"2"):
        cache.put(key, b"", [b"a"])
    scan = cache.scan_any([b"a", b"b"])
    found = [next(scan)]
    clock.advance(1)
    cache.put(b"1", b"", [b"b"])
    cache.put(b"2", b"", [b"b"])
    found += list(scan)
    keys = [item[0] for item in found if item is not None]
    assert len(keys) == len(set(keys))


def test_the_largest_ttl_is_reported_as_64_bits(cache: MemoryCache) -> None:
    cache.put(b"k", b"v", [], 2**64 - 1)
    entry = cache.peek(b"k")
    assert entry is not None
    assert entry.ttl_ms == 2**64 - 1


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the code paths for large sets even for one or two entries."""
    monkeypatch.setattr(invalidation, "AT_ONCE", 1)
    monkeypatch.setattr(tags, "_SPLIT_AT", 2)
    monkeypatch.setattr(selection, "_SOME", 1)
    monkeypatch.setattr(selection, "_FEW", 1)


@pytest.mark.usefixtures("everything_is_large")
def test_what_is_gone_but_not_reclaimed_is_not_counted_again(cache: MemoryCache) -> None:
    for number in range(6):
        cache.put(b"%d" % number, b"v", [b"x", b"y"] if number < 4 else [b"y"])
    assert done(cache.invalidate_tag(b"x")) == 4
    cache.put(b"0", b"new", [b"y"])
    assert done(cache.invalidate_tag(b"y")) == 3
    assert cache.totals().items == 0
    assert cache.backlog == 6
    for _ in cache.reclaim():
        pass
    assert (len(cache), cache.backlog, cache.totals().tags) == (0, 0, 0)


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize("steps", range(5))
def test_invalidations_that_overlap_while_they_are_under_way(
    cache: MemoryCache, steps: int
) -> None:
    for number in range(6):
        cache.put(b"%d" % number, b"v", [b"x", b"y"] if number < 4 else [b"y"])
    both = cache.invalidate_all([b"x", b"y"])
    for _ in range(steps):
        next(both)
    assert done(cache.invalidate_tag(b"x")) == 4
    assert done(both) == 0
    assert (cache.totals().items, cache.backlog) == (2, 4)


@pytest.mark.parametrize("most_tags", [1, 20_000])
def test_dictionaries_shrink_with_what_they_hold(most_tags: int) -> None:
    """Otherwise a cache of few large values would keep the tables of many small ones."""
    cache = MemoryCache()
    for number in range(40_000):
        cache.put(b"%d" % number, b"", [b"%d" % (number % most_tags), b"all"])
    for number in range(39_000):
        cache.delete(b"%d" % number)
    tables: list[dict[bytes, Any]] = [*cache.store.shards]
    for name in (b"0", b"all"):
        tables += tags.parts(cache.store.tags.by_key(name))
    assert sum(map(getsizeof, tables)) < len(tables) * 4096 + 240 * 3 * 1000
    assert done(cache.check()).faults == ()
    assert done(cache.invalidate_tag(b"all")) == 1000
