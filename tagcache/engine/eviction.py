"""The eviction policies: choose the entry to evict when memory is full."""

from __future__ import annotations

from typing import Any

from tagcache.engine.entry import Entry, Links, SieveHand, UsedEntry

# The most entries to examine for one that was not visited. If all were, the last one is evicted.
_LONGEST_SEARCH = 2000


class Sieve(SieveHand):
    """SIEVE (Zhang et al., NSDI '24), over the ring of all entries in the order of storing.

    The ``hand`` moves from the oldest entry towards the newest. It skips entries that were
    visited since it last passed, and evicts the first that was not. A hit only sets a flag.
    """

    __slots__ = ()

    def __init__(self, end: Links) -> None:
        self.hand: Links = end

    def leave(self, place: Links) -> None:
        """Note that an entry, or a mark, is about to leave its place in the ring."""
        if self.hand is place:
            self.hand = place.newer

    def victim(self, kept: Entry | None) -> Entry | None:
        """Return the entry to evict, other than ``kept``; None if there is no other."""
        place = self.hand
        last = None
        for _ in range(_LONGEST_SEARCH):
            if isinstance(place, Entry) and place is not kept:
                if not place.visited:
                    self.hand = place.newer
                    return place
                place.visited = False
                last = place
            place = place.newer
        self.hand = place
        return last


class Lru:
    """Evicts the least recently used entry; each use moves an entry to the hot end.

    Attributes:
        end: the end of the ring of entries in the order of use; it stays the same object.
    """

    __slots__ = ("end",)

    def __init__(self) -> None:
        self.end = UsedEntry(b"", b"", (), 0.0, 0.0)
        self.clear()

    def clear(self) -> None:
        """Forget all entries, which keep their links. Allocates no memory."""
        self.end.start_use()

    def add(self, entry: Any) -> None:
        """Note a new entry."""
        entry.use_before(self.end)

    def remove(self, entry: Any) -> None:
        """Forget an entry."""
        entry.leave_use()

    def touch(self, entry: Any) -> None:
        """Note that an entry was used."""
        entry.leave_use()
        entry.use_before(self.end)

    def victim(self, kept: Entry | None) -> Entry | None:
        """Return the entry to evict, other than ``kept``; None if there is no other."""
        coldest = self.end.hotter
        if coldest is kept:
            coldest = coldest.hotter
        return None if coldest is self.end else coldest
