"""Numbered databases in this process: each on its own, and one memory limit for all of them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tagcache.engine.budget import Budget
from tagcache.engine.caches import MemoryCaches
from tagcache.engine.databases import MemoryDatabases
from tagcache.engine.memory import MemoryCache, Policy
from tagcache.errors import InvalidDatabase, OutOfMemory
from tagcache.model.interfaces import ICache, IDatabases, IEngine, IMaintained
from tagcache.model.limits import Limits
from tagcache.model.store_options import NEVER
from tagcache.model.views import Saved
from tests.helpers import done, newest


def make(
    count: int = 16, policy: Policy = "sieve", clock: Clock | None = None, **limits: Any
) -> MemoryCaches:
    clock = clock or Clock()
    return MemoryCaches(
        lambda: MemoryCache(
            Limits(**limits), monotonic=clock.seconds, wall=clock.seconds, policy=policy
        ),
        count,
    )


def databases_of(caches: MemoryCaches) -> MemoryDatabases:
    return MemoryDatabases(caches, Clock().seconds)


def fill(cache: MemoryCache, name: bytes, count: int, size: int = 100) -> None:
    for number in range(count):
        cache.put(b"%b %d" % (name, number), bytes(size), [name])


def test_they_keep_their_contracts() -> None:
    caches = make()
    assert verifyObject(IMaintained, caches)
    assert verifyObject(IDatabases, databases_of(caches))
    assert verifyObject(IEngine, databases_of(caches)[3])
    assert verifyObject(ICache, caches[3])


def test_a_database_is_made_when_it_is_first_used() -> None:
    caches = make(4)
    databases = databases_of(caches)
    assert [number for number, _ in databases] == [0]
    assert databases[2] is databases[2]
    assert [number for number, _ in databases] == [0, 2]
    assert [number for number, _ in caches] == [0, 2]
    caches[1].put(b"k", b"v", [])
    assert [number for number, _ in databases] == [0, 1, 2]
    assert dict(databases)[1].session.get(b"k") == b"v"


@pytest.mark.parametrize("number", [-1, 4, 2**64])
def test_a_number_outside_is_refused(number: int) -> None:
    databases = databases_of(make(4))
    with pytest.raises(InvalidDatabase, match=f"no database {number}: cache.databases is 4"):
        databases[number]
    assert [number for number, _ in databases] == [0]


def test_each_has_its_own_keys_tags_and_counts() -> None:
    caches = make()
    one, two = caches[1], caches[2]
    one.put(b"k", b"1", [b"t"])
    two.put(b"k", b"22", [b"t"])
    assert (one.get(b"k"), two.get(b"k"), caches[0].get(b"k")) == (b"1", b"22", None)
    assert done(one.invalidate_tag(b"t")) == 1
    assert (one.get(b"k"), two.get(b"k")) == (None, b"22")
    assert (one.totals().items, two.totals().items) == (0, 1)
    assert (one.counters().misses, two.counters().misses) == (1, 0)
    assert (one.counters().invalidations, two.counters().invalidations) == (1, 0)
    databases = databases_of(caches)
    assert (databases.counters().hits, databases.counters().misses) == (3, 2)
    assert (databases.held().items, databases.held().tags, databases.held().bytes) == (1, 1, 2)
    assert databases.memory == sum(cache.memory for _, cache in caches)


def test_all_are_flushed_at_one_moment() -> None:
    clock = Clock()
    caches = make(clock=clock)
    for number in (0, 3, 5):
        fill(caches[number], b"a", 10 + number)
        caches[number].put(b"over", b"", [], 1000)
    clock.advance(2)
    work = caches.flush()
    for _ in range(2):
        next(work)
        assert caches[3].get(b"a 1") is not None
    assert done(work) == 38
    assert [len(newest(cache)) for _, cache in caches] == [0, 0, 0]
    assert caches.backlog == 38
    for _ in caches.reclaim():
        pass
    assert (len(caches), caches.memory, caches.backlog) == (0, 0, 0)
    fill(caches[4], b"a", 2)
    assert databases_of(caches).flush_all() == 2


def test_sweeps_and_garbage_concern_all() -> None:
    clock = Clock()
    caches = make(clock=clock)
    called: list[int] = []
    caches.on_garbage = lambda: called.append(1)
    for number in (1, 2):
        caches[number].put(b"k", b"v", [], 1000)
        caches[number].put(b"more", b"v", [b"t"])
    clock.advance(10)
    for _ in caches.sweep():
        pass
    assert len(caches) == 2
    for number in (1, 2):
        assert done(caches[number].flush()) == 1
    assert len(called) == 2


def test_limits_concern_all_also_those_made_later() -> None:
    caches = make()
    databases = databases_of(caches)
    caches[1].put(b"long", b"v", [])
    databases.limits = Limits(max_key_length=3)
    for number in (0, 1, 9):
        assert databases[number].limits.max_key_length == 3
    assert databases.limits.max_key_length == 3


def test_what_is_saved_comes_back_where_it_was() -> None:
    before, after = make(), make()
    for number in (0, 2, 15):
        fill(before[number], b"%d" % number, number + 1)
    for entry in before.saved():
        assert after.restore(entry, 0.0)
    assert [number for number, _ in after] == [0, 2, 15]
    for number, cache in before:
        assert newest(after[number]) == newest(cache)
    with pytest.raises(InvalidDatabase):
        make(15).restore(Saved(b"k", b"v", (), 0.0, NEVER, 15), 0.0)


@pytest.mark.parametrize("policy", ["sieve", "lru"])
def test_a_small_one_grows_when_a_large_one_fills_the_limit(policy: Policy) -> None:
    caches = make(policy=policy, max_memory=400_000)
    fill(caches[0], b"large", 3000)
    assert 390_000 < caches[0].memory <= 400_000
    fill(caches[1], b"small", 300)
    assert len(newest(caches[1])) == 300
    assert caches.memory <= 400_000
    assert caches[1].counters().evictions == 0
    # Beyond its share it makes room itself.
    fill(caches[1], b"small", 3000)
    assert caches.memory <= 400_000
    assert caches[1].counters().evictions > 0
    assert abs(caches[0].memory - caches[1].memory) < 2000
    for _, cache in caches:
        assert done(cache.check()).fault_count == 0


def test_where_the_largest_has_nothing_to_evict_the_next_one_does() -> None:
    caches = make(max_memory=100_000)
    fill(caches[0], b"a", 100)
    caches[1].put(b"k", bytes(80_000), [])
    assert caches[1].get(b"k") == bytes(80_000)
    assert caches.memory <= 100_000
    assert caches[0].counters().evictions > 0


def test_without_eviction_all_are_refused_at_the_limit() -> None:
    clock = Clock()
    caches = make(policy="noeviction", max_memory=100_000, clock=clock)
    with pytest.raises(OutOfMemory):
        fill(caches[0], b"a", 1000)
    full = caches.memory
    with pytest.raises(OutOfMemory):
        caches[1].put(b"k", bytes(1000), [])
    assert caches.memory == full
    # What has expired in one of them makes room in another.
    assert done(caches[0].flush()) > 0
    for _ in caches.reclaim():
        pass
    for number in range(100):
        caches[0].put(b"%d" % number, bytes(500), [], 1000)
    clock.advance(10)
    caches[1].put(b"k", bytes(60_000), [])
    assert caches[1].get(b"k") == bytes(60_000)


def test_a_lower_limit_is_reached_by_reclaiming() -> None:
    caches = make()
    for number in range(3):
        fill(caches[number], b"a", 500 * (number + 1))
    called: list[int] = []
    caches.on_garbage = lambda: called.append(1)
    caches.limits = Limits(max_memory=200_000)
    assert called
    for _ in caches.reclaim():
        pass
    assert caches.memory <= 200_000
    assert len(newest(caches[0])) > 100


def test_a_store_does_not_look_at_all_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    caches = make(100, max_memory=300_000)
    for number in range(100):
        caches[number].put(b"k", b"v", [])
    looks = 0
    memory = Budget.memory.fget
    assert memory is not None

    def look(budget: Budget) -> int:
        nonlocal looks
        looks += 1
        return memory(budget)

    monkeypatch.setattr(Budget, "memory", property(look))
    fill(caches[0], b"a", 100)
    assert looks == 100
    fill(caches[0], b"b", 3000)
    assert caches[0].counters().evictions > 2000
    # One for the entry, one or two for evictions, and one or two for its share of all the others.
    assert looks < 6 * 3100


def test_memory_that_another_database_gave_back_can_be_used() -> None:
    caches = make(max_memory=400_000)
    fill(caches[1], b"large", 3000)
    fill(caches[0], b"a", 100)
    assert done(caches[1].flush()) > 500
    for _ in caches.reclaim():
        pass
    fill(caches[0], b"b", 600)
    # Noticing it takes as many stores as there are databases.
    assert caches[0].counters().evictions <= 2
    assert len(newest(caches[0])) >= 698


def test_the_limit_holds_whatever_happens() -> None:
    random = Random(7)
    caches = make(4, max_memory=60_000)
    for _ in range(20_000):
        cache = caches[random.randrange(4)]
        key = b"%d" % random.randrange(300)
        match random.randrange(20):
            case 0:
                done(cache.invalidate_tag(b"t%d" % random.randrange(5)))
            case 1 if random.random() < 0.02:
                done(cache.flush())
            case 2 | 3:
                cache.get(key)
            case 4:
                cache.delete(key)
            case _:
                value = bytes(random.choice([1, 100, 3000]))
                cache.put(key, value, [b"t%d" % random.randrange(5)])
                assert cache.get(key) == value
                assert caches.memory <= 60_000
    for _, cache in caches:
        assert done(cache.check()).fault_count == 0
