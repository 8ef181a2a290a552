"""Statistics of the busiest tags, in bounded memory for any number of tags."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from random import Random

_MOST_TAGS = 1024
# How many invalidated keys are remembered: in total, and of one invalidation.
_MOST_KEYS = 16384
_KEYS_OF_ONE = 256
# Counting each hit for each tag of its entry would take longer than the look-up. So, on average,
# one hit in this many is recorded, and stands for all hits since the previous one. The distance is
# random: with a fixed one, a client that cycles through its keys might hit the same key each time.
SAMPLE = 128


@dataclass(slots=True)
class TagActivity:
    """The activity of one tag since it was first noticed.

    Attributes:
        hits: look-ups of entries with the tag, estimated from a sample.
        misses: look-ups of keys that an invalidation of the tag had removed; for a large
            invalidation, estimated from some of its keys.
        invalidations, invalidated: the number of invalidations, and of the entries they removed.
        last_invalidated: the time of the last one, in seconds of the cache's monotonic clock; None
            if there was none.
        stale_served: look-ups of entries with the tag that were answered with a stale one.
        refused: values with the tag that were refused because they were outdated.
    """

    hits: int = 0
    misses: int = 0
    invalidations: int = 0
    invalidated: int = 0
    last_invalidated: float | None = None
    stale_served: int = 0
    refused: int = 0

    @property
    def weight(self) -> int:
        """A measure of how busy the tag is."""
        return self.hits + self.misses + self.invalidated


class Activity:
    """The activity of the busiest tags.

    When there are too many tags, the less busy half is forgotten.

    ``removed`` maps each remembered invalidated key to the tag that removed it, and to the number
    of keys that it represents. It stays the same object.
    """

    __slots__ = ("_random", "_sampled", "_tags", "removed")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._tags: dict[bytes, TagActivity] = {}
        self.removed: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()
        self._sampled = 0

    def __len__(self) -> int:
        return len(self._tags)

    def of(self, tag: bytes) -> TagActivity:
        """Return the activity of a tag; all zero if the tag is unknown."""
        return self._tags.get(tag) or TagActivity()

    def sample(self, hits: int, tags: Iterable[bytes]) -> int:
        """Record hit number ``hits``, on an entry with these tags; return the next to record."""
        stands_for = hits - self._sampled
        self._sampled = hits
        for tag in tags:
            self._noticed(tag).hits += stands_for
        return hits + self._random.randrange(1, 2 * SAMPLE)

    def invalidated(self, tag: bytes, keys: Iterable[bytes], count: int, now: float) -> None:
        """Record that a tag removed ``count`` entries; ``keys`` are those of some or all."""
        noticed = self._noticed(tag)
        noticed.invalidations += 1
        noticed.invalidated += count
        noticed.last_invalidated = now
        some = list(islice(keys, _KEYS_OF_ONE))
        for key in some:
            self.removed.pop(key, None)
            self.removed[key] = tag, max(count // len(some), 1)
        while len(self.removed) > _MOST_KEYS:
            self.removed.popitem(last=False)

    def stored(self, key: bytes) -> None:
        """Record that a key was stored."""
        self.removed.pop(key, None)

    def missed(self, key: bytes) -> None:
        """Record a look-up that did not find its key."""
        removed = self.removed.get(key)
        if removed is not None:
            tag, stands_for = removed
            self._noticed(tag).misses += stands_for

    def served_stale(self, tags: Iterable[bytes]) -> None:
        """Record that a stale entry with these tags was returned."""
        for tag in tags:
            self._noticed(tag).stale_served += 1

    def refused(self, tags: Iterable[bytes]) -> None:
        """Record that a value with these tags was refused because it was outdated."""
        for tag in tags:
            self._noticed(tag).refused += 1

    def _noticed(self, tag: bytes) -> TagActivity:
        activity = self._tags.get(tag)
        if activity is None:
            if len(self._tags) >= _MOST_TAGS:
                busiest = nlargest(
                    _MOST_TAGS // 2, self._tags.items(), key=lambda item: item[1].weight
                )
                self._tags = dict(busiest)
            self._tags[tag] = activity = TagActivity()
        return activity
