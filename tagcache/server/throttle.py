"""Slows an address down that keeps failing, without keeping anything waiting."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

FREE_FAILURES = 5
LONGEST_PAUSE_SECONDS = 30.0
FORGET_SECONDS = 300.0
_MOST_ADDRESSES = 10_000


class Throttle:
    """Counts failures by address; after some, each one doubles a pause.

    During the pause attempts are to be refused unseen, so that guessing costs time and not a
    connection. ``monotonic`` returns seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # address: failures, when the pause ends, when the last failure was
        self._failures: OrderedDict[str, tuple[int, float, float]] = OrderedDict()

    def pause(self, address: str) -> float:
        """Return for how many seconds attempts from ``address`` are refused; 0.0 if none."""
        known = self._failures.get(address)
        return max(known[1] - self._monotonic(), 0.0) if known else 0.0

    def failed(self, address: str) -> None:
        """Note a failure."""
        now = self._monotonic()
        count, _, last = self._failures.pop(address, (0, 0.0, now))
        count = 1 if now - last > FORGET_SECONDS else count + 1
        beyond = count - FREE_FAILURES
        pause = min(2.0 ** min(beyond - 1, 10), LONGEST_PAUSE_SECONDS) if beyond > 0 else 0.0
        self._failures[address] = (count, now + pause, now)
        if len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Forget its failures."""
        self._failures.pop(address, None)
