"""Single-flight: of several that want the same thing at the same time, one produces it."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound="Future[Any] | asyncio.Future[Any]")


class Flight(Generic[F]):
    """Something that is produced at the moment; ``owner`` does that."""

    __slots__ = ("_stale", "future", "owner")

    def __init__(self, future: F, owner: object) -> None:
        self.future = future
        self.owner = owner
        self._stale = False

    def invalidate(self) -> None:
        """Note that what is being produced must not be stored."""
        self._stale = True

    def is_stale(self) -> bool:
        """Say whether what is being produced was invalidated meanwhile."""
        return self._stale


class _GivenUp(Exception):
    """Who produced was interrupted or cancelled; who waits has to do it."""


class SingleFlight:
    """Single-flight among threads."""

    def __init__(self) -> None:
        self.begin()
        _all.add(self)

    def begin(self) -> None:
        """Begin with nothing that is being produced."""
        self._lock = threading.Lock()
        self._open: dict[Hashable, Flight[Future[Any]]] = {}

    def run(self, key: Hashable, produce: Callable[[Flight[Future[Any]]], T]) -> T:
        """Return what ``produce`` returns, or raises, in this thread or in one that runs."""
        me = threading.get_ident()
        while True:
            with self._lock:
                flight = self._open.get(key)
                mine = flight is None
                if flight is None:
                    flight = self._open[key] = Flight(Future(), me)
            if mine:
                return self._lead(key, flight, produce)
            if flight.owner == me:
                # A function that calls itself would wait for itself.
                return produce(Flight(Future(), me))
            try:
                result: T = flight.future.result()
            except _GivenUp:
                continue
            return result

    def _lead(
        self,
        key: Hashable,
        flight: Flight[Future[Any]],
        produce: Callable[[Flight[Future[Any]]], T],
    ) -> T:
        error: BaseException = _GivenUp()
        try:
            result = produce(flight)
        except Exception as raised:
            error = raised
            raise
        else:
            flight.future.set_result(result)
            return result
        finally:
            with self._lock:
                if self._open.get(key) is flight:
                    del self._open[key]
            if not flight.future.done():
                flight.future.set_exception(error)

    def forget(self, key: Hashable) -> None:
        """Let who comes from now on not have what is produced at the moment."""
        with self._lock:
            flight = self._open.pop(key, None)
            if flight is not None:
                flight.invalidate()


class AsyncSingleFlight:
    """Single-flight among the tasks of each event loop."""

    def __init__(self) -> None:
        self.begin()
        _all.add(self)

    def begin(self) -> None:
        """Begin with nothing that is being produced."""
        self._lock = threading.Lock()
        self._loops: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[Hashable, Flight[asyncio.Future[Any]]]
        ] = weakref.WeakKeyDictionary()

    async def run(
        self, key: Hashable, produce: Callable[[Flight[asyncio.Future[Any]]], Awaitable[T]]
    ) -> T:
        """Return what ``produce`` returns, or raises, in this task or in one that runs."""
        loop = asyncio.get_running_loop()
        with self._lock:
            flights = self._loops.setdefault(loop, {})
        me = asyncio.current_task()
        while True:
            flight = flights.get(key)
            if flight is None:
                flight = flights[key] = Flight(loop.create_future(), me)
                return await self._lead(key, flights, flight, produce)
            if flight.owner is me:
                return await produce(Flight(loop.create_future(), me))
            try:
                # One who waits and is cancelled must not cancel the others.
                result: T = await asyncio.shield(flight.future)
            except _GivenUp:
                continue
            return result

    async def _lead(
        self,
        key: Hashable,
        flights: dict[Hashable, Flight[asyncio.Future[Any]]],
        flight: Flight[asyncio.Future[Any]],
        produce: Callable[[Flight[asyncio.Future[Any]]], Awaitable[T]],
    ) -> T:
        error: BaseException = _GivenUp()
        try:
            result = await produce(flight)
        except Exception as raised:
            # A future cannot hold StopIteration.
            error = RuntimeError(repr(raised)) if isinstance(raised, StopIteration) else raised
            raise
        else:
            flight.future.set_result(result)
            return result
        finally:
            if flights.get(key) is flight:
                del flights[key]
            if not flight.future.done():
                flight.future.set_exception(error)
                # Nobody may be waiting; then it is no mistake that nobody looks.
                flight.future.exception()

    def forget(self, key: Hashable) -> None:
        """Let who comes from now on not have what is produced at the moment, in any loop."""
        with self._lock:
            loops = list(self._loops.values())
        for flights in loops:
            flight = flights.pop(key, None)
            if flight is not None:
                flight.invalidate()


_all: weakref.WeakSet[SingleFlight | AsyncSingleFlight] = weakref.WeakSet()


def _forked() -> None:
    # The threads that produce are in the parent.
    for flights in list(_all):
        flights.begin()


os.register_at_fork(after_in_child=_forked)
