"""An index of deadlines, so that expiry never has to walk all entries.

Entries wait in buckets. A bucket is named by the tick (1/16 second) at which its entries must be
checked. A deadline within the next 128 ticks has a bucket of its own tick. A later one shares a
coarser bucket, whose tick comes before the deadline; there, the entry moves to a finer bucket, so
a TTL of a month is checked four times. There are at most a few hundred buckets for any span of
deadlines. A bucket is a ring: adding and removing an entry cost O(1), and leave nothing behind.

An entry whose deadline moves further away may stay where it is: it is checked too early, and is
then scheduled again.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from tagcache.engine.entry import Entry, Links

TICKS_PER_SECOND = 16
_FINE_BITS = 7


class ExpiryIndex:
    """Entries ordered by the time at which their expiry must be checked."""

    __slots__ = ("_ticks", "buckets")

    def __init__(self) -> None:
        self.buckets: dict[int, Links] = {}
        self._ticks: list[int] = []

    def bucket(self, deadline: float, now: float) -> Links:
        """Return the bucket for an entry with this ``deadline``; a new one if there is none.

        Both times are seconds of one monotonic clock. A MemoryError changes nothing.
        """
        tick = int(deadline * TICKS_PER_SECOND)
        shift = (max(tick - int(now * TICKS_PER_SECOND), 0) >> _FINE_BITS).bit_length()
        tick = tick >> shift << shift
        bucket = self.buckets.get(tick)
        if bucket is None:
            bucket = Links()
            bucket.start_rings()
            self.buckets[tick] = bucket
            try:
                heappush(self._ticks, tick)
            except MemoryError:
                del self.buckets[tick]
                raise
        return bucket

    def past(self, now: float) -> Iterator[Entry]:
        """Yield the entries of all ticks that are over, the earliest tick first.

        Each has either expired or must be scheduled again; the caller removes it from its bucket
        before it asks for the next.
        """
        current = int(now * TICKS_PER_SECOND)
        ticks = self._ticks
        while ticks and ticks[0] < current:
            bucket = self.buckets[ticks[0]]
            entry = bucket.later
            if isinstance(entry, Entry):
                yield entry
            else:
                # Delete the links of the empty ring, which refer to itself.
                del self.buckets[heappop(ticks)]
                bucket.break_links()

    def present(self, now: float) -> list[Entry]:
        """Return the entries of the current tick: some have expired, others are about to."""
        found: list[Entry] = []
        bucket = self.buckets.get(int(now * TICKS_PER_SECOND))
        if bucket is not None:
            entry = bucket.later
            while isinstance(entry, Entry):
                found.append(entry)
                entry = entry.later
        return found

    def agrees(self) -> bool:
        """Return whether the ticks and the buckets agree."""
        return len(self._ticks) == len(self.buckets) and self.buckets.keys() == set(self._ticks)

    def dismantle(self) -> None:
        """Drop the buckets, whose entries are all removed together."""
        for bucket in self.buckets.values():
            bucket.break_links()
        self.buckets.clear()
        self._ticks.clear()
