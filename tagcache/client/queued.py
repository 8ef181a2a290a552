"""The commands as methods of a pipeline; each returns an object that will hold the result."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from tagcache.client.requests import Request, Requests
from tagcache.client.signatures import describe

T = TypeVar("T")
P = ParamSpec("P")


class Pending(Generic[T]):
    """The result of a command in a pipeline, available once the pipeline has run."""

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
        """Set the result, or the exception that replaces it."""
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

    describe(method, make, "Pending[{}]")
    return method


class QueuedCommands:
    """Every command that is one request; see tagcache.client.requests."""

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
