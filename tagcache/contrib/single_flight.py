"""Single flight: of several concurrent callers that want the same result, one produces it.

The two classes differ in more than ``await``: threads need a lock, and tasks a table for each loop.
"""

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


class Call(Generic[F]):
    """A result that ``owner``, a thread or a task, is producing.

    ``is_inner``: the owner is producing a result for the same key already. ``lease`` is the token
    under which the result will be stored, if there is one.
    """

    __slots__ = ("_stale", "future", "is_inner", "lease", "owner")

    def __init__(self, future: F, owner: object, is_inner: bool = False) -> None:
        self.future = future
        self.owner = owner
        self.is_inner = is_inner
        self.lease: bytes | None = None
        self._stale = False

    def invalidate(self) -> None:
        """Record that the result must not be stored."""
        self._stale = True

    def is_stale(self) -> bool:
        """Return whether the result has been invalidated while it was produced."""
        return self._stale


class _Abandoned(Exception):
    """The owner was interrupted or cancelled: a waiting caller must produce the result."""


class SingleFlight:
    """Single flight among threads."""

    def __init__(self) -> None:
        self.begin()
        _all.add(self)

    def begin(self) -> None:
        """Start without any calls."""
        self._lock = threading.Lock()
        self._calls: dict[Hashable, Call[Future[Any]]] = {}

    def run(self, key: Hashable, produce: Callable[[Call[Future[Any]]], T]) -> T:
        """Return or raise what ``produce`` does, in this thread or in one that runs already."""
        me = threading.get_ident()
        while True:
            with self._lock:
                call = self._calls.get(key)
                mine = call is None
                if call is None:
                    call = self._calls[key] = Call(Future(), me)
            if mine:
                return self._lead(key, call, produce)
            if call.owner == me:
                # A recursive function would wait for itself.
                return produce(Call(Future(), me, is_inner=True))
            try:
                result: T = call.future.result()
            except _Abandoned:
                continue
            return result

    def _lead(
        self,
        key: Hashable,
        call: Call[Future[Any]],
        produce: Callable[[Call[Future[Any]]], T],
    ) -> T:
        error: BaseException = _Abandoned()
        try:
            result = produce(call)
        except Exception as raised:
            error = raised
            raise
        else:
            call.future.set_result(result)
            return result
        finally:
            with self._lock:
                if self._calls.get(key) is call:
                    del self._calls[key]
            if not call.future.done():
                call.future.set_exception(error)

    def forget(self, key: Hashable) -> list[bytes]:
        """Keep the result of the current call from later callers; return its lease, if any."""
        with self._lock:
            call = self._calls.pop(key, None)
            if call is None:
                return []
            call.invalidate()
        return [] if call.lease is None else [call.lease]


class AsyncSingleFlight:
    """Single flight among the tasks of each event loop."""

    def __init__(self) -> None:
        self.begin()
        _all.add(self)

    def begin(self) -> None:
        """Start without any calls."""
        self._lock = threading.Lock()
        self._loops: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[Hashable, Call[asyncio.Future[Any]]]
        ] = weakref.WeakKeyDictionary()

    async def run(
        self, key: Hashable, produce: Callable[[Call[asyncio.Future[Any]]], Awaitable[T]]
    ) -> T:
        """Return or raise what ``produce`` does, in this task or in one that runs already."""
        loop = asyncio.get_running_loop()
        with self._lock:
            calls = self._loops.setdefault(loop, {})
        me = asyncio.current_task()
        while True:
            call = calls.get(key)
            if call is None:
                call = calls[key] = Call(loop.create_future(), me)
                return await self._lead(key, calls, call, produce)
            if call.owner is me:
                return await produce(Call(loop.create_future(), me, is_inner=True))
            try:
                # A waiting task that is cancelled must not cancel the others.
                result: T = await asyncio.shield(call.future)
            except _Abandoned:
                continue
            return result

    async def _lead(
        self,
        key: Hashable,
        calls: dict[Hashable, Call[asyncio.Future[Any]]],
        call: Call[asyncio.Future[Any]],
        produce: Callable[[Call[asyncio.Future[Any]]], Awaitable[T]],
    ) -> T:
        error: BaseException = _Abandoned()
        try:
            result = await produce(call)
        except Exception as raised:
            # A future cannot hold StopIteration.
            error = RuntimeError(repr(raised)) if isinstance(raised, StopIteration) else raised
            raise
        else:
            call.future.set_result(result)
            return result
        finally:
            if calls.get(key) is call:
                del calls[key]
            if not call.future.done():
                call.future.set_exception(error)
                # Avoid the warning of asyncio if nobody waits for the result.
                call.future.exception()

    def forget(self, key: Hashable) -> list[bytes]:
        """Keep the results of the current calls, in all loops, from later callers.

        Returns their leases.
        """
        with self._lock:
            loops = list(self._loops.values())
        leases = []
        for calls in loops:
            call = calls.pop(key, None)
            if call is not None:
                call.invalidate()
                if call.lease is not None:
                    leases.append(call.lease)
        return leases


_all: weakref.WeakSet[SingleFlight | AsyncSingleFlight] = weakref.WeakSet()


def _forked() -> None:
    # The producing threads exist only in the parent.
    for calls in list(_all):
        calls.begin()


os.register_at_fork(after_in_child=_forked)
