"""Invalidations of any size: finding what they mean, and letting go of it, a little at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from tagcache.engine.entry import Entry, Links
from tagcache.engine.eviction import UsedEntry
from tagcache.engine.expiry import ExpiryIndex
from tagcache.engine.tags import ManyEntries, TagIndex, parts
from tagcache.model.store_options import NEVER

# So many keys are looked at in one go.
_SOME = 2048

Carriers: TypeAlias = dict[bytes, Entry] | ManyEntries


class Selection:
    """The entries that an invalidation under way means; what changes meanwhile is noted.

    ``wanted`` returns those of some entries that are meant, and ``lookup`` what there is under a
    key; ``touched`` are the keys of the entries stored or removed since the beginning, to be looked
    at again at the end.
    """

    __slots__ = ("_considered", "_flushed", "_lookup", "found", "looking", "touched", "wanted")

    def __init__(
        self,
        wanted: Callable[[list[Entry]], list[Entry]],
        lookup: Callable[[bytes], Entry | None],
    ) -> None:
        self.wanted = wanted
        self._lookup = lookup
        self.found = ManyEntries()
        self.touched: set[bytes] = set()
        self._flushed = False
        self._considered: list[Carriers] = []
        # Until everything was looked at, what is removed may still be about to be found.
        self.looking = True

    def storing(self, key: bytes) -> None:
        """Note that the key is about to be stored."""
        self.touched.add(key)

    def removed(self, key: bytes) -> None:
        """Note that an entry is about to be removed."""
        if self.looking:
            self.touched.add(key)
        else:
            self.found.discard(key)

    def look_at(self, some: Iterable[list[Entry]]) -> Iterator[None]:
        """Take those entries that are meant, yielding after each list of them."""
        for entries in some:
            if self._flushed:
                return
            self.found.add_all(self.wanted(entries))
            yield

    def look_at_common(self, carriers: list[ManyEntries]) -> Iterator[None]:
        """Take the entries that are in all ``carriers``, yielding after some; all are meant.

        The first should be the smallest. This reads their keys alone: where memory is slow, that
        is twice as fast as asking each entry for its tags.
        """
        smallest, *others = carriers
        for number, part in enumerate(smallest.parts):
            keys = list(part)
            common: list[bytes] = []
            for start in range(0, len(keys), _SOME):
                some: Iterable[bytes] = keys[start : start + _SOME]
                for other in others:
                    some = filter(other.parts[number].__contains__, some)
                common += some
                yield
            if self._flushed:
                return
            # What came or went since the keys were listed was touched.
            self.found.parts[number] = _only(common, part)

    def is_behind(self, dead: list[Carriers]) -> bool:
        """Say whether there is a set of dead entries that was not considered yet."""
        return any(self._is_new(each) for each in dead)

    def consider(self, dead: list[Carriers]) -> Iterator[None]:
        """Take account of the sets of dead entries that are new, yielding after some."""
        for new in list(filter(self._is_new, dead)):
            self._considered.append(new)
            yield from self._consider(new)

    def _is_new(self, dead: Carriers) -> bool:
        return not any(dead is each for each in self._considered)

    def _consider(self, dead: Carriers) -> Iterator[None]:
        """Leave out what is dead already."""
        # A flush puts another in its place.
        found = self.found
        for some in _in_both(found, dead):
            for key in some:
                found.discard(key)
            yield

    def flushed(self) -> None:
        """Note that all entries are gone."""
        self._flushed = True
        self.found = ManyEntries()
        self.touched.clear()

    def look_again(self) -> Iterator[None]:
        """Take account of what was touched, yielding after each."""
        while self.touched:
            key = self.touched.pop()
            entry = self._lookup(key)
            if entry is not None and self.wanted([entry]):
                self.found.add(key, entry)
            else:
                self.found.discard(key)
            yield


class Overlap(Selection):
    """Those of the entries of a tag that are dead already, so that they are not counted again.

    ``carriers`` are the entries of the tag, of which ``wanted`` says the same.
    """

    __slots__ = ("_carriers",)

    def __init__(
        self,
        wanted: Callable[[list[Entry]], list[Entry]],
        lookup: Callable[[bytes], Entry | None],
        carriers: Callable[[], Carriers],
    ) -> None:
        super().__init__(wanted, lookup)
        self._carriers = carriers

    def _consider(self, dead: Carriers) -> Iterator[None]:
        carriers = self._carriers()
        for some in _in_both(carriers, dead):
            entries = [entry for key in some if (entry := carriers.get(key)) is not None]
            self.found.add_all(self.wanted(entries))
            yield


class Garbage:
    """What was flushed, and waits to be let go of; ``entries`` is how many entries are left.

    ``memory`` is about how many bytes they take.
    """

    __slots__ = ("_heaps", "entries", "memory")

    def __init__(self) -> None:
        self.entries = 0
        self.memory = 0
        self._heaps: deque[Iterator[None]] = deque()

    def add(
        self,
        count: int,
        memory: int,
        shards: Iterable[dict[bytes, Entry]],
        end: Links,
        tags: TagIndex,
        expiry: ExpiryIndex,
        dead: Iterable[Carriers],
    ) -> None:
        """Take over ``count`` entries of ``memory`` bytes, and all that refers to them."""
        self.entries += count
        self.memory += memory
        self._heaps.append(clear(dead))
        self._heaps.append(tags.dismantle())
        # What is in a ring is held by its neighbours.
        del end.older, end.newer
        expiry.dismantle()
        self._heaps.append(self._let_go(shards, memory, memory // count))

    def dismantle(self) -> Iterator[None]:
        """Let go of everything, yielding now and then."""
        while self._heaps:
            heap = self._heaps[0]
            # Not "yield from": who stops in the middle must not close it for all others.
            for _ in heap:
                yield
            if self._heaps and self._heaps[0] is heap:
                self._heaps.popleft()

    def _let_go(
        self, shards: Iterable[dict[bytes, Entry]], memory: int, each: int
    ) -> Iterator[None]:
        for shard in shards:
            while shard:
                _, entry = shard.popitem()
                del entry.older, entry.newer
                if entry.ttl != NEVER:
                    del entry.sooner, entry.later
                if isinstance(entry, UsedEntry):
                    del entry.colder, entry.hotter
                self.entries -= 1
                self.memory -= each
                memory -= each
                yield
        self.memory -= memory


def _in_both(one: Carriers, other: Carriers) -> Iterator[list[bytes]]:
    """Yield the keys that have the same entry in both, some at a time."""
    if len(other) < len(one):
        one, other = other, one
    for number, part in enumerate(parts(one)):
        rest = other
        if isinstance(one, ManyEntries) and isinstance(other, ManyEntries):
            # They are split alike.
            rest = other.parts[number]
        keys = list(part)
        for start in range(0, len(keys), _SOME):
            yield [
                key
                for key in keys[start : start + _SOME]
                if (entry := rest.get(key)) is not None and part.get(key) is entry
            ]


def _only(keys: list[bytes], entries: dict[bytes, Entry]) -> dict[bytes, Entry]:
    """Return those of ``entries`` that have one of ``keys``, and maybe some that came since."""
    if len(keys) < len(entries) // 2:
        return {key: entry for key in keys if (entry := entries.get(key)) is not None}
    # A whole dictionary is copied much faster than one is filled.
    rest = entries.copy()
    if len(keys) < len(entries):
        for key in entries.keys() - set(keys):
            del rest[key]
    return rest


def clear(carriers: Iterable[Carriers]) -> Iterator[None]:
    """Empty these, yielding now and then."""
    for each in carriers:
        for part in parts(each):
            part.clear()
            yield
