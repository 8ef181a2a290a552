"""What engines say about entries and about themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

# What tags are ranked by.
TagMeasure: TypeAlias = Literal["keys", "bytes", "hits"]

# More faults than these are only counted: one cause may touch every entry.
MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry as it was at one moment.

    ``value`` is None in lists; ``size`` is the length of key and value in bytes; ``left_ms`` is
    the time to live that was left, None if it has none; ``stored_us`` is when it was stored, in
    microseconds since 1970 by the clock of the engine; ``ttl_ms`` is the time to live that it was
    stored with.
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


class Saved(NamedTuple):
    """An entry in a snapshot; ``age`` (when the snapshot was taken) and ``ttl`` are in seconds."""

    key: bytes
    value: bytes
    tags: tuple[bytes, ...]
    age: float
    ttl: float


@dataclass(frozen=True, slots=True)
class Consistency:
    """What a check found.

    Attributes:
        entries, tags: how many were looked at.
        faults: a sentence for each disagreement, at most ``MOST_FAULTS``; none if all is well.
        fault_count: how many there were.
    """

    entries: int
    tags: int
    faults: tuple[str, ...]
    fault_count: int
