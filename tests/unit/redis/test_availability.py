"""Whether Redis can be used, and what is logged of it."""

from __future__ import annotations

from tagcache.redis.availability import Availability


def test_it_is_degraded_for_as_long_as_commands_fail() -> None:
    state = Availability("here")
    state.begin()
    state.reached()
    assert state.trouble == ""
    for _ in range(3):
        # The upkeep itself succeeds.
        state.begin()
        state.note("NOREPLICAS")
        state.reached()
        assert state.trouble == "NOREPLICAS"
    state.begin()
    state.reached()
    assert state.trouble == ""
