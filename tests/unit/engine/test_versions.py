"""The versions of entries, by which WATCH notices changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock

from tagcache.engine.invalidation import AT_ONCE
from tagcache.engine.memory import MemoryCache
from tagcache.model.work import run_to_end

Change = Callable[[MemoryCache], object]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> MemoryCache:
    return MemoryCache(monotonic=clock.seconds)


def stored_for_no_time(cache: MemoryCache) -> None:
    draft = cache.draft([b"k"])
    draft.put(b"k", b"v", (), draft.now_ms)
    cache.carry_out(draft)


def stored_and_deleted(cache: MemoryCache) -> None:
    cache.put(b"k", b"v")
    cache.delete(b"k")


@pytest.mark.parametrize("change", [stored_and_deleted, stored_for_no_time])
def test_an_absent_entry_that_was_stored_meanwhile_has_changed(
    cache: MemoryCache, change: Change
) -> None:
    version = cache.version(b"k")
    change(cache)
    assert cache.get(b"k") is None
    assert cache.version(b"k") != version


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.put(b"k", b"v", [b"t"], 1000),
        lambda cache: cache.touch(b"k", 1000),
        lambda cache: cache.delete(b"k"),
        lambda cache: run_to_end(cache.invalidate_tag(b"t")),
        lambda cache: run_to_end(cache.flush()),
        stored_and_deleted,
        stored_for_no_time,
    ],
)
def test_an_entry_changes_even_if_no_time_passes_and_it_is_stored_as_it_was(
    cache: MemoryCache, change: Change
) -> None:
    cache.put(b"k", b"v", [b"t"], 1000)
    version = cache.version(b"k")
    change(cache)
    assert cache.version(b"k") != version


def test_an_entry_that_expires_has_changed_once(cache: MemoryCache, clock: Clock) -> None:
    cache.put(b"k", b"v", (), 1000)
    before = cache.version(b"k")
    clock.advance(1.5)
    after = cache.version(b"k")
    assert after != before
    run_to_end(cache.sweep())
    cache.get(b"k")
    assert cache.version(b"k") == after


def test_an_entry_that_is_invalidated_with_many_has_changed_once(cache: MemoryCache) -> None:
    for number in range(AT_ONCE + 1):
        cache.put(b"%d" % number, b"v", [b"t"])
    before = cache.version(b"7")
    run_to_end(cache.invalidate_tag(b"t"))
    assert cache.backlog
    after = cache.version(b"7")
    assert after != before
    run_to_end(cache.reclaim())
    assert cache.version(b"7") == after


@pytest.mark.parametrize(
    "no_change",
    [
        lambda cache: cache.get(b"k"),
        lambda cache: cache.draft([b"k"], counts=True),
        lambda cache: cache.delete(b"k"),
        lambda cache: cache.touch(b"k"),
        lambda cache: cache.put(b"other", b"v"),
        lambda cache: run_to_end(cache.flush()),
    ],
)
def test_an_absent_entry_that_stays_absent_has_not_changed(
    cache: MemoryCache, no_change: Change
) -> None:
    cache.put(b"there", b"v")
    version = cache.version(b"k")
    no_change(cache)
    assert cache.version(b"k") == version


def test_the_store_reports_nothing_to_those_who_have_gone(cache: MemoryCache) -> None:
    kept = [cache.version(key) for key in (b"a", b"b")]
    assert len(cache.store.watchers) == 1
    cache.put(b"a", b"v")
    assert len(cache.store.watchers) == 1
    del kept
    cache.put(b"c", b"v")
    assert cache.store.watchers == []


def test_two_who_wait_for_the_same_entry_both_learn_of_its_change(cache: MemoryCache) -> None:
    first = cache.version(b"k")
    cache.put(b"k", b"v")
    second = cache.version(b"k")
    assert cache.version(b"k") == second != first
    cache.put(b"k", b"v")
    assert cache.version(b"k") not in (first, second)
