"""Leases: who computes which value, and whether a computed value is still fresh.

A lease is granted for a key that is not stored. The value that its holder computes may be outdated
when it is stored: its sources may have changed, and its tags been invalidated. So a lease records
when it was granted, and this table records when each tag was last invalidated. The table is
bounded: a lease that is older than the oldest forgotten record is no longer good.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator

# The most leases, and the most remembered tags; beyond that, the oldest are forgotten.
MOST_LEASES = 16_384
MOST_TAGS = 16_384
# The most tags of one invalidation that are recorded. With more, all leases become bad, which takes
# no time.
MOST_TAGS_AT_ONCE = 1024
_CHECKED_AT_ONCE = 256
# The approximate bytes of a lease and of a remembered tag, without the key and the name.
_LEASE_BYTES = 350
_TAG_BYTES = 200
# ``since`` of a lease whose key was stored or removed meanwhile: before any invalidation.
_NOT_GOOD = -1


class Lease:
    """The right to compute the value of a key.

    Attributes:
        token: a random number that its holder presents.
        since: how many invalidations there had been when it was granted.
        ends: when it expires, in seconds of the clock that ``grant`` uses.
    """

    __slots__ = ("ends", "since", "token")

    def __init__(self, token: int, since: int, ends: float) -> None:
        self.token = token
        self.since = since
        self.ends = ends


class Leases:
    """The current leases: at most one for each key.

    ``new_token`` returns a random number that nobody can guess, not 0. Times are seconds of one
    monotonic clock.

    Attributes:
        on_end: called with the key of a lease that ended early.
        granted, released: how many were granted and released since the start.
    """

    def __init__(self, new_token: Callable[[], int]) -> None:
        self.on_end: Callable[[bytes], None] = _nobody_waits
        self.granted = 0
        self.released = 0
        self._new_token = new_token
        # Oldest first.
        self._leases: OrderedDict[bytes, Lease] = OrderedDict()
        # The number of the last invalidation of each tag, oldest first.
        self._tags: OrderedDict[bytes, int] = OrderedDict()
        self._number = 0
        # Invalidations with this number or a lower one may be forgotten.
        self._floor = 0

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def memory(self) -> int:
        """The approximate bytes that the leases and the remembered tags take."""
        return len(self._leases) * _LEASE_BYTES + len(self._tags) * _TAG_BYTES

    def of(self, key: bytes, now: float) -> Lease | None:
        """Return the current lease of a key, or None."""
        lease = self._leases.get(key)
        if lease is not None and lease.ends <= now:
            self._forget(key)
            return None
        return lease

    def grant(self, key: bytes, seconds: float, now: float) -> Lease:
        """Grant a lease for a key that has none."""
        lease = Lease(self._new_token(), self._number, now + seconds)
        self._leases[key] = lease
        self.granted += 1
        if len(self._leases) > MOST_LEASES:
            oldest, _ = self._leases.popitem(last=False)
            self.on_end(oldest)
        return lease

    def is_good(self, lease: Lease, tags: Collection[bytes]) -> bool:
        """Return whether a value computed under a lease is not outdated.

        ``tags`` are those of the computed value. The lease is one that ``of`` returned.
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
            # Later leases will be newer than all remembered invalidations.
            self._tags.clear()

    def outdate(self, key: bytes) -> None:
        """Note that a key was stored or removed, so that its lease is no longer good."""
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
        """Note that more was invalidated than is remembered."""
        self._number += 1
        self._floor = self._number
        self._tags.clear()

    def end_all(self) -> None:
        """End all leases: everything was removed."""
        ended = list(self._leases)
        self._leases.clear()
        self._tags.clear()
        for key in ended:
            self.on_end(key)

    def sweep(self, now: float) -> Iterator[None]:
        """Forget the expired leases, yielding from time to time."""
        keys = list(self._leases)
        for number, key in enumerate(keys):
            self.of(key, now)
            if not number % _CHECKED_AT_ONCE:
                yield


def _nobody_waits(key: bytes) -> None:
    """Do nothing: nobody waits for the end of a lease."""
