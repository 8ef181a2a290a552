"""No change is left half done, whichever of its allocations fails.

CPython's own test module makes the allocations fail, one at a time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from tagcache.engine import invalidation, tags
from tagcache.engine.memory import MemoryCache, Policy
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tagcache.model.views import Saved
from tests.helpers import done
from tests.no_memory import failing_allocations

testcapi = failing_allocations()

# Closing a generator may fail for lack of memory.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Change = Callable[[MemoryCache], object]
# After this many attempts in a row without a failure, every allocation of a change was tested.
ENOUGH = 100


def reclaim(cache: MemoryCache) -> None:
    for _ in cache.reclaim():
        pass


def sweep(cache: MemoryCache) -> None:
    for _ in cache.sweep():
        pass


CHANGES: dict[str, Change] = {
    "new": lambda cache: cache.put(b"new", b"v" * 1000, [b"all", b"t1", b"n1", b"n2"], 60_000),
    "plain": lambda cache: cache.put(b"new", b"value"),
    "other tags": lambda cache: cache.put(b"k5", b"v" * 1000, [b"t1", b"n1", b"n2"], 5000),
    "other ttl": lambda cache: cache.put(b"k5", b"value", [b"all", b"t5"], 5),
    "no tags": lambda cache: cache.put(b"k5", b"value"),
    "increment": lambda cache: cache.increment(b"number", 7, [b"n1"], 5000),
    "first": lambda cache: cache.increment(b"count", 7, [b"n1"], 5000),
    "expired": lambda cache: cache.put(b"past", b"v", [b"n1", b"t2"], 5000),
    "evict": lambda cache: cache.put(b"new", b"v" * 190_000, [b"all"], 60_000),
    "fetch": lambda cache: cache.fetch(b"nothing", 1000),
    "grace": lambda cache: cache.put_with(b"new", b"v", StoreOptions([b"n1"], 5000, 5000)),
    "delete": lambda cache: cache.delete(b"k5"),
    "invalidate few": lambda cache: done(cache.invalidate_tag(b"pair")),
    "invalidate": lambda cache: done(cache.invalidate_tag(b"t5")),
    "invalidate any": lambda cache: done(cache.invalidate_any([b"t5", b"pair", b"n1"])),
    "invalidate all": lambda cache: done(cache.invalidate_all([b"t5", b"all"])),
    "flush": lambda cache: done(cache.flush()),
    "reclaim": reclaim,
    "sweep": sweep,
    "restore": lambda cache: cache.restore(Saved(b"new", b"v", (b"all", b"n1"), 1.0, 60.0), 0),
}
# They repeat "invalidate" with more tags.
_LONG = ("invalidate any", "invalidate all")
EACH = [
    pytest.param(change, id=name, marks=[pytest.mark.slow] if name in _LONG else [])
    for name, change in CHANGES.items()
]
# Work that has no memory left to return its result has done all of its changes. (Except for few
# entries, which are removed one by one.)
WHOLE = [CHANGES[name] for name in CHANGES if name.startswith(("invalidate", "flush"))]


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Split sets early and treat three entries as many; the garbage collector is off."""
    monkeypatch.setattr(tags, "_SPLIT_AT", 64)
    monkeypatch.setattr(invalidation, "AT_ONCE", 2)
    gc.disable()
    yield
    gc.enable()


def filled(policy: Policy) -> MemoryCache:
    now = [100.0]
    cache = MemoryCache(Limits(max_memory=200_000), policy=policy, monotonic=lambda: now[0])
    for number in range(3):
        cache.put(b"d%d" % number, b"value", [b"dead", b"t%d" % number], 60_000)
    done(cache.invalidate_tag(b"dead"))
    cache.put(b"past", b"value", [b"t1", b"gone"], 10)
    # The deadline of this entry moves past the bucket in which the entry stays.
    cache.put(b"late", b"value", (), 600)
    now[0] += 0.5
    cache.put(b"late", b"value", (), 600)
    now[0] += 0.5
    for number in range(2):
        cache.put(b"p%d" % number, b"value", [b"pair"])
    # One entry less than the number at which the set of this tag is split.
    for number in range(63):
        cache.put(b"k%d" % number, b"%d" % number, [b"all", b"t%d" % (number % 21)], 60_000)
    cache.put(b"number", b"5", [b"all"], 60_000)
    return cache


def content(cache: MemoryCache) -> dict[bytes, tuple[bytes, tuple[bytes, ...], float]]:
    keys = [b"k%d" % number for number in range(63)] + [b"number", b"past", b"new", b"count"]
    keys += [b"d0", b"p0", b"p1", b"late"]
    found = {key: cache.peek(key) for key in keys}
    return {key: (each.value, each.tags, each.ttl) for key, each in found.items() if each}


@pytest.mark.parametrize("policy", ["sieve", pytest.param("lru", marks=pytest.mark.slow)])
@pytest.mark.parametrize("change", EACH)
def test_each_allocation_fails_once(policy: Policy, change: Change) -> None:
    cache = filled(policy)
    before = content(cache)
    change(cache)
    after = content(cache)
    failures = number = quiet = 0
    while quiet < ENOUGH:
        number += 1
        quiet += 1
        cache = filled(policy)
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
            quiet = 0
            failures += 1
            now = content(cache)
            if change is CHANGES["invalidate few"]:
                assert after.items() <= now.items() <= before.items(), number
            else:
                assert now == before or (change in WHOLE and now == after), number
            # The cache works as before.
            change(cache)
            assert done(cache.check()).faults == ()
    assert failures
