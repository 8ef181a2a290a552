"""Single flight: of all callers in one process that miss the same key, one computes the value.

The two classes differ in more than ``await``: threads need locks, and coroutines promises.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tagcache.client.awaited_pool import INetwork

# The keys whose producers make this call, each with the id of its table.
_computing: ContextVar[tuple[tuple[int, bytes], ...]] = ContextVar("tagcache_computing", default=())


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a computation: the value with its tags as they are sent, or the error.

    ``is_fresh`` says that the value was stored, and not invalidated meanwhile; ``has_stale`` that
    the value is stale, or was computed from a stale one.
    """

    value: Any = None
    tags: tuple[bytes, ...] = ()
    is_fresh: bool = False
    has_stale: bool = False
    error: Exception | None = None


class Phase(Enum):
    """The progress of a call."""

    LOOKING = 0
    """The producer has not been called."""
    COMPUTING = 1
    STORING = 2
    """The value is being stored, or the server has received it."""


class Call:
    """A miss that one caller handles; others may wait for its outcome.

    Attributes:
        lease: the token under which the value will be stored, if there is one.
        phase: its progress.
        outcome: set at the end, unless the others must look again.
        successor: the call of another caller, which got the lease that this one waits for.
        waiting: functions to call with the outcome, or with None if the others must look again.
    """

    __slots__ = ("_stale", "lease", "outcome", "phase", "successor", "waiting")

    def __init__(self) -> None:
        self.lease: bytes | None = None
        self.phase = Phase.LOOKING
        self._stale = False
        self.outcome: Outcome | None = None
        self.successor: Call | None = None
        self.waiting: list[Callable[[Outcome | None], object]] = []

    def invalidate(self) -> None:
        """Record that the value must not be stored."""
        self._stale = True

    def is_stale(self) -> bool:
        """Return whether the value was invalidated while it was computed."""
        return self._stale


class _Table:
    """The calls in progress, by their key.

    ``waiting`` is the number of callers that wait for others.
    """

    def __init__(self) -> None:
        self.begin()
        _all.add(self)

    def begin(self) -> None:
        """Start without any calls."""
        self._lock = threading.Lock()
        self.waiting = 0
        self._calls: dict[tuple[Hashable, bytes], Call] = {}

    def _here(self) -> Hashable:
        """Return a key that is equal for all callers that can wait for one another."""
        return None

    def enter(self, key: bytes, call: Call) -> Call:
        """Return the call in progress for ``key``; begin ``call`` if there is none."""
        with self._lock:
            return self._calls.setdefault((self._here(), key), call)

    def lead(self, key: bytes, call: Call) -> None:
        """Replace the call in progress for ``key``, so that later callers wait for ``call``."""
        place = (self._here(), key)
        with self._lock:
            before = self._calls.get(place)
            if before is not None:
                before.successor = call
            self._calls[place] = call

    def leave(self, key: bytes, call: Call) -> None:
        """End a call, and wake the callers that wait for it."""
        place = (self._here(), key)
        with self._lock:
            if self._calls.get(place) is call:
                del self._calls[place]
            waiting, call.waiting = call.waiting, []
        for wake in waiting:
            wake(call.outcome)

    def _join(self, key: bytes, call: Call, wake: Callable[[Outcome | None], object]) -> bool:
        """Call ``wake`` at the end of ``call``; return False if ``call`` has already ended."""
        with self._lock:
            is_there = self._calls.get((self._here(), key)) is call
            if is_there:
                call.waiting.append(wake)
                self.waiting += 1
            return is_there

    def _part(self, call: Call, wake: Callable[[Outcome | None], object]) -> None:
        with self._lock:
            self.waiting -= 1
            if wake in call.waiting:
                call.waiting.remove(wake)

    def is_inside(self, key: bytes) -> bool:
        """Return whether the producer of ``key`` makes this call."""
        return (id(self), key) in _computing.get()

    @contextmanager
    def inside(self, key: bytes) -> Iterator[None]:
        """Mark the calls of the block as made by the producer, which must not wait for itself."""
        token = _computing.set((*_computing.get(), (id(self), key)))
        try:
            yield
        finally:
            _computing.reset(token)

    def forget(self, key: bytes) -> list[bytes]:
        """Mark the calls in progress for ``key`` as invalidated; return their leases."""
        with self._lock:
            places = [place for place in self._calls if place[1] == key]
            calls = [self._calls.pop(place) for place in places]
        for call in calls:
            call.invalidate()
        return [call.lease for call in calls if call.lease is not None]


class Flights(_Table):
    """Single flight among threads. ``monotonic`` returns seconds."""

    monotonic = staticmethod(time.monotonic)

    def outcome(self, key: bytes, call: Call, seconds: float) -> Outcome | None:
        """Wait for the outcome of another thread's call; see ``_for_late``.

        Returns None if the caller must look again, or after ``seconds``.
        """
        phase = call.phase
        future: Future[Outcome | None] = Future()
        if not self._join(key, call, future.set_result):
            return None
        try:
            return _for_late(future.result(seconds), phase)
        except TimeoutError:
            return None
        finally:
            self._part(call, future.set_result)


class AwaitedFlights(_Table):
    """Single flight among the coroutines of each event loop, or of a reactor."""

    def __init__(self, network: INetwork) -> None:
        super().__init__()
        self._network = network

    def monotonic(self) -> float:
        """Return the time in seconds."""
        seconds: float = self._network.monotonic()
        return seconds

    def _here(self) -> Hashable:
        here: Hashable = self._network.here()
        return here

    async def outcome(self, key: bytes, call: Call, seconds: float) -> Outcome | None:
        """Wait for the outcome of another coroutine's call; see Flights.outcome."""
        phase = call.phase
        promise = self._network.promise()
        if not self._join(key, call, promise.resolve):
            return None
        cancel = self._network.call_later(seconds, lambda: promise.resolve(None))
        try:
            return _for_late(await promise.awaited, phase)
        finally:
            cancel()
            self._part(call, promise.resolve)


def _for_late(outcome: Outcome | None, phase: Phase) -> Outcome | None:
    """Return the outcome for a caller that began to wait in this phase; None: it must look again.

    What the producer read before the caller came may also have been invalidated before the caller
    came. If the value was stored after that, the server has refused it, so a stored value is
    fresh for this caller. If it may have been stored before, the caller looks again.
    """
    if outcome is None or outcome.error is not None or phase is Phase.LOOKING:
        return outcome
    return outcome if phase is Phase.COMPUTING and outcome.is_fresh else None


_all: weakref.WeakSet[_Table] = weakref.WeakSet()


def _forked() -> None:
    # The threads that compute exist only in the parent.
    for table in list(_all):
        table.begin()


os.register_at_fork(after_in_child=_forked)
