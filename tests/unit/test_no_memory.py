"""Whatever allocation fails in the middle of a change, the cache agrees with itself.

CPython's own test module makes the allocations fail, one after the other.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from tagcache.engine import tags
from tagcache.engine.memory import MemoryCache, Policy
from tagcache.errors import OutOfMemory
from tagcache.model.limits import Limits
from tests.helpers import done

testcapi = pytest.importorskip("_testcapi", reason="this Python comes without its test modules")

# Of a generator that there was no memory to close.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Change = Callable[[MemoryCache], object]
# So many allocations are made to fail at most; no change makes more.
MOST = 400

CHANGES: dict[str, Change] = {
    "new": lambda cache: cache.put(b"new", b"v" * 1000, [b"all", b"t1", b"n1", b"n2"], 60_000),
    "plain": lambda cache: cache.put(b"new", b"value"),
    "other tags": lambda cache: cache.put(b"k5", b"v" * 1000, [b"t1", b"n1", b"n2"], 5000),
    "other ttl": lambda cache: cache.put(b"k5", b"value", [b"all", b"t5"], 5),
    "no tags": lambda cache: cache.put(b"k5", b"value"),
    "increment": lambda cache: cache.increment(b"number", 7, [b"n1"], 5000),
    "first": lambda cache: cache.increment(b"count", 7, [b"n1"], 5000),
    "expired": lambda cache: cache.put(b"past", b"v", [b"n1", b"t2"], 5000),
    "delete": lambda cache: cache.delete(b"k5"),
    "invalidate": lambda cache: done(cache.invalidate_tag(b"t5")),
}


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have sets split early; and no collection may allocate in between."""
    monkeypatch.setattr(tags, "_SPLIT_AT", 64)
    gc.disable()
    yield
    gc.enable()


def filled(policy: Policy) -> MemoryCache:
    now = [100.0]
    cache = MemoryCache(Limits(max_memory=200_000), policy=policy, monotonic=lambda: now[0])
    cache.put(b"past", b"value", [b"t1", b"gone"], 10)
    now[0] += 1
    # One less than what makes the set of this tag be split.
    for number in range(63):
        cache.put(b"k%d" % number, b"%d" % number, [b"all", b"t%d" % (number % 21)], 60_000)
    cache.put(b"number", b"5", [b"all"], 60_000)
    return cache


def content(cache: MemoryCache) -> dict[bytes, tuple[bytes, tuple[bytes, ...], float]]:
    keys = [b"k%d" % number for number in range(63)] + [b"number", b"past", b"new", b"count"]
    found = {key: cache.peek(key) for key in keys}
    return {key: (each.value, each.tags, each.ttl) for key, each in found.items() if each}


@pytest.mark.parametrize("policy", ["sieve", "lru"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_allocation_fails_once(policy: Policy, change: Change) -> None:
    failures = 0
    for number in range(1, MOST):
        cache = filled(policy)
        before = content(cache)
        testcapi.set_nomemory(number, number + 1)
        try:
            change(cache)
            failed = False
        except MemoryError:
            failed = True
        finally:
            testcapi.remove_mem_hooks()
        found = done(cache.check())
        assert found.faults == (), number
        if failed:
            failures += 1
            if change not in (CHANGES["delete"], CHANGES["invalidate"]):
                assert content(cache) == before, number
            # And it goes on as if nothing had been.
            change(cache)
            assert done(cache.check()).faults == ()
    assert failures


def test_while_it_refuses_only_stores_are_refused() -> None:
    cache = filled("sieve")
    cache.refusing = True
    for name in ("new", "plain", "other tags", "increment", "first"):
        with pytest.raises(OutOfMemory):
            CHANGES[name](cache)
    assert cache.get(b"k5") == b"5"
    assert cache.delete(b"k5")
    assert done(cache.invalidate_tag(b"t1")) == 3
    done(cache.flush())
    for _ in cache.reclaim():
        pass
    cache.refusing = False
    cache.put(b"k", b"v")
    assert cache.get(b"k") == b"v"


def test_refusing_is_no_limit_that_entries_are_evicted_for() -> None:
    cache = MemoryCache()
    cache.put(b"k", b"v")
    cache.refusing = True
    for _ in cache.reclaim():
        pass
    assert cache.get(b"k") == b"v"
    cache.limits = Limits(max_key_length=5)
    with pytest.raises(OutOfMemory):
        cache.put(b"k", b"w")
    cache.refusing = False
    cache.put(b"k", b"w")
