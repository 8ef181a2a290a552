"""Drafts: read entries and change them atomically, in the same way with all engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tagcache.model.limits import Limits


class Stored(NamedTuple):
    """A stored entry, or one that will be stored.

    ``expires_ms`` is when it expires, in milliseconds since 1970 by the clock of the engine;
    None: never.
    """

    value: bytes
    tags: tuple[bytes, ...] = ()
    expires_ms: int | None = None


class Draft:
    """A consistent view of some entries, and the changes to make to them.

    Attributes:
        now_ms: the time of the view, in milliseconds since 1970 by the clock of the engine.
        changes: by key, each entry to store; None for each entry to remove, and for an absent
            entry that was stored with a deadline in the past.
    """

    __slots__ = ("_limits", "_stored", "changes", "now_ms")

    def __init__(self, stored: Mapping[bytes, Stored | None], now_ms: int, limits: Limits) -> None:
        self.now_ms = now_ms
        self.changes: dict[bytes, Stored | None] = {}
        self._stored = stored
        self._limits = limits

    def get(self, key: bytes) -> Stored | None:
        """Return the entry, with the changes so far. Raises KeyError for any other key."""
        return self.changes[key] if key in self.changes else self._stored[key]

    def original(self, key: bytes) -> Stored | None:
        """Return the entry without the changes. Raises KeyError for any other key."""
        return self._stored[key]

    def put(
        self,
        key: bytes,
        value: bytes,
        tags: tuple[bytes, ...] | None = None,
        expires_ms: int | None = None,
    ) -> None:
        """Store an entry; one that would expire at once is removed instead.

        If ``tags`` is None, the tag rules give the tags.
        """
        if expires_ms is not None and expires_ms <= self.now_ms:
            self.changes[key] = None
        else:
            tags = self._limits.tags_of(key) if tags is None else tags
            self.changes[key] = Stored(value, tags, expires_ms)

    def delete(self, key: bytes) -> bool:
        """Remove an entry; return whether it was there."""
        there = self.get(key) is not None
        if there:
            self.changes[key] = None
        return there

    def default_expiry(self) -> int | None:
        """Return when an entry stored now without a time to live expires."""
        ttl_ms = self._limits.default_ttl_ms
        return self.now_ms + ttl_ms if ttl_ms else None
