"""The counts and totals of a cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tagcache.model.interfaces import IMeasured


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts since the start, never reset.

    ``hits`` and ``misses`` count look-ups, ``puts`` stored entries, ``invalidations`` entries
    removed on request, ``expirations`` entries that had expired when they were removed,
    ``evictions`` entries removed to make room.
    """

    hits: int
    misses: int
    puts: int
    invalidations: int
    expirations: int
    evictions: int

    @classmethod
    def sum(cls, each: Iterable[Counters]) -> Counters:
        """Return the sums of several counts."""
        return cls(*map(sum, zip(*map(astuple, each), strict=True)))

    @property
    def hit_ratio(self) -> float:
        """Hits as a share of look-ups, 0.0 before the first."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """The contents of a cache at one point in time.

    ``items`` is the number of entries, ``tags`` that of tags in use, ``bytes`` the length of all
    values.
    """

    items: int
    tags: int
    bytes: int

    @classmethod
    def sum(cls, each: Iterable[Totals]) -> Totals:
        """Return the sums of several totals."""
        return cls(*map(sum, zip(*map(astuple, each), strict=True)))


@dataclass(frozen=True, slots=True)
class EngineTotals:
    """The contents of an engine at one point in time, and the counts of all its servers.

    ``items``, ``tags`` and ``bytes`` are those of Totals. ``memory`` and ``max_memory`` (0: no
    limit) are bytes. ``backlog`` is the number of entries that were removed but still use memory.
    """

    items: int
    tags: int
    bytes: int
    backlog: int
    memory: int
    max_memory: int
    counters: Counters

    @classmethod
    def of(cls, measured: IMeasured) -> EngineTotals:
        """Return the totals that a cache or an engine can report at once."""
        held = measured.held()
        return cls(
            items=held.items,
            tags=held.tags,
            bytes=held.bytes,
            backlog=measured.backlog,
            memory=measured.memory,
            max_memory=measured.max_memory,
            counters=measured.counters(),
        )

    @classmethod
    def sum(cls, each: Iterable[EngineTotals], whole: IMeasured) -> EngineTotals:
        """Return the totals of ``whole`` from those of its databases."""
        every = list(each)
        return cls(
            items=sum(totals.items for totals in every),
            tags=sum(totals.tags for totals in every),
            bytes=sum(totals.bytes for totals in every),
            backlog=sum(totals.backlog for totals in every),
            memory=whole.memory,
            max_memory=whole.max_memory,
            counters=Counters.sum(totals.counters for totals in every),
        )
