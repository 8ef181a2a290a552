"""The sweeper, and the slices in which it works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from tagcache.engine.memory import MemoryCache
from tagcache.server.upkeep.slices import SLICE_SECONDS, Slices
from tagcache.server.upkeep.sweeper import MUCH, Sweeper
from tests.helpers import done, settings_with


def test_work_is_done_in_slices_between_other_events() -> None:
    now = [0.0]
    done = []
    at_each_turn = []

    class Turns(Clock):
        def callLater(self, *args: Any, **more: Any) -> IDelayedCall:
            at_each_turn.append(len(done))
            return super().callLater(*args, **more)

    def work() -> Iterator[None]:
        for number in range(10):
            now[0] += SLICE_SECONDS / 2
            done.append(number)
            yield

    clock = Turns()
    finished: list[object] = []
    Slices(clock, lambda: now[0]).run(work()).addCallback(finished.append)
    clock.pump([0] * 20)
    assert finished
    assert done == list(range(10))
    assert at_each_turn == [0, 3, 6, 9]


def test_the_sweeper_reclaims_at_each_interval() -> None:
    clock = Clock()
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
    slices = Slices(clock)
    sweeper = Sweeper(
        cache,
        slices,
        settings_with(server={"cleanup_interval_seconds": 10.0}),
        clock,
        lambda: None,
        lambda: 0,
    )
    sweeper.startService()
    cache.put(b"k", b"v", [], 1000)
    clock.pump([9.9, 0, 0])
    assert len(cache) == 1
    clock.pump([0.1, 0, 0])
    assert len(cache) == 0
    cache.put(b"k", b"v", [], 1000)
    sweeper.configure(settings_with(server={"cleanup_interval_seconds": 2.0}))
    clock.pump([2, 0, 0])
    assert len(cache) == 0
    sweeper.stopService()
    clock.pump([0, 0])
    assert clock.getDelayedCalls() == []


def test_a_new_interval_in_the_middle_of_a_sweep_does_not_make_two_sweepers() -> None:
    clock = Clock()
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)

    def endless() -> Iterator[None]:
        while True:
            yield

    cache.sweep = endless  # type: ignore[method-assign]
    settings = settings_with(server={"cleanup_interval_seconds": 1.0})
    now = [0.0]

    def monotonic() -> float:
        now[0] += 1
        return now[0]

    sweeper = Sweeper(cache, Slices(clock, monotonic), settings, clock, lambda: None, lambda: 0)
    sweeper.startService()
    # The endless sweep calls callLater(0), so Clock.advance would never return. Count the
    # delayed calls instead, then stop the sweeper.
    for _ in range(3):
        sweeper.configure(settings)
    assert len(clock.getDelayedCalls()) == 1
    sweeper.stopService()
    assert clock.getDelayedCalls() == []


def test_a_sweep_that_fails_is_logged_and_the_next_one_comes() -> None:
    clock = Clock()
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
    sweeps = []

    def fail() -> Iterator[None]:
        sweeps.append(1)
        raise RuntimeError("boom")
        yield

    cache.sweep = fail  # type: ignore[method-assign]
    sweeper = Sweeper(
        cache,
        Slices(clock),
        settings_with(server={"cleanup_interval_seconds": 1.0}),
        clock,
        lambda: None,
        lambda: 0,
    )
    sweeper.startService()
    with capturedLogs() as events:
        clock.pump([1, 0, 0, 1, 0, 0])
    assert len(sweeps) == 2
    assert len([event for event in events if "log_failure" in event]) == 2
    sweeper.stopService()


def test_what_was_invalidated_is_reclaimed_at_once_and_memory_given_back_after_much() -> None:
    clock = Clock()
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
    trimmed: list[int] = []
    Sweeper(
        cache, Slices(clock), settings_with(), clock, lambda: trimmed.append(len(cache)), lambda: 0
    )
    for count, expected in ((1000, []), (MUCH, [0])):
        for number in range(count):
            cache.put(b"%d" % number, b"v", [b"t"])
        assert done(cache.invalidate_tag(b"t")) == count
        assert cache.backlog == len(cache) == count
        assert cache.totals().items == 0
        while cache.backlog:
            clock.advance(0)
        clock.advance(0)
        assert trimmed == expected
    cache.put(b"k", b"v")
    done(cache.flush())
    clock.pump([0, 0])
    assert len(cache) == 0
    assert clock.getDelayedCalls() == []


def test_memory_that_was_freed_and_not_given_back_is_trimmed() -> None:
    clock = Clock()
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
    resident = [50_000_000]
    trimmed: list[float] = []
    firing: list[Deferred[None]] = []

    def trim() -> Deferred[None]:
        trimmed.append(clock.seconds())
        firing.append(Deferred())
        return firing[-1]

    sweeper = Sweeper(cache, Slices(clock), settings_with(), clock, trim, lambda: resident[0])
    sweeper.startService()
    clock.advance(1)
    # Memory that entries use does not cause a trim.
    cache.put(b"k", b"x" * 1_000_000)
    resident[0] += cache.memory
    clock.advance(1)
    assert not trimmed
    cache.delete(b"k")
    resident[0] += 20_000_000
    clock.advance(1)
    clock.advance(1)
    # No trim starts while another is running.
    assert trimmed == [3]
    resident[0] -= 4_000_000
    firing.pop().callback(None)
    clock.pump([1] * 5)
    # The memory that remains is the new baseline.
    assert trimmed == [3]
    resident[0] += 18_000_000
    clock.advance(1)
    assert trimmed == [3, 10]
    sweeper.stopService()
    firing.pop().callback(None)


def test_a_shortage_while_memory_is_looked_at_does_not_end_the_sweeps() -> None:
    clock = Clock()
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)

    def resident() -> int:
        raise MemoryError

    sweeper = Sweeper(cache, Slices(clock), settings_with(), clock, lambda: None, resident)
    sweeper.startService()
    cache.put(b"k", b"v", [], 1500)
    with capturedLogs() as events:
        clock.pump([1, 0, 1, 0, 0])
    assert len(cache) == 0
    assert len([event for event in events if "log_failure" in event]) == 2
    sweeper.stopService()
