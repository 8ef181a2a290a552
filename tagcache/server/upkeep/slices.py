"""Run long work in short slices, so that other clients do not wait for it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator

SLICE_SECONDS = 0.001

T = TypeVar("T")


class Slices:
    """Runs iterators to their end, about a millisecond at a time between other events."""

    def __init__(self, reactor: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic

        def end_of_slice() -> Callable[[], bool]:
            end = monotonic() + SLICE_SECONDS
            return lambda: monotonic() > end

        self._cooperator = Cooperator(
            terminationPredicateFactory=end_of_slice,
            scheduler=lambda run: reactor.callLater(0, run),
        )

    def run(self, work: Iterator[Any]) -> Deferred[Any]:
        """Run ``work``; the Deferred fires when it is done, or fails with its exception."""
        return self._cooperator.cooperate(work).whenDone()

    def finish(self, work: Generator[Any, None, T]) -> T | Deferred[T]:
        """Run ``work`` to its end and return its result.

        If that takes longer than a slice, return a Deferred of the result.
        """
        end = self._monotonic() + SLICE_SECONDS
        try:
            next(work)
            while self._monotonic() < end:
                next(work)
        except StopIteration as done:
            result: T = done.value
            return result
        results: list[T] = []

        def rest() -> Iterator[None]:
            results.append((yield from work))

        return self.run(rest()).addCallback(lambda _: results[0])


class Turns:
    """Runs callables one after the other, about a millisecond at a time between other events.

    A connection with more requests than fit into one turn waits here for its next turn.
    """

    def __init__(self, reactor: Any, monotonic: Callable[[], float]) -> None:
        self._reactor = reactor
        self._monotonic = monotonic
        self._waiting: deque[Callable[[], object]] = deque()
        self._scheduled = False

    def wait(self, run: Callable[[], object]) -> None:
        """Call ``run``, which must not raise, after all callables that already wait."""
        self._waiting.append(run)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._run)

    def _run(self) -> None:
        self._scheduled = False
        end = self._monotonic() + SLICE_SECONDS
        # A callable that asks for another turn waits for the next round.
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()
            if self._monotonic() >= end:
                break
        self._schedule()
