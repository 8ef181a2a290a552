"""Continue with a result, whether it is a value or a Deferred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults, succeed
from twisted.python.failure import Failure

T = TypeVar("T")
U = TypeVar("U")


def then(result: T | Deferred[T], function: Callable[[T], U | Deferred[U]]) -> U | Deferred[U]:
    """Return ``function(result)``, or a Deferred of that if the result is one."""
    if isinstance(result, Deferred):
        return result.addCallback(function)
    return function(result)


def together(results: Sequence[T | Deferred[T]]) -> list[T] | Deferred[list[T]]:
    """Return the results in their order, or a Deferred of them if some are Deferreds.

    The Deferred fails with the first failure.
    """
    if not any(isinstance(result, Deferred) for result in results):
        return list(results)  # type: ignore[arg-type]
    waiting: list[Any] = [r if isinstance(r, Deferred) else succeed(r) for r in results]
    return gatherResults(waiting, consumeErrors=True).addErrback(_unwrap)


def _unwrap(reason: Failure) -> Failure:
    error = reason.value
    return error.subFailure if isinstance(error, FirstError) else reason
