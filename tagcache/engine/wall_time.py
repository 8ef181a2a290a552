"""Convert times of the monotonic clock to the time of day."""

from __future__ import annotations

from collections.abc import Callable

# How many seconds the wall clock may drift from the monotonic one before ``epoch`` follows it.
_JUMP_SECONDS = 1.0


class WallTime:
    """Converts times of the monotonic clock; both clocks return seconds."""

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._wall = wall
        self._epoch = wall() - monotonic()

    @property
    def epoch(self) -> float:
        """The time of day, in seconds since 1970, when the monotonic clock was at 0."""
        epoch = self._wall() - self.monotonic()
        if abs(epoch - self._epoch) > _JUMP_SECONDS:
            self._epoch = epoch
        return self._epoch
