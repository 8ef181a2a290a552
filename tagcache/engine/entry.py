"""One stored value and what is known of it."""

from __future__ import annotations

from tagcache.model.int64 import UINT64_MAX
from tagcache.model.store_options import NEVER


class Links:
    """A place in the two orders that entries are kept in.

    Attributes:
        older, newer: neighbours in the order of storing, a ring over all entries.
        sooner, later: neighbours in the bucket in which expiry is waited for, a ring too; only
            there for an entry with a time to live.

    A plain Links is the end of a ring, or a mark in it.
    """

    __slots__ = ("later", "newer", "older", "sooner")

    older: Links
    newer: Links
    sooner: Links
    later: Links


class Entry(Links):
    """A value with its tags, time to live and age; it stays the same while it is overwritten.

    Attributes:
        key, value: bytes.
        tags: tuple of bytes without repetition, in the order given; equal ones are shared.
        stored: when it was stored last, in seconds of the cache's monotonic clock.
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
