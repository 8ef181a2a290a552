"""Who computes which value, and whether what was computed is still fresh.

A lease is granted for a key that is not there. The value that its holder computes meanwhile may be
outdated when it is stored: what it was made of may have changed, and been invalidated. So a lease
knows since when it is out, and it is remembered when each tag was last invalidated. The memory of
that is bounded: leases that are older than what is remembered are not good any more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator

# Leases that are out together, and tags that are remembered; the oldest give way.
MOST_LEASES = 16_384
MOST_TAGS = 16_384
# Of one invalidation. One of more tags ends the goodness of all leases, which takes no time.
MOST_TAGS_AT_ONCE = 1024
_CHECKED_AT_ONCE = 256
# About how many bytes a lease and a remembered tag take, besides the key and the name.
_LEASE_BYTES = 350
_TAG_BYTES = 200
# Of a lease whose key was stored or removed meanwhile: before any invalidation.
_NOT_GOOD = -1


class Lease:
    """The right to compute the value of a key.

    Attributes:
        token: a random number that its holder presents.
        since: how many invalidations there had been when it was granted.
        ends: when it ends at the latest, in seconds of the clock that ``grant`` was given.
    """

    __slots__ = ("ends", "since", "token")

    def __init__(self, token: int, since: int, ends: float) -> None:
        self.token = token
        self.since = since
        self.ends = ends


class Leases:
    """The leases that are out: one at most for each key.

    ``new_token`` returns a random number that nobody can guess, not 0. Times are seconds of one
    monotonic clock.

    Attributes:
        on_end: is called with the key of a lease that ended before its time.
        granted, released: how many there were since the start.
    """

    def __init__(self, new_token: Callable[[], int]) -> None:
        self.on_end: Callable[[bytes], None] = _nobody_waits
        self.granted = 0
        self.released = 0
        self._new_token = new_token
        # The oldest comes first.
        self._leases: OrderedDict[bytes, Lease] = OrderedDict()
        # The number of the last invalidation of each tag; the oldest comes first.
        self._tags: OrderedDict[bytes, int] = OrderedDict()
        self._number = 0
        # What is older is not remembered.
        self._floor = 0

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def memory(self) -> int:
        """About how many bytes the leases and what is remembered for them take."""
        return len(self._leases) * _LEASE_BYTES + len(self._tags) * _TAG_BYTES

    def of(self, key: bytes, now: float) -> Lease | None:
        """Return the lease that is out for a key."""
        lease = self._leases.get(key)
        if lease is not None and lease.ends <= now:
            self._forget(key)
            return None
        return lease

    def grant(self, key: bytes, seconds: float, now: float) -> Lease:
        """Grant a lease for a key for which none is out."""
        lease = Lease(self._new_token(), self._number, now + seconds)
        self._leases[key] = lease
        self.granted += 1
        if len(self._leases) > MOST_LEASES:
            oldest, _ = self._leases.popitem(last=False)
            self.on_end(oldest)
        return lease

    def is_good(self, lease: Lease, tags: Collection[bytes]) -> bool:
        """Say whether what was computed since a lease was granted is not outdated.

        ``tags`` are those of the computed value. The lease is one that ``of`` returns.
        """
        last = self._tags
        return lease.since >= self._floor and all(last.get(tag, 0) <= lease.since for tag in tags)

    def end(self, key: bytes) -> None:
        """End the lease of a key."""
        self._forget(key)
        self.on_end(key)

    def _forget(self, key: bytes) -> None:
        del self._leases[key]
        if not self._leases:
            # Leases that are granted later are newer than all that is remembered.
            self._tags.clear()

    def outdate(self, key: bytes) -> None:
        """Note that a key was stored or removed: its lease is not good any more."""
        lease = self._leases.get(key)
        if lease is not None:
            lease.since = _NOT_GOOD

    def outdate_keys(self, keys: Collection[bytes]) -> None:
        """Note that many keys were removed."""
        if len(keys) > len(self._leases):
            keys = self._leases.keys() & keys
        for key in keys:
            self.outdate(key)

    def outdate_tags(self, tags: Collection[bytes]) -> None:
        """Note that tags were invalidated."""
        if not self._leases or not tags:
            return
        if len(tags) > MOST_TAGS_AT_ONCE:
            self.outdate_all()
            return
        self._number = number = self._number + 1
        last = self._tags
        for tag in tags:
            last[tag] = number
            last.move_to_end(tag)
        while len(last) > MOST_TAGS:
            _, self._floor = last.popitem(last=False)

    def outdate_all(self) -> None:
        """Note that everything was removed."""
        self._number += 1
        self._floor = self._number
        self._tags.clear()

    def sweep(self, now: float) -> Iterator[None]:
        """Forget the leases whose time is over, yielding now and then."""
        keys = list(self._leases)
        for number, key in enumerate(keys):
            self.of(key, now)
            if not number % _CHECKED_AT_ONCE:
                yield


def _nobody_waits(key: bytes) -> None:
    """Nobody waits for the end of a lease."""
