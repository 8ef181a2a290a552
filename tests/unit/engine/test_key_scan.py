"""Scans of keys, while entries come and go."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tagcache.engine.memory import MemoryCache
from tagcache.model.work import run_to_end
from tests.helpers import done

KEYS = st.integers(0, 400).map(lambda number: b"key-%d" % number)
CHANGES = st.lists(st.tuples(st.sampled_from(["put", "delete"]), KEYS), max_size=30)


def scan(
    cache: MemoryCache, count: int, between: Callable[[], object] = lambda: None
) -> list[bytes]:
    found: list[bytes] = []
    cursor, pages = 0, 0
    while pages == 0 or cursor:
        cursor, keys = done(cache.scan_keys(cursor, count, None))
        assert cursor < 2**53
        found += keys
        pages += 1
        between()
    return found


@given(st.sets(KEYS, max_size=300), st.integers(1, 50), st.lists(CHANGES, max_size=60))
def test_a_key_that_is_there_throughout_is_found(
    before: set[bytes], count: int, changes: list[list[tuple[str, bytes]]]
) -> None:
    cache = MemoryCache()
    for key in before:
        cache.put(key, b"v")
    always, ever = set(before), set(before)
    left = iter(changes)

    def change() -> None:
        for what, key in next(left, []):
            if what == "put":
                cache.put(key, b"w")
                ever.add(key)
            else:
                cache.delete(key)
                always.discard(key)

    found = scan(cache, count, change)
    assert always <= set(found) <= ever


def test_without_changes_every_key_is_found_once() -> None:
    cache = MemoryCache()
    keys = [b"%d" % number for number in range(5000)]
    for key in keys:
        cache.put(key, b"v")
    for count in (1, 7, 1000, 10**6):
        assert sorted(scan(cache, count)) == sorted(keys)
    assert done(cache.scan_keys(0, None, lambda key: key.endswith(b"77")))[0] == 0


def test_two_scans_do_not_disturb_each_other() -> None:
    cache = MemoryCache()
    for number in range(100):
        cache.put(b"%d" % number, b"v")
    seen: list[list[bytes]] = []

    def other_scan() -> None:
        if len(seen) < 3:
            seen.append([])
            # A key that the first scan need not find, but this one must.
            cache.put(b"new-%d" % len(seen), b"v")
            seen[-1] = scan(cache, 9)

    scan(cache, 5, other_scan)
    assert [b"new-%d" % number in seen[number - 1] for number in (1, 2, 3)] == [True] * 3


def test_dead_entries_are_not_found() -> None:
    now = [0.0]
    cache = MemoryCache(monotonic=lambda: now[0], random=Random(1))
    cache.put(b"short", b"v", (), 10)
    for number in range(1000):
        cache.put(b"%d" % number, b"v", (b"t",))
    run_to_end(cache.invalidate_tag(b"t"))
    assert scan(cache, 100) == [b"short"]
    now[0] = 1.0
    assert scan(cache, 100) == []
    assert cache.random_key() is None


def test_any_key_may_be_the_random_one() -> None:
    cache = MemoryCache(random=Random(2))
    assert cache.random_key() is None
    for number in range(5):
        cache.put(b"%d" % number, b"v")
    assert {cache.random_key() for _ in range(200)} == {b"0", b"1", b"2", b"3", b"4"}


def test_large_shards_are_sorted_in_slices() -> None:
    cache = MemoryCache()
    for number in range(20_000):
        cache.put(b"%d" % number, b"v")
    steps = sum(1 for _ in cache.scan_keys(0, 1, None))
    assert steps > 60
