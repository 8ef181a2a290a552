"""Checks that the observations of several clients are possible in some serial order.

Each key has one writer, which waits for each reply, so the versions of a key are in order. A read
may miss at any time, because everything may be evicted. A value that is read must not be older than
the last one acknowledged before the request, or than one read earlier; its store must have begun
before the reply; and it must not have been removed, invalidated or expired before the request.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

Note = dict[str, Any]


class Removals:
    """Removals by their begin. It tells whether one lies between two times."""

    def __init__(self, notes: Iterable[Note]) -> None:
        ordered = sorted(notes, key=lambda note: note["begin"])
        self._begins = [note["begin"] for note in ordered]
        ends = [note["end"] for note in reversed(ordered)]
        self._earliest_ends = list(accumulate(ends, min))[::-1]

    def between(self, begin: float, end: float) -> bool:
        """Return whether one began after ``begin`` and was acknowledged before ``end``."""
        first = bisect_right(self._begins, begin)
        return first < len(self._begins) and self._earliest_ends[first] < end


def violations(notes: Iterable[Note]) -> list[str]:
    """Return the observations that no serial order allows, a sentence for each."""
    writes: dict[str, list[Note]] = defaultdict(list)
    reads: dict[str, list[Note]] = defaultdict(list)
    removed: dict[str, list[Note]] = defaultdict(list)
    invalidated: dict[frozenset[str], list[Note]] = defaultdict(list)
    for note in notes:
        if note["kind"] == "invalidate":
            invalidated[frozenset(note["tags"])].append(note)
        else:
            kinds = {"write": writes, "read": reads, "remove": removed}
            kinds[note["kind"]][note["key"]].append(note)
    invalidations = {tags: Removals(found) for tags, found in invalidated.items()}
    wrong: list[str] = []
    for key, seen in reads.items():
        wrong += _of_key(key, writes[key], seen, Removals(removed[key]), invalidations)
    return wrong


def _of_key(
    key: str,
    writes: list[Note],
    reads: list[Note],
    removals: Removals,
    invalidations: dict[frozenset[str], Removals],
) -> Iterable[str]:
    writes.sort(key=lambda note: note["version"])
    by_version = {note["version"]: note for note in writes}
    acknowledged = [note["end"] for note in writes]
    reads = [note for note in reads if note["version"] is not None]
    reads.sort(key=lambda note: note["end"])
    ends = [note["end"] for note in reads]
    newest = list(accumulate((note["version"] for note in reads), max))
    for read in reads:
        version, begin = read["version"], read["begin"]
        write = by_version.get(version)
        if write is None or write["begin"] > read["end"]:
            yield f"{key}: version {version} was read before it was written"
            continue
        done = bisect_left(acknowledged, begin)
        if done and writes[done - 1]["version"] > version:
            yield f"{key}: version {version} was read after a newer one was acknowledged"
        earlier = bisect_left(ends, begin)
        if earlier and newest[earlier - 1] > version:
            yield f"{key}: version {version} was read after a newer one was read"
        if removals.between(write["end"], begin):
            yield f"{key}: version {version} was read after it was removed"
        ttl_ms = write["ttl_ms"]
        if ttl_ms is not None and begin > write["end"] + ttl_ms / 1000:
            yield f"{key}: version {version} was read after its time to live"
        carried = set(write["tags"])
        for tags, found in invalidations.items():
            if tags <= carried and found.between(write["end"], begin):
                yield f"{key}: version {version} was read after {sorted(tags)} was invalidated"
