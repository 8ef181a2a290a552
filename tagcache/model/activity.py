"""Statistics of the busiest tags, in bounded memory however many tags there are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from random import Random

_MOST_TAGS = 1024
# Keys that were invalidated and are remembered: in all, and of one invalidation.
_MOST_KEYS = 16384
_KEYS_OF_ONE = 256
# To count each hit for each tag of its entry would take longer than the look-up. So one hit in so
# many is looked at on average, and stands for all since the one before. The distance is random:
# with a fixed one, a client that asks for its keys in turn would always be seen with the same key.
SAMPLE = 128


@dataclass(slots=True)
class TagActivity:
    """What happened to one tag since it was first noticed.

    Attributes:
        hits: look-ups of entries with the tag, estimated from a sample.
        misses: look-ups of keys that an invalidation of the tag had removed; for a large
            invalidation, estimated from some of its keys.
        invalidations, invalidated: how many there were, and how many entries they removed.
        last_invalidated: when, in seconds of the cache's monotonic clock; None if never.
    """

    hits: int = 0
    misses: int = 0
    invalidations: int = 0
    invalidated: int = 0
    last_invalidated: float | None = None

    @property
    def weight(self) -> int:
        """How busy the tag is."""
        return self.hits + self.misses + self.invalidated


class Activity:
    """The activity of the busiest tags.

    When there are too many tags, the less busy half is forgotten.

    ``removed`` has keys that were invalidated: by which tag, and how many keys each of them
    stands for. It stays the same object.
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
        """Return what is known of a tag."""
        return self._tags.get(tag) or TagActivity()

    def sample(self, hits: int, tags: Iterable[bytes]) -> int:
        """Note hit number ``hits``, on an entry with these tags; return which one to note next."""
        stands_for = hits - self._sampled
        self._sampled = hits
        for tag in tags:
            self._noticed(tag).hits += stands_for
        return hits + self._random.randrange(1, 2 * SAMPLE)

    def invalidated(self, tag: bytes, keys: Iterable[bytes], count: int, now: float) -> None:
        """Note that ``count`` entries, some of them with these keys, were removed by their tag."""
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
        """Note that a key was stored."""
        self.removed.pop(key, None)

    def missed(self, key: bytes) -> None:
        """Note a look-up that did not find its key."""
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
