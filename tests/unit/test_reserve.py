"""The reserve is let go of when memory is short, and had again when there is some."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tagcache.engine.memory import MemoryCache
from tagcache.errors import OutOfMemory
from tagcache.server.upkeep.memory_reserve import (
    AHEAD_SECONDS,
    CHECK_SECONDS,
    PIECE_BYTES,
    PIECES,
    MemoryReserve,
    address_space,
)
from tests.helpers import done


class Memory:
    """So many pieces can be had."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, size: int) -> object:
        count = size // PIECE_BYTES
        if self.free < count:
            raise MemoryError
        self.free -= count
        return Pieces(self, count)


class Pieces:
    def __init__(self, memory: Memory, count: int) -> None:
        self.memory = memory
        self.count = count

    def __del__(self) -> None:
        self.memory.free += self.count


def short(free: int) -> tuple[Memory, MemoryCache, Clock, MemoryReserve]:
    memory, cache, clock = Memory(PIECES), MemoryCache(), Clock()
    cache.put(b"k", b"v" * 10_000)
    reserve = MemoryReserve(cache, clock, memory)
    assert memory.free == 0
    reserve.release()
    assert memory.free == PIECES
    memory.free = free
    with pytest.raises(OutOfMemory):
        cache.put(b"l", b"v")
    return memory, cache, clock, reserve


def test_stores_go_on_when_there_is_thrice_the_reserve() -> None:
    memory, cache, clock, _ = short(3 * PIECES - 1)
    clock.advance(CHECK_SECONDS)
    assert cache.refusing
    assert memory.free == 3 * PIECES - 1
    memory.free = 3 * PIECES
    clock.advance(CHECK_SECONDS)
    assert not cache.refusing
    assert memory.free == 2 * PIECES
    cache.put(b"l", b"v")
    assert len(clock.getDelayedCalls()) == 1


def test_or_when_entries_gave_memory_back_though_it_is_in_pieces() -> None:
    memory, cache, clock, _ = short(3)
    done(cache.flush())
    for _ in cache.reclaim():
        pass
    clock.advance(CHECK_SECONDS)
    assert cache.refusing
    memory.free = 5
    clock.advance(CHECK_SECONDS)
    assert not cache.refusing
    assert memory.free == 0


def test_a_second_shortage_changes_nothing() -> None:
    _, cache, clock, reserve = short(0)
    reserve.release()
    assert cache.refusing
    assert len(clock.getDelayedCalls()) == 2


def test_stores_are_refused_before_there_is_no_memory_at_all() -> None:
    memory, cache, clock = Memory(3 * PIECES), MemoryCache(), Clock()
    cache.put(b"k", b"v" * 10_000)
    MemoryReserve(cache, clock, memory)
    clock.advance(AHEAD_SECONDS)
    memory.free = PIECES
    clock.advance(AHEAD_SECONDS)
    assert not cache.refusing
    memory.free = PIECES - 1
    clock.advance(AHEAD_SECONDS)
    assert cache.refusing
    assert memory.free == 2 * PIECES - 1
    # What the reserve gave back is no reason to go on.
    clock.advance(CHECK_SECONDS)
    assert cache.refusing


def test_a_small_reserve_grows_when_there_is_memory_again() -> None:
    memory, cache, clock, _ = short(5)
    done(cache.flush())
    for _ in cache.reclaim():
        pass
    clock.advance(CHECK_SECONDS)
    clock.advance(AHEAD_SECONDS)
    assert not cache.refusing
    assert memory.free == 0
    memory.free = 3 * PIECES
    clock.advance(AHEAD_SECONDS)
    assert memory.free == 3 * PIECES - (PIECES - 5)


def test_address_space_is_had_and_given_back() -> None:
    def held() -> int:
        text = Path("/proc/self/status").read_text()
        return int(text.partition("VmSize:")[2].split()[0]) * 1024

    before = held()
    space = address_space(2**30)
    assert held() >= before + 2**30
    del space
    assert held() < before + 2**29
    with pytest.raises(MemoryError):
        address_space(2**60)
