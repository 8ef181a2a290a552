"""One way to go on with a result that is there, or comes later."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")
U = TypeVar("U")


def then(result: T | Deferred[T], function: Callable[[T], U | Deferred[U]]) -> U | Deferred[U]:
    """Return what ``function`` makes of a result, or a Deferred of it if that comes later."""
    if isinstance(result, Deferred):
        return result.addCallback(function)
    return function(result)
