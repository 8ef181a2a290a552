"""Who may have the value that another caller computes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from tagcache.client.single_flight import AwaitedFlights, Call, Outcome, Phase


class Network:
    """An INetwork without a clock."""

    def here(self) -> str:
        return "here"

    def monotonic(self) -> float:
        return 0.0

    def promise(self) -> Any:
        awaited: Deferred[Any] = Deferred()
        return SimpleNamespace(awaited=awaited, resolve=awaited.callback)

    def call_later(self, seconds: float, call: Any) -> Any:
        return lambda: None


@pytest.mark.parametrize(
    ("phase", "is_fresh", "shares"),
    [
        (Phase.LOOKING, False, True),
        (Phase.COMPUTING, False, False),
        (Phase.COMPUTING, True, True),
        # An invalidation may have come after the value was stored, and before the caller.
        (Phase.STORING, True, False),
    ],
)
def test_what_may_have_been_invalidated_before_a_caller_came_is_not_shared(
    phase: Phase, is_fresh: bool, shares: bool
) -> None:
    network: Any = Network()
    flights, call = AwaitedFlights(network), Call()
    assert flights.enter(b"key", call) is call
    call.phase = phase
    shared: list[Outcome | None] = []
    ensureDeferred(flights.outcome(b"key", call, 60.0)).addCallback(shared.append)
    call.phase = Phase.STORING
    call.outcome = Outcome("value", is_fresh=is_fresh)
    assert shared == []
    flights.leave(b"key", call)
    assert shared == [call.outcome if shares else None]
