"""The reserve is let go of when memory is short, and had again when there is some."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tagcache.engine.memory import MemoryCache
from tagcache.errors import OutOfMemory
from tagcache.server.reserve import CHECK_SECONDS, PIECE_BYTES, PIECES, Reserve
from tests.helpers import done


class Memory:
    """So many pieces can be had."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, size: int) -> object:
        assert size == PIECE_BYTES
        if not self.free:
            raise MemoryError
        self.free -= 1
        return Piece(self)


class Piece:
    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def __del__(self) -> None:
        self.memory.free += 1


def short(free: int) -> tuple[Memory, MemoryCache, Clock, Reserve]:
    memory, cache, clock = Memory(PIECES), MemoryCache(), Clock()
    cache.put(b"k", b"v" * 10_000)
    reserve = Reserve(cache, clock, memory)
    assert memory.free == 0
    reserve.release()
    assert memory.free == PIECES
    memory.free = free
    with pytest.raises(OutOfMemory):
        cache.put(b"l", b"v")
    return memory, cache, clock, reserve


def test_stores_go_on_when_there_is_twice_the_reserve() -> None:
    memory, cache, clock, _ = short(PIECES)
    clock.advance(CHECK_SECONDS)
    assert cache.refusing
    assert memory.free == PIECES
    memory.free = 2 * PIECES
    clock.advance(CHECK_SECONDS)
    assert not cache.refusing
    assert memory.free == PIECES
    cache.put(b"l", b"v")
    assert not clock.getDelayedCalls()


def test_or_when_entries_gave_memory_back_though_it_is_in_pieces() -> None:
    memory, cache, clock, reserve = short(3)
    done(cache.flush())
    for _ in cache.reclaim():
        pass
    clock.advance(CHECK_SECONDS)
    assert cache.refusing
    memory.free = 5
    clock.advance(CHECK_SECONDS)
    assert not cache.refusing
    assert memory.free == 0
    del reserve
    assert memory.free == 5


def test_a_second_shortage_changes_nothing() -> None:
    _, cache, clock, reserve = short(0)
    reserve.release()
    assert cache.refusing
    assert len(clock.getDelayedCalls()) == 1
