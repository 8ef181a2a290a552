"""What happens when memory is full."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
from twisted.internet.task import Clock

from tagcache.engine import invalidation
from tagcache.engine.memory import MemoryCache, Policy
from tagcache.errors import OutOfMemory
from tagcache.model.limits import Limits
from tests.helpers import done, newest

KEYS = [b"%03d" % number for number in range(100)]


def cache_of(entries: int, policy: Policy, clock: Clock | None = None) -> MemoryCache:
    """A cache with room for ``entries`` entries, with keys of 3 bytes and values of 100."""
    monotonic = (clock or Clock()).seconds
    cache = MemoryCache(monotonic=monotonic, wall=monotonic, policy=policy)
    cache.put(KEYS[0], b"x" * 100)
    one = cache.memory
    done(cache.flush())
    for _ in cache.reclaim():
        pass
    cache.limits = Limits(max_memory=one * entries)
    return cache


def store(cache: MemoryCache, *numbers: int) -> None:
    for number in numbers:
        cache.put(KEYS[number], b"x" * 100)


def held(cache: MemoryCache) -> list[int]:
    return sorted(int(key) for key in newest(cache))


def test_sieve_evicts_the_oldest_that_was_not_read() -> None:
    cache = cache_of(4, "sieve")
    store(cache, 0, 1, 2, 3)
    cache.get(KEYS[0])
    cache.get(KEYS[2])
    store(cache, 4)
    assert held(cache) == [0, 2, 3, 4]
    store(cache, 5)
    assert held(cache) == [0, 2, 4, 5]
    # The hand continues where it stopped: 0 and 2 have had their second chance.
    store(cache, 6)
    assert held(cache) == [0, 2, 5, 6]
    assert cache.counters().evictions == 3
    assert cache.memory <= cache.limits.max_memory


def test_sieve_keeps_what_is_read_again_and_again_against_a_scan() -> None:
    cache = cache_of(10, "sieve")
    store(cache, *range(5))
    for number in range(20, 90):
        for key in KEYS[:5]:
            assert cache.get(key) is not None
        store(cache, number)
    assert held(cache)[:5] == [0, 1, 2, 3, 4]


def test_lru_evicts_what_was_used_least_recently() -> None:
    cache = cache_of(3, "lru")
    store(cache, 0, 1, 2)
    cache.get(KEYS[0])
    cache.get_many([KEYS[1]])
    store(cache, 3)
    assert held(cache) == [0, 1, 3]
    store(cache, 0)
    store(cache, 4)
    assert held(cache) == [0, 3, 4]
    # The order in which entries were stored is independent of the order of use.
    assert newest(cache, 0, 9) == [KEYS[4], KEYS[0], KEYS[3]]


@pytest.mark.parametrize("policy", ["sieve", "lru"])
def test_what_is_being_stored_is_not_evicted_for_itself(policy: Policy) -> None:
    cache = cache_of(10, policy)
    store(cache, *range(10))
    size = cache.limits.max_memory * 3 // 4
    cache.put(b"large", b"x" * size)
    assert cache.get(b"large") is not None
    assert cache.memory <= cache.limits.max_memory
    cache.put(b"large", b"y" * (size + 100))
    assert cache.get(b"large") == b"y" * (size + 100)


@pytest.mark.parametrize("policy", ["sieve", "lru", "noeviction"])
def test_what_can_never_fit_is_refused_and_changes_nothing(policy: Policy) -> None:
    cache = cache_of(3, policy)
    store(cache, 0, 1, 2)
    with pytest.raises(OutOfMemory, match="the limit is"):
        cache.put(KEYS[0], b"x" * 2000)
    assert held(cache) == [0, 1, 2]
    assert cache.get(KEYS[0]) == b"x" * 100


def test_noeviction_refuses_until_there_is_room() -> None:
    clock = Clock()
    cache = cache_of(3, "noeviction", clock)
    store(cache, 0, 1)
    cache.put(KEYS[2], b"x" * 100, (), 1000)
    for refused in (
        lambda: cache.put(KEYS[3], b"x" * 100),
        lambda: cache.add(KEYS[3], b"x" * 100),
        lambda: cache.increment(KEYS[3], 1, [b"t"]),
        lambda: cache.put(KEYS[0], b"x" * 101),
        lambda: cache.put(KEYS[0], b"x" * 100, [b"t"]),
    ):
        with pytest.raises(OutOfMemory):
            refused()
    assert held(cache) == [0, 1, 2]
    cache.put(KEYS[0], b"y" * 100)
    cache.put(KEYS[0], b"less")
    cache.put(KEYS[0], b"y" * 100)
    clock.advance(2)
    store(cache, 3)
    assert held(cache) == [0, 1, 3]
    assert cache.counters().evictions == 0


def test_what_was_flushed_makes_room_without_evictions() -> None:
    cache = cache_of(50, "sieve")
    store(cache, *range(50))
    done(cache.flush())
    store(cache, *range(50, 90))
    assert cache.counters().evictions == 0
    assert held(cache) == list(range(50, 90))


def test_a_lower_limit_is_reached_by_reclaiming() -> None:
    cache = cache_of(100, "sieve")
    store(cache, *range(100))
    called = []
    cache.on_garbage = lambda: called.append(True)
    cache.limits = replace(cache.limits, max_memory=cache.limits.max_memory // 10)
    assert called
    steps = sum(1 for _ in cache.reclaim())
    assert steps == 90
    assert held(cache) == list(range(90, 100))


def test_what_has_expired_is_not_counted_as_evicted() -> None:
    clock = Clock()
    cache = cache_of(3, "sieve", clock)
    store(cache, 1)
    cache.put(KEYS[0], b"x" * 100, (), 1000)
    store(cache, 2)
    clock.advance(2)
    # The expired entry goes first, although it is not the oldest.
    store(cache, 3)
    assert held(cache) == [1, 2, 3]
    assert (cache.counters().evictions, cache.counters().expirations) == (0, 1)


def test_a_store_evicts_no_more_than_so_many() -> None:
    cache = MemoryCache(limits=Limits(max_memory=1_000_000))
    for number in range(2000):
        cache.put(b"%d" % number, b"")
    cache.on_garbage = lambda: called.append(True)
    called: list[bool] = []
    before = cache.counters().evictions
    cache.put(b"large", b"x" * 900_000)
    assert cache.counters().evictions - before <= 64
    assert called
    for _ in cache.reclaim():
        pass
    assert cache.memory <= 1_000_000
    assert cache.get(b"large") is not None


def test_an_entry_is_evicted_even_if_all_were_read() -> None:
    cache = cache_of(5, "sieve")
    store(cache, *range(5))
    for _ in range(3):
        for number in range(5):
            cache.get(KEYS[number])
        store(cache, 10)
        assert len(held(cache)) == 5
        done(cache.invalidate_keys([KEYS[10]]))
        store(cache, *(set(range(5)) - set(held(cache))))


def test_a_scan_that_ends_does_not_take_the_hand_away() -> None:
    cache = cache_of(4, "sieve")
    store(cache, 0, 1, 2, 3)
    scan = cache.scan(b"")
    for _ in range(3):
        next(scan)
    # The scan's marker is now before the entry that is evicted, and the hand stops at the marker.
    store(cache, 4)
    cache.delete(KEYS[1])
    scan.close()  # type: ignore[attr-defined]
    store(cache, 5, 6, 7)
    assert held(cache) == [4, 5, 6, 7]


def test_reclaiming_that_is_left_in_the_middle_goes_on_later() -> None:
    cache = cache_of(50, "sieve")
    store(cache, *range(50))
    done(cache.flush())
    for steps in (3, 30):
        assert len(list(islice(cache.reclaim(), steps))) == steps
    for _ in cache.reclaim():
        pass
    assert (cache.backlog, len(cache), cache.memory) == (0, 0, 0)


def test_nothing_is_evicted_for_what_is_invalidated_meanwhile() -> None:
    cache = cache_of(100, "sieve")
    store(cache, *range(20))
    for number in range(1000, 1060):
        cache.put(b"%d" % number, b"x" * 99, [b"old"])
    cache.limits = replace(cache.limits, max_memory=cache.memory // 2)
    work = cache.reclaim()
    next(work)
    evicted = cache.counters().evictions
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invalidation, "AT_ONCE", 1)
        done(cache.invalidate_tag(b"old"))
    for _ in work:
        pass
    for _ in cache.reclaim():
        pass
    assert cache.counters().evictions == evicted == 1
    assert len(held(cache)) == 19


def test_nothing_is_left_of_memory_after_a_flush() -> None:
    cache = MemoryCache()
    for round in range(3):
        for number in range(100):
            cache.put(b"%d" % number, b"x" * (number + round), [b"t%d" % (number % 7)])
        done(cache.flush())
        for _ in cache.reclaim():
            pass
        assert cache.memory == 0


def test_long_names_of_tags_count() -> None:
    cache = MemoryCache(Limits(max_memory=50_000), policy="noeviction")
    with pytest.raises(OutOfMemory):
        for number in range(100):
            cache.put(b"%d" % number, b"", [b"%d" % number + b"t" * 1000 for _ in range(5)])
            for tag in range(5):
                cache.put(b"%d" % number, b"", [b"%d.%d" % (number, tag) + b"t" * 1000])
    assert cache.memory <= 50_000


def test_new_tags_need_room_too() -> None:
    cache = MemoryCache(Limits(max_memory=100_000), policy="noeviction")
    for number in range(100):
        cache.put(b"%d" % number, b"")
    with pytest.raises(OutOfMemory):
        for number in range(100):
            cache.put(b"%d" % number, b"", [b"%d of %d" % (tag, number) for tag in range(20)])
    assert cache.memory <= 100_000
