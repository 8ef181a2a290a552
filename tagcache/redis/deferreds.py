"""Waiting for several Deferreds, and not waiting for one."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

Work = Generator[Deferred[Any], Any, Any]
"""What ``inlineCallbacks`` runs."""


def together(works: Iterable[Deferred[Any]]) -> Deferred[list[Any]]:
    """Return a Deferred of all results, or of the first failure itself."""
    return gatherResults(works, consumeErrors=True).addErrback(_unwrap)


def to_the_end(work: Deferred[Any]) -> Deferred[Any]:
    """Return a Deferred of the same result that can be cancelled without stopping the work."""
    told: Deferred[Any] = Deferred()

    def tell(result: Any) -> None:
        if not told.called:
            told.callback(result)

    work.addBoth(tell)
    return told


def _unwrap(reason: Failure) -> Failure:
    error = reason.value
    return error.subFailure if isinstance(error, FirstError) else reason
