"""Which entries an invalidation means, found in slices while entries come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from tagcache.engine.entry import Entries, Entry
from tagcache.engine.tags import ManyEntries, parts

# Keys that are looked at in one go.
_SOME = 2048
# Keys that may be left for the last step, which is done in one go.
_FEW = 256

Carriers: TypeAlias = Entries | ManyEntries


class Selection:
    """The entries that an invalidation in progress means; it watches what changes meanwhile.

    ``wanted`` returns those of some entries that are meant, and ``lookup`` the entry of a key.
    ``found`` has the entries that were found so far. ``touched`` are the keys of the entries that
    were stored or removed since the beginning; they are looked at again at the end.
    """

    __slots__ = ("_considered", "_flushed", "_lookup", "found", "touched", "wanted")

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

    def changing(self, key: bytes) -> None:
        """Note that the entry of this key is about to be stored or removed."""
        self.touched.add(key)

    def flushed(self) -> None:
        """Note that all entries were removed; this needs no memory."""
        self._flushed = True
        self.touched.clear()
        number = len(self.found.parts)
        while number:
            number -= 1
            self.found.parts[number].clear()

    def look_at(self, some: Iterable[list[Entry]]) -> Iterator[None]:
        """Take those entries that are meant, yielding after each list of them."""
        for entries in some:
            if self._flushed:
                return
            self.found.add_all(self.wanted(entries))
            yield

    def look_at_common(self, carriers: list[ManyEntries]) -> Iterator[None]:
        """Take the entries that are in all ``carriers``, yielding after some; all are meant.

        The first should be the smallest. Only keys are read: that is twice as fast as to ask each
        entry for its tags, which are elsewhere in memory.
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
        """Say whether much was touched, or a set of dead entries was not considered yet."""
        return len(self.touched) > _FEW or any(map(self._is_new, dead))

    def consider(self, dead: list[Carriers]) -> Iterator[None]:
        """Take account of the sets of dead entries that are new, yielding after some."""
        for new in list(filter(self._is_new, dead)):
            self._considered.append(new)
            yield from self._consider(new)

    def _is_new(self, dead: Carriers) -> bool:
        return not any(dead is each for each in self._considered)

    def _consider(self, dead: Carriers) -> Iterator[None]:
        """Leave out what is dead already."""
        for some in _in_both(self.found, dead):
            for key in some:
                self.found.discard(key)
            yield

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
    """Those entries of a tag that are dead already, so that they are not counted twice.

    ``carriers`` returns the entries of the tag; ``wanted`` says which of them are dead.
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


def _in_both(one: Carriers, other: Carriers) -> Iterator[list[bytes]]:
    """Yield the keys that have the same entry in both, some at a time."""
    if len(other) < len(one):
        one, other = other, one
    for number, part in enumerate(parts(one)):
        rest = other
        if isinstance(one, ManyEntries) and isinstance(other, ManyEntries):
            # Both are split by the same hash.
            rest = other.parts[number]
        keys = list(part)
        for start in range(0, len(keys), _SOME):
            yield [
                key
                for key in keys[start : start + _SOME]
                if (entry := rest.get(key)) is not None and part.get(key) is entry
            ]


def _only(keys: list[bytes], entries: Entries) -> Entries:
    """Return those of ``entries`` that have one of ``keys``, and maybe some that came since."""
    if len(keys) < len(entries) // 2:
        some = Entries()
        for key in keys:
            if (entry := entries.get(key)) is not None:
                some[key] = entry
        return some
    # To copy a whole table is much faster than to fill one.
    rest = entries.copy()
    if len(keys) < len(entries):
        for key in set(entries).difference(keys):
            del rest[key]
    return rest
