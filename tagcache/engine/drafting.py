"""Drafts of entries: read entries, and change them all or not at all."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from tagcache.engine.admission import Admission
from tagcache.engine.versions import EntryVersions
from tagcache.engine.wall_time import WallTime
from tagcache.model.drafts import Draft, Stored
from tagcache.model.store_options import NEVER, StoreOptions

if TYPE_CHECKING:
    from tagcache.engine.memory import MemoryCache


class Drafting:
    """Reads drafts from a cache, and applies them to it."""

    def __init__(
        self,
        cache: MemoryCache,
        admission: Admission,
        versions: EntryVersions,
        clock: WallTime,
    ) -> None:
        self._cache = cache
        self._admission = admission
        self._versions = versions
        self._clock = clock

    def draft(self, keys: Collection[bytes], counts: bool = False) -> Draft:
        """Return a draft of the entries with these keys; see ICache.draft."""
        if counts:
            for key in keys:
                self._cache.get(key)
        # Round to milliseconds, so that a deadline reads back as it was given.
        epoch_ms = round(self._clock.epoch * 1000)
        stored: dict[bytes, Stored | None] = {}
        for key in keys:
            entry = self._cache.peek(key)
            if entry is None:
                stored[key] = None
            else:
                expires_ms = None if entry.ttl == NEVER else epoch_ms + _whole_ms(entry.expires)
                stored[key] = Stored(entry.value, entry.tags, expires_ms)
        now_ms = epoch_ms + _whole_ms(self._clock.monotonic())
        return Draft(stored, now_ms, self._cache.limits)

    def carry_out(self, draft: Draft) -> None:
        """Make the changes of a draft, all or none. Raises what ``put`` raises."""
        now = self._clock.monotonic()
        stores: list[tuple[bytes, bytes, StoreOptions]] = []
        for key, new in draft.changes.items():
            if new is not None:
                options = self._cache.checked(key, new.value, new.tags, None)
                options.ttl = self._ttl(new, now)
                stores.append((key, new.value, options))
        self._cache.reserve(len(stores))
        done: list[bytes] = []
        try:
            for key, new in draft.changes.items():
                if new is None:
                    done.append(key)
                    # Report the change even if the entry is absent: it may have been stored with
                    # a deadline in the past.
                    self._versions.changing(key)
                    self._cache.delete(key)
            for key, value, options in stores:
                self._cache.put_checked(key, value, options.tags, options.ttl, now)
                done.append(key)
        except Exception:
            self._take_back(draft, done, now)
            raise

    def _take_back(self, draft: Draft, changed: list[bytes], now: float) -> None:
        """Restore the changed entries after a failure. There is room: they fitted before."""
        for key in reversed(changed):
            old = draft.original(key)
            entry = self._cache.store.find(key)
            if old is not None:
                self._cache.put_back(key, old.value, old.tags, self._ttl(old, now), now)
            elif entry is not None:
                self._cache.store.remove(entry)

    def _ttl(self, entry: Stored, now: float) -> float:
        """Return how many seconds from ``now`` an entry of a draft lives."""
        if entry.expires_ms is None:
            return NEVER
        deadline = (entry.expires_ms - round(self._clock.epoch * 1000)) / 1000
        return self._admission.ttl(deadline - now)


def _whole_ms(seconds: float) -> int:
    """Return milliseconds, rounded down, but up if they are only just below a whole number."""
    return int(seconds * 1000 + 0.001)
