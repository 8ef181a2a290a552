"""The views of entries and of the engine that engines return."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from tagcache.model.activity import TagActivity

# The measures by which tags are ranked.
TagMeasure: TypeAlias = Literal["keys", "bytes", "hits"]

# The most faults to report. Others are only counted, because one cause may affect every entry.
MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry as it was at one point in time.

    ``value`` is None in lists; ``size`` is the length of key and value in bytes; ``left_ms`` is
    the remaining time to live, None if it has none; ``stored_us`` is when it was stored, in
    microseconds since 1970 by the clock of the engine; ``ttl_ms`` is the time to live with which
    it was stored.
    """

    key: bytes
    value: bytes | None
    tags: tuple[bytes, ...]
    size: int
    stored_us: int
    left_ms: int | None
    ttl_ms: int | None


class TagSize(NamedTuple):
    """A tag, how many entries carry it, and the length of their keys and values in bytes."""

    name: bytes
    keys: int
    bytes: int

    def rank(self, measure: TagMeasure, activity: Callable[[builtins.bytes], TagActivity]) -> int:
        """Return the value by which the tag is ranked; ``activity`` returns that of a tag."""
        if measure == "hits":
            return activity(self.name).hits
        return self.keys if measure == "keys" else self.bytes


class Saved(NamedTuple):
    """An entry in a snapshot; ``age`` (when the snapshot was taken) and ``ttl`` are in seconds.

    ``database`` is the number of its database. ``grace`` is how long it stays stale after its time
    to live, in seconds.
    """

    key: bytes
    value: bytes
    tags: tuple[bytes, ...]
    age: float
    ttl: float
    database: int = 0
    grace: float = 0.0


@dataclass(frozen=True, slots=True)
class Consistency:
    """The findings of a consistency check.

    Attributes:
        entries, tags: how many were checked.
        faults: a sentence for each inconsistency, at most ``MOST_FAULTS``; empty if there is none.
        fault_count: how many inconsistencies there were.
    """

    entries: int
    tags: int
    faults: tuple[str, ...]
    fault_count: int

    @classmethod
    def of_all(cls, found: Mapping[int, Consistency]) -> Consistency:
        """Return the findings of several databases, by their numbers, as one."""
        faults = [
            f"database {number}: {fault}" if number else fault
            for number, each in found.items()
            for fault in each.faults
        ]
        every = found.values()
        return cls(
            entries=sum(each.entries for each in every),
            tags=sum(each.tags for each in every),
            faults=tuple(faults[:MOST_FAULTS]),
            fault_count=sum(each.fault_count for each in every),
        )
