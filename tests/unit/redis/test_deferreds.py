"""Coroutines as Deferreds, and waiting for several Deferreds."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from tagcache.redis.deferreds import as_deferred, to_the_end, together


@as_deferred
async def doubled(number: Deferred[int]) -> int:
    """Twice."""
    return 2 * await number


def test_a_coroutine_fires_at_once_where_everything_is_there() -> None:
    assert doubled(succeed(2)).result == 4
    assert doubled.__doc__ == "Twice."
    later: Deferred[int] = Deferred()
    waiting = doubled(later)
    assert not waiting.called
    later.callback(3)
    assert waiting.result == 6


def test_cancelling_a_coroutine_cancels_what_it_waits_for() -> None:
    cancelled: list[Any] = []
    outcome = doubled(Deferred(cancelled.append))
    outcome.addErrback(lambda reason: reason.type)
    outcome.cancel()
    assert cancelled
    assert outcome.result is CancelledError


def test_together_fails_with_the_first_failure_itself() -> None:
    assert together([succeed(1), succeed(2)]).result == [1, 2]
    failed = together([succeed(1), fail(KeyError("a")), fail(KeyError("b"))])
    reasons: list[Any] = []
    failed.addErrback(reasons.append)
    with pytest.raises(KeyError, match="a"):
        reasons[0].raiseException()


def test_what_goes_on_to_the_end_is_not_cancelled() -> None:
    cancelled: list[Any] = []
    work: Deferred[int] = Deferred(cancelled.append)
    outcome = to_the_end(work)
    outcome.addErrback(lambda reason: reason.type)
    outcome.cancel()
    assert outcome.result is CancelledError
    assert not cancelled
    work.callback(1)
    assert to_the_end(succeed(5)).result == 5
    failed = to_the_end(fail(KeyError()))
    failed.addErrback(lambda reason: reason.type)
    assert failed.result is KeyError
