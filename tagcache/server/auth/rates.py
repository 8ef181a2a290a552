"""The rate limit: how many requests an address may make per minute, on all listeners."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from tagcache.config.settings import Settings

_MOST_ADDRESSES = 100_000


class Rates:
    """A token bucket per address, which holds one minute of requests and refills evenly.

    ``monotonic`` returns seconds. 0 per minute means no limit. ``refused`` counts refused requests.
    """

    def __init__(self, settings: Settings, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # address: (requests left, time of that count)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.refused = 0
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take a new limit."""
        self._per_minute = settings.security.rate_limit_per_minute
        self.limited = self._per_minute > 0
        if not self.limited:
            self._buckets.clear()

    def take(self, address: str) -> float:
        """Take a token from the address's bucket; if there is none, return the seconds to wait."""
        if not self.limited:
            return 0.0
        now = self._monotonic()
        most = float(self._per_minute)
        left, since = self._buckets.pop(address, (most, now))
        left = min(left + (now - since) * most / 60, most)
        wait = 0.0
        if left >= 1:
            left -= 1
        else:
            wait = (1 - left) * 60 / most
            self.refused += 1
        self._buckets[address] = (left, now)
        if len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        return wait
