"""A check finds every fault that a test makes, and reports no other."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tagcache.engine.entry import Entries
from tagcache.engine.memory import MemoryCache
from tagcache.model.views import MOST_FAULTS
from tests.helpers import done

Breaking = Callable[[MemoryCache], object]


def filled(policy: str = "sieve") -> MemoryCache:
    cache = MemoryCache(policy=policy, monotonic=lambda: 100.0)  # type: ignore[arg-type]
    for number in range(100):
        ttl_ms = 60_000 if number % 2 else None
        cache.put(b"k%d" % number, b"value", [b"all", b"t%d" % (number % 7)], ttl_ms)
    cache.put(b"alone", b"value", [b"single"], 60_000)
    return cache


def shard_of(cache: MemoryCache, key: bytes) -> Entries:
    return next(shard for shard in cache.store.shards if key in shard)


def drop_from_shard(cache: MemoryCache) -> None:
    del shard_of(cache, b"k1")[b"k1"]


def drop_from_index(cache: MemoryCache) -> None:
    del cache.store.tags.carriers(b"all")[b"k1"]  # type: ignore[union-attr,arg-type]


def empty_a_tag(cache: MemoryCache) -> None:
    cache.store.tags.carriers(b"t1").clear()  # type: ignore[union-attr]


def index_without_carrying(cache: MemoryCache) -> None:
    cache.peek(b"k1").tags = (b"all",)  # type: ignore[union-attr]


def index_a_stranger(cache: MemoryCache) -> None:
    other = filled()
    cache.store.tags.carriers(b"all")[b"k1"] = other.peek(b"k1")  # type: ignore[union-attr,index]


def index_under_another_name(cache: MemoryCache) -> None:
    carriers = cache.store.tags.carriers(b"all")
    carriers[b"other"] = carriers[b"k1"]  # type: ignore[union-attr,index]


def store_under_another_name(cache: MemoryCache) -> None:
    shard = shard_of(cache, b"k1")
    shard[b"other"] = shard[b"k1"]


def lose_an_expiry(cache: MemoryCache) -> None:
    cache.peek(b"k1").take_back()  # type: ignore[union-attr]


def lose_a_neighbour(cache: MemoryCache) -> None:
    cache.peek(b"k50").unlink()  # type: ignore[union-attr]


def lose_a_bucket(cache: MemoryCache) -> None:
    cache.store.expiry.buckets.popitem()


def miscount(name: str) -> Breaking:
    return lambda cache: setattr(cache.store, name, getattr(cache.store, name) + 1)


def miscount_tags(name: str) -> Breaking:
    return lambda cache: setattr(cache.store.tags, name, getattr(cache.store.tags, name) + 1)


BROKEN: list[tuple[Breaking, str]] = [
    (drop_from_shard, "an entry b'k1' that is not stored"),
    (drop_from_index, "the entry b'k1' carries the tag b'all', whose index does not have it"),
    (empty_a_tag, "the tag b't1' is in the index without an entry"),
    (index_without_carrying, "b't1' has the entry b'k1', which does not carry it"),
    (index_a_stranger, "an entry b'k1' that is not stored"),
    (index_under_another_name, "has the entry b'k1' as b'other'"),
    (store_under_another_name, "the entry b'k1' is stored as b'other'"),
    (lose_an_expiry, "b'k1' has a time to live, and does not wait for its expiry"),
    (lose_a_neighbour, "b'k50' is not between its neighbours in the order of storing"),
    (lose_a_bucket, "the moments of expiry and their buckets differ"),
    (miscount("items"), "the total of entries is 102, a recount gives 101"),
    (miscount("size"), "the total of bytes of keys and values is"),
    (miscount("dead_left"), "1 entries are said to be invalidated and still stored"),
    (miscount_tags("references"), "the total of tags of entries is 202, a recount gives 201"),
    (miscount_tags("count_all"), "the total of tags is 10, a recount gives 9"),
    (miscount_tags("name_bytes"), "the total of bytes of tag names is 24, a recount gives 23"),
]


if not issubclass(Entries, dict):
    # The native tables refuse a wrong key.
    BROKEN = [each for each in BROKEN if not each[0].__name__.endswith("under_another_name")]


@pytest.mark.parametrize(("breaking", "told"), BROKEN)
def test_what_is_broken_is_found(breaking: Breaking, told: str) -> None:
    cache = filled()
    assert done(cache.check()).faults == ()
    breaking(cache)
    found = done(cache.check())
    assert found.fault_count >= 1
    assert any(told in fault for fault in found.faults), found.faults


def test_the_order_of_use_is_looked_at_too() -> None:
    cache = filled("lru")
    assert done(cache.check()).faults == ()
    cache.peek(b"k3").leave_use()  # type: ignore[union-attr]
    assert any("in the order of use" in fault for fault in done(cache.check()).faults)


def test_it_reports_how_much_it_checked_and_a_few_faults() -> None:
    cache = filled()
    found = done(cache.check())
    assert (found.entries, found.tags) == (101, 9)
    cache.store.tags.carriers(b"all").clear()  # type: ignore[union-attr]
    found = done(cache.check())
    assert found.fault_count == 101
    assert len(found.faults) == MOST_FAULTS


@pytest.mark.parametrize(
    "policy",
    ["sieve", *(pytest.param(each, marks=pytest.mark.slow) for each in ("lru", "noeviction"))],
)
def test_changes_during_a_check_are_no_fault(policy: str) -> None:
    random = Random(7)
    now = [100.0]
    cache = MemoryCache(policy=policy, monotonic=lambda: now[0])  # type: ignore[arg-type]

    def change() -> None:
        for _ in range(random.randrange(8)):
            number = random.randrange(800)
            choice = random.random()
            tags = [b"all", b"t%d" % random.randrange(9), b"u%d" % number]
            if choice < 0.7:
                size = random.randrange(50)
                cache.put(b"k%d" % number, b"v" * size, tags, random.choice([None, 50, 5000]))
            elif choice < 0.9:
                cache.delete(b"k%d" % number)
            elif choice < 0.95:
                done(cache.invalidate_tag(b"t%d" % random.randrange(9)))
            else:
                now[0] += 0.02
                cache.totals()

    for _ in range(2000):
        change()
    for _ in range(30):
        work = cache.check()
        while True:
            try:
                next(work)
            except StopIteration as end:
                assert end.value.faults == ()
                break
            change()
        assert not cache.store.watchers


@pytest.mark.parametrize("steps", [2, 2500], ids=["in the entries", "in the tags"])
def test_tables_that_shrink_during_a_check_are_no_fault(steps: int) -> None:
    cache = MemoryCache()
    keys = [b"%d" % number for number in range(100_000)]
    for key in keys:
        cache.put(key, b"", [b"all"])
    work = cache.check()
    for _ in range(steps):
        next(work)
    for key in keys[:-10]:
        cache.delete(key)
    assert done(work).faults == ()


def test_a_fault_is_found_during_many_changes() -> None:
    cache = filled()
    cache.store.items += 1
    work = cache.check()
    number = 0
    with pytest.raises(StopIteration) as end:
        while True:
            next(work)
            number += 1
            cache.put(b"n%d" % number, b"v", [b"x"])
    (fault,) = end.value.value.faults
    assert fault.startswith("the total of entries is")


def test_a_flush_makes_a_check_start_again() -> None:
    cache = filled()
    work = cache.check()
    for _ in range(100):
        next(work)
    done(cache.flush())
    cache.put(b"k", b"v", [b"t"])
    found = done(work)
    assert (found.entries, found.tags, found.faults) == (1, 1, ())


def test_a_check_that_is_cancelled_leaves_nothing_behind() -> None:
    cache = filled()
    work = cache.check()
    next(work)
    assert cache.store.watchers
    work.close()
    assert not cache.store.watchers
