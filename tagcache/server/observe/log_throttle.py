"""Limit the log lines that a client could cause in any number."""

from __future__ import annotations

import time
from collections.abc import Callable


class LogThrottle:
    """Admits one line every ``interval`` seconds, and counts the others.

    ``monotonic`` returns seconds.
    """

    def __init__(
        self, interval: float = 10.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = interval
        self._monotonic = monotonic
        self._quiet_until = float("-inf")
        self._suppressed = 0

    def now(self) -> str | None:
        """Return a note about suppressed lines, to append to this one; None: suppress it."""
        moment = self._monotonic()
        if moment < self._quiet_until:
            self._suppressed += 1
            return None
        self._quiet_until = moment + self._interval
        suppressed, self._suppressed = self._suppressed, 0
        return f" ({suppressed} more since the last such line)" if suppressed else ""
