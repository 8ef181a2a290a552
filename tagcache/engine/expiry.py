"""When to look at which key, so that expiry never walks all entries.

Keys wait in buckets, each named by the moment at which it must be looked at, in ticks of
1/16 second. A deadline within the next 128 ticks has a bucket of its own tick; one further
away shares a coarser bucket, whose moment comes before the deadline, and is then put into a
finer one: a TTL of a month is looked at four times. So there are at most some hundred buckets
for any span of deadlines, scheduling and taking back cost O(1), and nothing stale remains.
"""

from __future__ import annotations

from heapq import heappop, heappush

TICKS_PER_SECOND = 16
_FINE_BITS = 7


class ExpiryIndex:
    """Keys ordered by the moment at which their expiry must be looked at."""

    __slots__ = ("_buckets", "_ticks")

    def __init__(self) -> None:
        self._buckets: dict[int, set[bytes]] = {}
        self._ticks: list[int] = []

    def schedule(self, key: bytes, deadline: float, now: float) -> set[bytes]:
        """Put ``key`` into the bucket for ``deadline`` and return that bucket.

        Both times are seconds of one monotonic clock. The caller takes the key back by
        discarding it from the bucket.
        """
        tick = int(deadline * TICKS_PER_SECOND)
        shift = (max(tick - int(now * TICKS_PER_SECOND), 0) >> _FINE_BITS).bit_length()
        tick = tick >> shift << shift
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = bucket = {key}
            heappush(self._ticks, tick)
        else:
            bucket.add(key)
        return bucket

    def past(self, now: float) -> set[bytes] | None:
        """Return the earliest bucket, not empty, of a tick that is over; None if there is none.

        The caller empties it; every key in it has either expired or is to be scheduled anew.
        """
        current = int(now * TICKS_PER_SECOND)
        ticks = self._ticks
        while ticks and ticks[0] < current:
            bucket = self._buckets[ticks[0]]
            if bucket:
                return bucket
            del self._buckets[heappop(ticks)]
        return None

    def present(self, now: float) -> set[bytes]:
        """Return the keys of the running tick: some have expired, others are about to."""
        return self._buckets.get(int(now * TICKS_PER_SECOND), set())
