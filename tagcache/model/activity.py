"""What goes on with the busiest tags, in bounded memory however many tags there are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from random import Random

_MOST_TAGS = 1024
_MOST_KEYS = 16384
_KEYS_OF_ONE = 256
# One hit in so many is looked at, on average; the distance is random, so that no pattern of
# requests hides from it.
SAMPLE = 128


@dataclass(slots=True)
class TagActivity:
    """Of one tag, since it was noticed.

    ``hits`` is estimated from a sample. ``misses`` counts look-ups of keys that an invalidation
    of the tag had removed, estimated for large ones from some of their keys. ``invalidations``
    counts these, ``invalidated`` the entries that they removed; ``last_invalidated`` is when,
    in seconds of the cache's monotonic clock, None if never.
    """

    hits: int = 0
    misses: int = 0
    invalidations: int = 0
    invalidated: int = 0
    last_invalidated: float | None = None

    @property
    def weight(self) -> int:
        """How much happened."""
        return self.hits + self.misses + self.invalidated


class Activity:
    """The activity of the tags that have most of it.

    When there are too many tags, the half with the least activity is forgotten.
    """

    __slots__ = ("_random", "_sampled", "_tags", "removed")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._tags: dict[bytes, TagActivity] = {}
        # Keys that were invalidated: by which tag, and for how many each of them stands.
        self.removed: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()
        self._sampled = 0

    def __len__(self) -> int:
        return len(self._tags)

    def of(self, tag: bytes) -> TagActivity:
        """Return what is known of a tag."""
        return self._tags.get(tag) or TagActivity()

    def sample(self, hits: int, tags: Iterable[bytes]) -> int:
        """Look at hit number ``hits``; returns the number of the one to look at next."""
        stands_for = hits - self._sampled
        self._sampled = hits
        for tag in tags:
            self._noticed(tag).hits += stands_for
        return hits + self._random.randrange(1, 2 * SAMPLE)

    def invalidated(self, tag: bytes, keys: Iterable[bytes], count: int, now: float) -> None:
        """Note that ``count`` entries with such keys were removed by their tag."""
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
        """Note that a key is there again."""
        self.removed.pop(key, None)

    def missed(self, key: bytes) -> None:
        """Note a look-up of a key that is not there."""
        removed = self.removed.get(key)
        if removed is not None:
            tag, stands_for = removed
            self._noticed(tag).misses += stands_for

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
