"""How an entry is stored: its tags and its time to live."""

from __future__ import annotations

from collections.abc import Collection

from tagcache.model.limits import Limits

NEVER = float("inf")


class StoreOptions:
    """Tags and a time to live. Many stores share one object, so it is checked only once.

    Attributes:
        tags: tuple of bytes; without duplicates once they are checked.
        asked_ms: the requested time to live, in milliseconds; None if none was given.
        ttl_ms, ttl: the effective one under the limits ``checked``, in milliseconds (None: none)
            and in seconds (NEVER: none).
        checked: the limits against which tags and time to live were checked; None before that.
        grace_ms: how long the entry is stale after it expires or is softly invalidated, in
            milliseconds.
    """

    __slots__ = ("asked_ms", "checked", "grace_ms", "tags", "ttl", "ttl_ms")

    def __init__(
        self, tags: Collection[bytes] = (), ttl_ms: int | None = None, grace_ms: int = 0
    ) -> None:
        self.tags = tuple(tags)
        self.asked_ms = ttl_ms or None
        self.grace_ms = grace_ms
        self.ttl_ms: int | None = None
        self.ttl = NEVER
        self.checked: Limits | None = None
