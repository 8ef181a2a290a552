"""One stored value and what is known of it."""

from __future__ import annotations

NEVER = float("inf")


class Entry:
    """A value with its tags, time to live and age; only its bucket changes once it is stored.

    Attributes:
        value: bytes.
        tags: tuple of bytes without repetition, in the order given; equal ones are shared.
        ttl_ms: the time to live it was stored with, in milliseconds; None if it has none.
        expires: when it ceases to exist, in seconds of the cache's monotonic clock; NEVER if
            it has no time to live.
        created_ms: when it was stored, in milliseconds since 1970.
        bucket: the set in which its key waits for expiry; None if it has no time to live.
    """

    __slots__ = ("bucket", "created_ms", "expires", "tags", "ttl_ms", "value")

    def __init__(
        self,
        value: bytes,
        tags: tuple[bytes, ...],
        ttl_ms: int | None,
        expires: float,
        created_ms: int,
        bucket: set[bytes] | None,
    ) -> None:
        self.value = value
        self.tags = tags
        self.ttl_ms = ttl_ms
        self.expires = expires
        self.created_ms = created_ms
        self.bucket = bucket
