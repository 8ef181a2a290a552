"""Scan all keys in parts, while entries come and go."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from itertools import chain, islice
from random import Random
from typing import NamedTuple

from tagcache.engine.store import SHARDS, Store

# A place is the number of a shard and the upper bits of a key's hash. It has few enough bits for
# clients whose numbers are all doubles.
_HASH_BITS = 44
_HASH_MASK = (1 << _HASH_BITS) - 1
_END = SHARDS << _HASH_BITS
# How many sorted shards are kept for the next parts of their scans.
_MOST_SORTED = 16
_PART_BITS = 6
_KEYS_AT_ONCE = 256
# Testing a key may take time in proportion to its length.
_TESTED_AT_ONCE = 32
_TESTED_BYTES = 512
# Attempts to find a live key at random, and keys that are looked at after that.
_ATTEMPTS = 64
_MOST_LOOKED_AT = 1000


class _Shard(NamedTuple):
    """The keys of a shard, and their places, which are in order."""

    places: list[int]
    keys: list[bytes]


class KeyScan:
    """Scans the keys in the order of their hashes, which no change of other keys affects.

    So a cursor needs no memory in the server, and a key that exists throughout the scan is
    returned, whatever else changes. A sorted shard is cached for the next calls: it may lack newer
    keys, but these have not existed throughout.
    """

    def __init__(self, store: Store, random: Random) -> None:
        self._store = store
        self._random = random
        self._sorted: OrderedDict[int, _Shard] = OrderedDict()

    def keys(
        self, cursor: int, count: int | None, wanted: Callable[[bytes], bool] | None
    ) -> Generator[None, None, tuple[int, list[bytes]]]:
        """Work that returns the next cursor, 0 at the end, and keys from ``cursor`` on.

        About ``count`` keys are looked at, or all; those for which ``wanted`` is false are left
        out.
        """
        found: list[bytes] = []
        left = count
        place = cursor
        while place < _END and left != 0:
            number, within = divmod(place, 1 << _HASH_BITS)
            shard = yield from self._sorted_shard(number, at_start=not within)
            start = bisect_left(shard.places, place)
            most = len(shard.keys) - start if left is None else left
            end = min(start + most, len(shard.keys))
            # Keys with the same place are returned together.
            while 0 < end < len(shard.keys) and shard.places[end] == shard.places[end - 1]:
                end += 1
            found += yield from self._wanted(shard.keys[start:end], wanted)
            if left is not None:
                left = max(left - (end - start), 0)
            if end < len(shard.keys):
                return shard.places[end], found
            place = (number + 1) << _HASH_BITS
        return (0 if place >= _END else place), found

    def _wanted(
        self, keys: list[bytes], wanted: Callable[[bytes], bool] | None
    ) -> Generator[None, None, list[bytes]]:
        """Work that returns those of the keys that are live and for which ``wanted`` is true."""
        found: list[bytes] = []
        for some in _chunks(keys, _KEYS_AT_ONCE if wanted is None else _TESTED_AT_ONCE):
            size = 0
            for key in some:
                if self._is_live(key) and (wanted is None or wanted(key)):
                    found.append(key)
                size += len(key)
                if size > _TESTED_BYTES and wanted is not None:
                    yield
                    size = 0
            yield
        return found

    def random_key(self) -> bytes | None:
        """Return a key at random, each with about the same probability.

        None if there is none, or nearly all entries are dead ones that are not removed yet.
        """
        shards = self._store.shards
        for _ in range(_ATTEMPTS):
            shard = shards[self._random.randrange(SHARDS)]
            if shard:
                key = next(islice(shard, self._random.randrange(len(shard)), None))
                if self._is_live(key):
                    return key
        # There are few entries, or nearly all have expired.
        some = islice(chain.from_iterable(shards), _MOST_LOOKED_AT)
        return next(filter(self._is_live, some), None)

    def _is_live(self, key: bytes) -> bool:
        store = self._store
        entry = store.find(key)
        return entry is not None and store.is_live(entry, store.monotonic())

    def _sorted_shard(self, number: int, at_start: bool) -> Generator[None, None, _Shard]:
        """Work that returns a shard sorted by places; ``at_start`` of its scan, sorted anew.

        The keys are sorted in parts by the first bits of their places, because sorting many would
        take long.
        """
        found = None if at_start else self._sorted.get(number)
        if found is None:
            parts: list[list[tuple[int, bytes]]] = [[] for _ in range(1 << _PART_BITS)]
            for some in _chunks(list(self._store.shards[number])):
                for key in some:
                    place = _place(key)
                    parts[(place & _HASH_MASK) >> (_HASH_BITS - _PART_BITS)].append((place, key))
                yield
            found = _Shard([], [])
            for part in parts:
                part.sort()
                found.places.extend(place for place, _ in part)
                found.keys.extend(key for _, key in part)
                yield
            self._sorted[number] = found
            if len(self._sorted) > _MOST_SORTED:
                self._sorted.popitem(last=False)
        return found


def _chunks(keys: list[bytes], size: int = _KEYS_AT_ONCE) -> Iterator[list[bytes]]:
    for first in range(0, len(keys), size):
        yield keys[first : first + size]


def _place(key: bytes) -> int:
    digest = hash(key)
    return ((digest & (SHARDS - 1)) << _HASH_BITS) | (digest >> 8 & _HASH_MASK)
