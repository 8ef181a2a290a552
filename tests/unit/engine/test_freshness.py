"""Leases, grace and soft invalidations, one at a time."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from twisted.internet.task import Clock

from tagcache.engine import invalidation, leases
from tagcache.engine.caches import MemoryCaches
from tagcache.engine.leases import Leases
from tagcache.engine.memory import MemoryCache
from tagcache.errors import KeyTooLong, OutOfMemory, TagTooLong
from tagcache.model.fetched import Fetched, Found, FreshCounts
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tagcache.model.tag_rules import TagRule, TagRules
from tests.helpers import done


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(100)
    return clock


def cache_on(clock: Clock, **options: Any) -> MemoryCache:
    tokens = count(1)
    return MemoryCache(
        monotonic=clock.seconds,
        wall=clock.seconds,
        random_bits=lambda bits: next(tokens),
        **options,
    )


@pytest.fixture
def cache(clock: Clock) -> MemoryCache:
    return cache_on(clock)


def lease(cache: MemoryCache, key: bytes = b"k") -> int:
    found = cache.fetch(key, 10_000)
    assert found.token is not None
    return found.token


def test_a_miss_takes_the_lease_and_its_fill_stores(cache: MemoryCache) -> None:
    assert cache.fetch(b"k", 5000) == Fetched(Found.LEASE, None, 1)
    assert cache.fetch(b"k", 5000) == Fetched(Found.WAIT, None, None, 5001)
    assert cache.fill(1, b"k", b"v", StoreOptions([b"t"], 60_000))
    assert cache.fetch(b"k", 5000) == Fetched(Found.HIT, b"v")
    assert not cache.fill(1, b"k", b"again", StoreOptions())
    counted = cache.counters()
    assert (counted.hits, counted.misses, counted.puts) == (1, 2, 1)
    assert cache.freshness.counts() == FreshCounts(0, 0, 1, 1, 1, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: done(cache.invalidate_tag(b"t")),
        lambda cache: done(cache.invalidate_tag(b"t", soft=True)),
        lambda cache: done(cache.invalidate_any([b"u", b"t"])),
        lambda cache: done(cache.invalidate_all([b"u", b"t"])),
        lambda cache: done(cache.invalidate_keys([b"k"])),
        lambda cache: done(cache.invalidate_keys([b"k"], soft=True)),
        lambda cache: cache.delete(b"k"),
        lambda cache: done(cache.flush()),
        lambda cache: cache.put(b"k", b"other"),
        lambda cache: (cache.put(b"k", b"other"), cache.delete(b"k")),
        lambda cache: done(cache.invalidate_any([b"%d" % number for number in range(2000)])),
    ],
)
def test_what_was_invalidated_meanwhile_is_refused(cache: MemoryCache, change: Any) -> None:
    token = lease(cache)
    change(cache)
    there = cache.get(b"k")
    assert not cache.fill(token, b"k", b"old", StoreOptions([b"t", b"u"]))
    assert cache.get(b"k") == there
    assert cache.delete(b"k") == (there is not None)
    assert cache.fill(lease(cache), b"k", b"new", StoreOptions([b"t", b"u"]))


def test_a_value_that_expires_while_another_is_computed_outdates_it(
    cache: MemoryCache, clock: Clock
) -> None:
    token = lease(cache)
    cache.put(b"k", b"newer", (), 10)
    clock.advance(1)
    done(cache.sweep())  # type: ignore[arg-type]
    assert not cache.fill(token, b"k", b"old", StoreOptions())


def test_tags_of_rules_count(clock: Clock) -> None:
    rules = TagRules([TagRule("posts", "post:{id}", ("post:{id}",))])
    cache = cache_on(clock, limits=Limits(tag_rules=rules))
    token = lease(cache, b"post:7")
    done(cache.invalidate_tag(b"post:7"))
    assert not cache.fill(token, b"post:7", b"old", StoreOptions())


def test_a_lease_ends_with_its_time(cache: MemoryCache, clock: Clock) -> None:
    token = lease(cache)
    clock.advance(10)
    assert not cache.fill(token, b"k", b"late", StoreOptions())
    assert not cache.release(token, b"k")
    assert lease(cache) != token


def test_the_token_of_another_key_ends_no_lease(cache: MemoryCache) -> None:
    mine, other = lease(cache, b"mine"), lease(cache, b"other")
    assert not cache.fill(other, b"mine", b"v", StoreOptions())
    assert not cache.release(other, b"mine")
    assert cache.fill(mine, b"mine", b"v", StoreOptions())
    assert cache.release(other, b"other")


def test_a_value_that_is_no_good_leaves_the_lease(cache: MemoryCache) -> None:
    token = lease(cache)
    with pytest.raises(TagTooLong):
        cache.fill(token, b"k", b"v", StoreOptions([b"x" * 2000]))
    assert cache.fill(token, b"k", b"v", StoreOptions())
    with pytest.raises(KeyTooLong):
        cache.fetch(b"x" * 2000, 1000)


def test_a_flush_ends_all_leases(cache: MemoryCache) -> None:
    ended: list[bytes] = []
    cache.freshness.leases.on_end = ended.append
    old, other = lease(cache), lease(cache, b"other")
    assert done(cache.flush()) == 0
    assert sorted(ended) == [b"k", b"other"]
    assert cache.freshness.counts().leases == 0
    new = lease(cache)
    assert not cache.fill(old, b"k", b"old", StoreOptions())
    assert not cache.release(other, b"other")
    assert cache.fill(new, b"k", b"new", StoreOptions())


def test_who_waits_is_told_when_a_lease_ends(cache: MemoryCache) -> None:
    ended: list[bytes] = []
    cache.freshness.leases.on_end = ended.append
    cache.fill(lease(cache), b"k", b"v", StoreOptions())
    cache.delete(b"k")
    token = lease(cache)
    cache.delete(b"k")
    cache.fill(token, b"k", b"refused", StoreOptions())
    cache.release(lease(cache), b"k")
    assert ended == [b"k"] * 3


def test_more_leases_than_are_kept_end_the_oldest(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MOST_LEASES", 2)
    tokens = count(1)
    kept, ended = Leases(lambda: next(tokens)), list[bytes]()
    kept.on_end = ended.append
    for key in (b"a", b"b", b"c"):
        kept.grant(key, 10, 0)
    assert ended == [b"a"]
    assert len(kept) == 2
    assert kept.of(b"a", 1) is None


def test_a_lease_older_than_what_is_remembered_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MOST_TAGS", 2)
    kept = Leases(lambda: 1)
    old = kept.grant(b"old", 10, 0)
    kept.outdate_tags([b"a"])
    newer = kept.grant(b"newer", 10, 0)
    kept.outdate_tags([b"b", b"c"])
    assert not kept.is_good(old, [])
    assert kept.is_good(newer, [b"a"])
    kept.outdate_tags([b"d", b"e"])
    assert not kept.is_good(newer, [b"a"])
    assert kept.memory < 2000


def test_an_entry_is_stale_after_its_time_for_its_grace(cache: MemoryCache, clock: Clock) -> None:
    cache.put_with(b"k", b"v", StoreOptions([b"t"], 1000, 5000))
    clock.advance(1)
    assert cache.get(b"k") is None
    assert cache.peek(b"k") is None
    assert done(cache.keys_by_tag(b"t")) == []
    assert cache.totals().items == 0
    assert cache.fetch(b"k", 1000) == Fetched(Found.STALE, b"v", 1, 0, (b"t",))
    assert cache.fetch(b"k", 1000) == Fetched(Found.STALE, b"v", None, 1001, (b"t",))
    assert cache.activity(b"t").stale_served == 2
    clock.advance(5)
    assert cache.fetch(b"k", 1000).found is Found.LEASE
    assert cache.freshness.counts().stale_items == 0


def test_what_was_softly_invalidated_is_stale_only_with_a_grace(cache: MemoryCache) -> None:
    cache.put_with(b"kept", b"v", StoreOptions([b"t"], None, 5000))
    cache.put(b"gone", b"v", [b"t"])
    assert done(cache.invalidate_tag(b"t", soft=True)) == 2
    assert cache.fetch(b"kept", 1000).found is Found.STALE
    assert cache.fetch(b"gone", 1000).found is Found.LEASE
    assert done(cache.invalidate_tag(b"t")) == 0
    assert cache.fetch(b"kept", 1000).found is Found.WAIT
    assert cache.counters().invalidations == 2


def test_a_store_without_a_grace_ends_that_of_the_value_before(
    cache: MemoryCache, clock: Clock
) -> None:
    cache.put_with(b"k", b"first", StoreOptions([], 1000, 60_000))
    clock.advance(1)
    assert cache.fetch(b"k", 500).found is Found.STALE
    cache.put(b"k", b"second", (), 1000)
    clock.advance(1)
    assert cache.fetch(b"k", 500).found is Found.LEASE


def test_many_that_were_softly_invalidated_are_stale_until_a_hard_invalidation(
    cache: MemoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidation, "AT_ONCE", 2)
    for number in range(20):
        cache.put_with(b"k%d" % number, b"v", StoreOptions([b"t", b"u"], None, 5000))
    assert done(cache.invalidate_tag(b"t", soft=True)) == 20
    assert cache.backlog == 20
    assert cache.fetch(b"k3", 1000).found is Found.STALE
    # Most are not stale yet: they are still where they were stored.
    assert cache.freshness.counts().stale_items == 1
    assert done(cache.invalidate_tag(b"u")) == 0
    assert all(cache.fetch(b"k%d" % n, 1000).value is None for n in range(20))


@pytest.mark.parametrize("soft", [False, True])
def test_no_value_from_before_an_invalidation_is_stored_after_it(
    cache: MemoryCache, monkeypatch: pytest.MonkeyPatch, soft: bool
) -> None:
    """A large invalidation takes many steps; leases of any of them are refused after it."""
    monkeypatch.setattr(invalidation, "AT_ONCE", 2)
    for number in range(20):
        cache.put(b"k%d" % number, b"v", [b"t", b"u"])
    work = cache.invalidate_any([b"t", b"u"], soft)
    tokens: dict[bytes, int] = {}
    for step in count():
        key = b"new%d" % step
        tokens[key] = lease(cache, key)
        if next(work, self := object()) is self:
            break
    assert len(tokens) > 3
    assert not any(cache.fill(tokens[key], key, b"v", StoreOptions([b"u"])) for key in tokens)


def test_stale_entries_are_the_first_to_be_evicted(clock: Clock) -> None:
    cache = cache_on(clock, limits=Limits(max_memory=3000))
    for number in range(4):
        cache.put_with(b"s%d" % number, b"v", StoreOptions([], 1000, 60_000))
    clock.advance(1)
    done(cache.sweep())  # type: ignore[arg-type]
    for number in range(7):
        cache.put(b"k%d" % number, b"v")
        assert cache.memory <= 3000
    assert cache.counters().evictions == 0
    assert cache.freshness.counts().stale_items < 4
    assert all(cache.get(b"k%d" % number) for number in range(7))


def test_stale_entries_make_room_where_nothing_is_evicted(clock: Clock) -> None:
    cache = cache_on(clock, limits=Limits(max_memory=1500), policy="noeviction")
    for number in range(3):
        cache.put_with(b"s%d" % number, b"v", StoreOptions([], 1000, 60_000))
    clock.advance(2)
    stored = 0
    with pytest.raises(OutOfMemory):
        for stored in count():
            cache.put(b"k%d" % stored, b"v")
    assert stored > 3
    assert cache.freshness.counts().stale_items == 0


def test_databases_have_their_own_leases(clock: Clock) -> None:
    caches = MemoryCaches(lambda: cache_on(clock), 2)
    token = lease(caches[0])
    assert lease(caches[1]) == token
    done(caches[1].invalidate_tag(b"t"))
    assert caches[0].fill(token, b"k", b"v", StoreOptions([b"t"]))


def test_nothing_is_watched_when_there_is_nothing_to_watch(
    cache: MemoryCache, clock: Clock
) -> None:
    cache.put(b"plain", b"v")
    assert cache.store.leaving is None
    cache.put_with(b"k", b"v", StoreOptions([], 1000, 1000))
    lease(cache, b"other")
    assert cache.store.leaving is not None
    clock.advance(60)
    for _ in range(2):
        done(cache.sweep())  # type: ignore[arg-type]
        clock.advance(60)
    assert cache.store.leaving is None
    assert cache.budget.beside == 0


def test_a_snapshot_keeps_grace_and_no_leases(cache: MemoryCache, clock: Clock) -> None:
    cache.put_with(b"live", b"1", StoreOptions([b"t"], 10_000, 60_000))
    cache.put_with(b"over", b"2", StoreOptions([b"t"], 1000, 60_000))
    cache.put_with(b"soft", b"3", StoreOptions([b"u"], None, 60_000))
    cache.put_with(b"hard", b"4", StoreOptions([b"w"], None, 60_000))
    done(cache.invalidate_tag(b"u", soft=True))
    done(cache.invalidate_tag(b"w"))
    token = lease(cache, b"new")
    clock.advance(5)
    after = cache_on(clock)
    assert [after.restore(entry, 1.0) for entry in cache.saved()] == [True, False, False]
    assert not after.fill(token, b"new", b"v", StoreOptions())
    assert after.get(b"live") == b"1"
    assert after.fetch(b"over", 1000).value == b"2"
    assert after.fetch(b"soft", 1000).value == b"3"
    assert after.fetch(b"hard", 1000).value is None
    clock.advance(5)
    assert after.fetch(b"live", 1000).found is Found.STALE
    clock.advance(50)
    assert after.fetch(b"over", 1000).value is None


def test_a_check_looks_at_stale_entries_too(cache: MemoryCache, clock: Clock) -> None:
    cache.put_with(b"k", b"v", StoreOptions([b"t"], 1000, 60_000))
    clock.advance(2)
    done(cache.sweep())  # type: ignore[arg-type]
    assert done(cache.check()).faults == ()
    cache.freshness.stale.store.size += 1
    (fault,) = done(cache.check()).faults
    assert fault.startswith("stale: the total of bytes of keys and values")
