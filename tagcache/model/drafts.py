"""Changing entries by what is stored, at one moment: the same for all engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Stored(NamedTuple):
    """An entry that is stored, or is about to be.

    ``expires_ms`` is when it ceases to exist, in milliseconds since 1970 by the clock of the
    engine; None: never.
    """

    value: bytes
    tags: tuple[bytes, ...] = ()
    expires_ms: int | None = None


class Draft:
    """Entries as they are at one moment, and what is to become of them.

    Attributes:
        now_ms: that moment, in milliseconds since 1970 by the clock of the engine.
        changes: by key, each entry to store; None for each entry to remove.
    """

    __slots__ = ("_default_ttl_ms", "_stored", "changes", "now_ms")

    def __init__(
        self, stored: Mapping[bytes, Stored | None], now_ms: int, default_ttl_ms: int
    ) -> None:
        self.now_ms = now_ms
        self.changes: dict[bytes, Stored | None] = {}
        self._stored = stored
        self._default_ttl_ms = default_ttl_ms

    def get(self, key: bytes) -> Stored | None:
        """Return the entry, with the changes so far. Raises KeyError for a key not asked for."""
        return self.changes[key] if key in self.changes else self._stored[key]

    def put(
        self,
        key: bytes,
        value: bytes,
        tags: tuple[bytes, ...] = (),
        expires_ms: int | None = None,
    ) -> None:
        """Store an entry; one that would expire at once is removed instead."""
        if expires_ms is not None and expires_ms <= self.now_ms:
            self.delete(key)
        else:
            self.changes[key] = Stored(value, tags, expires_ms)

    def delete(self, key: bytes) -> bool:
        """Remove an entry; return whether it was there."""
        there = self.get(key) is not None
        if there:
            self.changes[key] = None
        return there

    def default_expiry(self) -> int | None:
        """Return when an entry expires that is stored now without a time to live."""
        return self.now_ms + self._default_ttl_ms if self._default_ttl_ms else None
