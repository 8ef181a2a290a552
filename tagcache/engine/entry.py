"""One stored value and what is known of it."""

from __future__ import annotations

from tagcache.model.int64 import UINT64_MAX
from tagcache.model.store_options import NEVER


class Links:
    """A place in two rings: the order of storing, and a bucket of the expiry index.

    The rings run through the entries themselves. So an entry is moved or taken out in constant
    time, and no list of a million entries is ever copied when it grows; this costs 32 bytes an
    entry. The neighbours are strong references: whoever drops entries without taking them out
    of their rings must break these, or only the garbage collector finds them.

    Attributes:
        older, newer: neighbours in the order of storing, which holds all entries.
        sooner, later: neighbours in the bucket in which the entry waits for its expiry; not set
            for an entry without a time to live.

    A Links that is no Entry is the end of a ring, or the mark of a scan in it.
    """

    __slots__ = ("later", "newer", "older", "sooner")

    older: Links
    newer: Links
    sooner: Links
    later: Links


def link(place: Links, older: Links, newer: Links) -> None:
    """Put ``place`` between two neighbours in the order of storing."""
    place.older = older
    place.newer = newer
    older.newer = newer.older = place


def unlink(place: Links) -> None:
    """Take ``place`` out of the order of storing."""
    older, newer = place.older, place.newer
    older.newer = newer
    newer.older = older
    del place.older, place.newer


class Entry(Links):
    """A value with its tags, time to live and age; overwriting it keeps the object.

    Attributes:
        key, value: bytes.
        tags: tuple of bytes without repetition, in the order given; equal ones are shared.
        stored: when it was last stored, in seconds of the cache's monotonic clock.
        ttl: how long it exists from then on, in seconds; NEVER if it has no time to live.
        visited: whether it was read since eviction last passed by.
    """

    __slots__ = ("key", "stored", "tags", "ttl", "value", "visited")

    def __init__(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], stored: float, ttl: float
    ) -> None:
        self.key = key
        self.value = value
        self.tags = tags
        self.stored = stored
        self.ttl = ttl
        self.visited = False

    @property
    def expires(self) -> float:
        """When it ceases to exist, on the clock of ``stored``."""
        return self.stored + self.ttl

    @property
    def ttl_ms(self) -> int | None:
        """The time to live it was stored with, in milliseconds; None if it has none.

        Beyond 2**53 it is rounded, and never more than 2**64 - 1.
        """
        return None if self.ttl == NEVER else min(round(self.ttl * 1000), UINT64_MAX)
