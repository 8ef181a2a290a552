"""Stores leave some memory free when the system gives no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tagcache.engine import headroom
from tagcache.engine.admission import Admission
from tagcache.engine.memory import MemoryCache
from tagcache.model.limits import Limits
from tests.helpers import done

# What is stored goes up to the limit of the address space, so it needs a process of its own.
FILL = """
import resource
from tagcache.engine.memory import MemoryCache

cache = MemoryCache()
small = [size for size in range(16, 512, 16) for _ in range(20)]
refused = number = 0
with open("/proc/self/statm") as sizes:
    limit = int(sizes.read().split()[0]) * resource.getpagesize() + 16 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
while refused < 1000:
    number += 1
    try:
        {store}
    except MemoryError:
        refused += 1
blocks = list(map(bytes, small))
print(number - refused, len(cache))
"""
STORES = {
    "small": 'cache.put(b"%d" % number, b"v" * 100, [b"all", b"%d" % (number % 100)], 60000)',
    "tags": 'cache.put(b"%d" % number, b"v", [b"%d-%d" % (number, n) for n in range(30)])',
    "large": 'cache.put(b"%d" % number, b"v" * 20_000, [b"all"])',
}


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_small_objects_have_room_when_stores_have_none(store: str) -> None:
    command = [sys.executable, "-c", FILL.format(store=store)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    stored, kept = map(int, found.stdout.split())
    assert stored >= kept > 100


def no_memory() -> int:
    raise MemoryError


def test_a_store_without_headroom_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = MemoryCache()
    monkeypatch.setattr(headroom, "check", no_memory)
    for _ in range(2):
        with pytest.raises(MemoryError):
            cache.put(b"k", b"v")
    with pytest.raises(MemoryError):
        cache.add(b"k", b"v", [b"t"])
    with pytest.raises(MemoryError):
        cache.increment(b"k")
    draft = cache.draft([b"k"])
    draft.put(b"k", b"v", (), None)
    with pytest.raises(MemoryError):
        cache.carry_out(draft)
    assert len(cache) == cache.counters().puts == 0
    monkeypatch.undo()
    cache.put(b"k", b"v", [b"t"])
    monkeypatch.setattr(headroom, "check", no_memory)
    assert cache.get(b"k") == b"v"
    assert cache.delete(b"k")
    assert done(cache.check()).faults == ()


def test_remembered_tags_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    admission = Admission(MemoryCache().store, Limits())
    monkeypatch.setattr(headroom, "check", no_memory)
    for number in range(2000):
        tags = (b"all", b"%d" % number)
        assert admission.tags(tags) == tags
    assert len(admission) <= 256


@pytest.mark.parametrize(("length", "tags", "puts"), [(10, 0, 8), (2048, 0, 3), (10, 3, 2)])
def test_checks_come_sooner_with_large_entries(
    monkeypatch: pytest.MonkeyPatch, length: int, tags: int, puts: int
) -> None:
    cache = MemoryCache()
    checked_at = []

    def check() -> int:
        checked_at.append(cache.counters().puts)
        return 7

    monkeypatch.setattr(headroom, "check", check)
    for number in range(20):
        cache.put(b"k%d" % number, b"v" * length, [b"%d" % n for n in range(tags)])
    first, second, *_ = dict.fromkeys(checked_at)
    assert second - first == puts


def test_free_memory_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    plenty = headroom.check()

    def mmap(*args: object, **options: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(headroom, "mmap", mmap)
    assert 0 < headroom.check() < plenty
    monkeypatch.setattr(headroom, "_BLOCKS", (2**62,))
    with pytest.raises(MemoryError):
        headroom.check()
