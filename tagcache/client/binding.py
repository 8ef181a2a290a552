"""The methods of the clients, each bound to how a client carries requests out.

A command is written once, in tagcache.client.requests; what differs is whether its result is
returned, awaited, or comes when a pipeline has run.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from tagcache.client.requests import Batch, Request, Requests

T = TypeVar("T")
P = ParamSpec("P")


def _returned(
    make: Callable[Concatenate[Requests, P], Request[T] | Batch[T]],
) -> Callable[Concatenate[Any, P], T]:
    @wraps(make)
    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, self._run(make(self._requests, *args, **kwargs)))

    return method


def _awaited(
    make: Callable[Concatenate[Requests, P], Request[T] | Batch[T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    @wraps(make)
    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, await self._run(make(self._requests, *args, **kwargs)))

    return method


class Pending(Generic[T]):
    """The result of a command in a pipeline, which is there when the pipeline has run."""

    __slots__ = ("_error", "_result", "done")

    def __init__(self) -> None:
        self.done = False
        self._error: Exception | None = None
        self._result: T | None = None

    def result(self) -> T:
        """Return the result, or raise what the command raised.

        Raises RuntimeError if the pipeline has not run.
        """
        if not self.done:
            raise RuntimeError("the pipeline has not run yet")
        if self._error is not None:
            raise self._error
        return cast(T, self._result)

    def settle(self, outcome: Any) -> None:
        """Take the result, or the exception that took its place."""
        self.done = True
        if isinstance(outcome, Exception):
            self._error = outcome
        else:
            self._result = outcome


def _queued(
    make: Callable[Concatenate[Requests, P], Request[T]],
) -> Callable[Concatenate[Any, P], Pending[T]]:
    @wraps(make)
    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Pending[T]:
        return cast("Pending[T]", self._queue(make(self._requests, *args, **kwargs)))

    return method


class BlockingCommands:
    """Every command; its method returns the result."""

    get = _returned(Requests.get)
    put = _returned(Requests.put)
    add = _returned(Requests.add)
    get_many = _returned(Requests.get_many)
    put_many = _returned(Requests.put_many)
    delete = _returned(Requests.delete)
    delete_many = _returned(Requests.delete_many)
    increment = _returned(Requests.increment)
    decrement = _returned(Requests.decrement)
    touch = _returned(Requests.touch)
    invalidate_tag = _returned(Requests.invalidate_tag)
    invalidate_tags = _returned(Requests.invalidate_tags)
    invalidate_keys = _returned(Requests.invalidate_keys)
    keys_by_tag = _returned(Requests.keys_by_tag)
    search = _returned(Requests.search)
    flush = _returned(Requests.flush)
    stats = _returned(Requests.stats)
    info = _returned(Requests.info)
    ping = _returned(Requests.ping)
    clients = _returned(Requests.clients)


class AwaitedCommands:
    """Every command; its method is a coroutine of the result."""

    get = _awaited(Requests.get)
    put = _awaited(Requests.put)
    add = _awaited(Requests.add)
    get_many = _awaited(Requests.get_many)
    put_many = _awaited(Requests.put_many)
    delete = _awaited(Requests.delete)
    delete_many = _awaited(Requests.delete_many)
    increment = _awaited(Requests.increment)
    decrement = _awaited(Requests.decrement)
    touch = _awaited(Requests.touch)
    invalidate_tag = _awaited(Requests.invalidate_tag)
    invalidate_tags = _awaited(Requests.invalidate_tags)
    invalidate_keys = _awaited(Requests.invalidate_keys)
    keys_by_tag = _awaited(Requests.keys_by_tag)
    search = _awaited(Requests.search)
    flush = _awaited(Requests.flush)
    stats = _awaited(Requests.stats)
    info = _awaited(Requests.info)
    ping = _awaited(Requests.ping)
    clients = _awaited(Requests.clients)


class QueuedCommands:
    """The commands of a pipeline; a method returns what will hold the result."""

    get = _queued(Requests.get)
    put = _queued(Requests.put)
    add = _queued(Requests.add)
    delete = _queued(Requests.delete)
    increment = _queued(Requests.increment)
    decrement = _queued(Requests.decrement)
    touch = _queued(Requests.touch)
    invalidate_tag = _queued(Requests.invalidate_tag)
    invalidate_tags = _queued(Requests.invalidate_tags)
    invalidate_keys = _queued(Requests.invalidate_keys)
    keys_by_tag = _queued(Requests.keys_by_tag)
    flush = _queued(Requests.flush)
    stats = _queued(Requests.stats)
    ping = _queued(Requests.ping)
    clients = _queued(Requests.clients)
