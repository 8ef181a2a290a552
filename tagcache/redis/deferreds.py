"""Run coroutines as Deferreds, and wait for several Deferreds."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

_P = ParamSpec("_P")
_T = TypeVar("_T")


def as_deferred(
    function: Callable[_P, Coroutine[Deferred[Any], Any, _T]],
) -> Callable[_P, Deferred[_T]]:
    """Make an ``async def`` function run at once and return a Deferred of its result."""

    @wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        return Deferred.fromCoroutine(function(*args, **kwargs))

    return run


def together(works: Iterable[Deferred[_T]]) -> Deferred[list[_T]]:
    """Return a Deferred of all results, or of the first failure itself."""
    return gatherResults(works, consumeErrors=True).addErrback(_unwrap)


def afterwards(result: _T, call: Callable[[Any], None], argument: Any) -> _T:
    """Make a call as a callback, and pass on the callback's argument."""
    call(argument)
    return result


def to_the_end(work: Deferred[_T]) -> Deferred[_T]:
    """Return a Deferred of the same result; cancelling it does not stop the work."""
    told: Deferred[_T] = Deferred()

    def tell(result: Any) -> None:
        if not told.called:
            told.callback(result)

    work.addBoth(tell)
    return told


def _unwrap(reason: Failure) -> Failure:
    error = reason.value
    return error.subFailure if isinstance(error, FirstError) else reason
