"""Continues with a result, whether it is a value or a Deferred."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")
U = TypeVar("U")


def then(result: T | Deferred[T], function: Callable[[T], U | Deferred[U]]) -> U | Deferred[U]:
    """Return ``function(result)``, or a Deferred of that if the result is one."""
    if isinstance(result, Deferred):
        return result.addCallback(function)
    return function(result)
