"""Changing entries by what is stored."""

from __future__ import annotations

import pytest

from tagcache.engine.memory import MemoryCache
from tagcache.errors import TooManyTags, ValueTooLarge
from tagcache.model.drafts import Draft, Stored
from tagcache.model.limits import Limits

WALL = 1_700_000_000.25


class Clock:
    """Both clocks of a cache; they move together."""

    def __init__(self) -> None:
        self.now = 12_345.678

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now - 12_345.678


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> MemoryCache:
    limits = Limits(max_value_length=10, max_tags_per_entry=2, default_ttl_ms=60_000)
    return MemoryCache(limits, clock.monotonic, clock.wall)


def test_a_draft_shows_what_is_stored(cache: MemoryCache) -> None:
    cache.put(b"k", b"v", [b"t"], 5000)
    draft = cache.draft([b"k", b"none"])
    assert draft.now_ms == 1_700_000_000_250
    assert draft.get(b"k") == Stored(b"v", (b"t",), draft.now_ms + 5000)
    assert draft.get(b"none") is None
    assert draft.default_expiry() == draft.now_ms + 60_000
    with pytest.raises(KeyError):
        draft.get(b"not asked for")


def test_it_is_carried_out_at_once(cache: MemoryCache, clock: Clock) -> None:
    cache.put(b"old", b"v", [b"t"])
    draft = cache.draft([b"old", b"new", b"past"])
    assert draft.delete(b"old")
    assert not draft.delete(b"old")
    draft.put(b"new", b"w", (b"u",), draft.now_ms + 1)
    draft.put(b"past", b"x", (), draft.now_ms)
    assert draft.get(b"new") == Stored(b"w", (b"u",), draft.now_ms + 1)
    assert cache.get(b"old") == b"v"
    cache.carry_out(draft)
    assert cache.get_many([b"old", b"new", b"past"]) == [None, b"w", None]
    clock.now += 0.0011
    assert cache.get(b"new") is None


@pytest.mark.parametrize("left_ms", [1, 999, 1234, 86_400_000, 2**40])
def test_deadlines_read_as_they_were_given(cache: MemoryCache, clock: Clock, left_ms: int) -> None:
    draft = cache.draft([b"k"])
    deadline = draft.now_ms + left_ms
    draft.put(b"k", b"v", (), deadline)
    cache.carry_out(draft)
    for _ in range(5):
        draft = cache.draft([b"k"])
        entry = draft.get(b"k")
        assert entry is not None
        assert entry.expires_ms == deadline
        draft.put(b"k", b"w", (), entry.expires_ms)
        cache.carry_out(draft)
        clock.now += 0.000137


def test_a_time_to_live_is_never_longer_than_it_was_given(cache: MemoryCache, clock: Clock) -> None:
    for _ in range(2000):
        clock.now += 0.0123456789
        cache.put(b"k", b"v", (), 1000)
        draft = cache.draft([b"k"])
        entry = draft.get(b"k")
        assert entry is not None
        assert entry.expires_ms is not None
        assert entry.expires_ms - draft.now_ms == 1000


def test_a_draft_that_is_refused_changes_nothing(cache: MemoryCache) -> None:
    cache.put(b"a", b"v")

    def draft() -> Draft:
        draft = cache.draft([b"a", b"b"])
        draft.delete(b"a")
        return draft

    long = draft()
    long.put(b"b", b"x" * 11)
    with pytest.raises(ValueTooLarge):
        cache.carry_out(long)
    tagged = draft()
    tagged.put(b"b", b"x", (b"1", b"2", b"3"))
    with pytest.raises(TooManyTags):
        cache.carry_out(tagged)
    assert cache.get_many([b"a", b"b"]) == [b"v", None]


def test_hits_and_misses_are_counted_on_request(cache: MemoryCache) -> None:
    cache.put(b"k", b"v")
    cache.draft([b"k"])
    assert cache.counters().hits == 0
    cache.draft([b"k", b"none"], counts=True)
    assert (cache.counters().hits, cache.counters().misses) == (1, 1)


def test_versions_tell_changes(cache: MemoryCache, clock: Clock) -> None:
    versions = [cache.version(b"k")]
    for change in (
        lambda: cache.put(b"k", b"v"),
        lambda: cache.put(b"k", b"w"),
        lambda: cache.touch(b"k", 5),
        lambda: cache.put(b"k", b"w", [b"t"]),
        lambda: cache.delete(b"k"),
    ):
        clock.now += 0.001
        change()
        versions.append(cache.version(b"k"))
        assert versions[-1] != versions[-2]
        assert versions[-1] == cache.version(b"k")
