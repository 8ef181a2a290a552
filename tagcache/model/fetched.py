"""What a look-up returns that may take a lease to compute the value."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import NamedTuple

# The longest lease and the longest wait, in milliseconds.
MOST_LEASE_MS = 3_600_000
MOST_WAIT_MS = 600_000


class Found(enum.Enum):
    """What such a look-up found."""

    HIT = "the entry"
    STALE = "an entry whose time to live is over, or that was invalidated softly"
    LEASE = "nothing; the caller is to compute the value"
    WAIT = "nothing; somebody else computes the value"


# Before Python 3.12 each look-up of a member in its class costs a call.
HIT, STALE, LEASE, WAIT = Found
_new = tuple.__new__


class Fetched(NamedTuple):
    """The result of ISession.fetch.

    ``value`` is there with HIT and STALE; ``token`` is that of the lease, with LEASE, and with
    STALE unless somebody else has the lease; ``left_ms`` is how many milliseconds the lease of
    somebody else lasts, with WAIT and with STALE; ``tags`` are those of a stale entry.
    """

    found: Found
    value: bytes | None = None
    token: int | None = None
    left_ms: int = 0
    tags: tuple[bytes, ...] = ()


def hit(value: bytes) -> Fetched:
    """Return the result with an entry's value, in a third of the time."""
    return _new(Fetched, (HIT, value, None, 0, ()))


@dataclass(frozen=True, slots=True)
class FreshCounts:
    """Leases and stale entries.

    ``leases`` is how many leases are out, ``stale_items`` how many stale entries are kept. Since
    the start: ``leases_granted``; ``fills`` and ``fills_refused``; ``leases_released``;
    ``stale_served``, stale entries that were returned.
    """

    leases: int = 0
    stale_items: int = 0
    leases_granted: int = 0
    fills: int = 0
    fills_refused: int = 0
    leases_released: int = 0
    stale_served: int = 0

    @classmethod
    def sum(cls, each: Iterable[FreshCounts]) -> FreshCounts:
        """Return the sums of several counts."""
        return cls(*map(sum, zip(*map(astuple, each), strict=True)))
