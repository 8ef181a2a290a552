"""Select the entries to invalidate, in slices, while entries come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from tagcache.engine.entry import Entries, Entry
from tagcache.engine.tags import ManyEntries, parts

# Keys that are checked in one slice.
_SOME = 2048
# The most keys that may be left for the last step, which is not sliced.
_FEW = 256

Carriers: TypeAlias = Entries | ManyEntries


class Selection:
    """The entries to invalidate; watches the store for changes while they are being found.

    ``wanted`` filters the matching ones out of a list of entries, and ``lookup`` returns the entry
    of a key. ``found`` holds the matches so far. ``touched`` are the keys of entries that were
    stored or removed since the start; they are checked again at the end.
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
        """Note that all entries were removed. Allocates no memory."""
        self._flushed = True
        self.touched.clear()
        number = len(self.found.parts)
        while number:
            number -= 1
            self.found.parts[number].clear()

    def look_at(self, some: Iterable[list[Entry]]) -> Iterator[None]:
        """Add the matching entries, yielding after each list."""
        for entries in some:
            if self._flushed:
                return
            self.found.add_all(self.wanted(entries))
            yield

    def look_at_common(self, carriers: list[ManyEntries]) -> Iterator[None]:
        """Add the entries that are in all ``carriers``, which all match; yields from time to time.

        The first should be the smallest. Only keys are read: that is twice as fast as reading the
        tags of each entry, which are elsewhere in memory.
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
            # Entries that came or went since the keys were listed are in ``touched``.
            self.found.parts[number] = _only(common, part)

    def is_behind(self, dead: list[Carriers]) -> bool:
        """Return whether many keys were touched, or a set of dead entries is not considered yet."""
        return len(self.touched) > _FEW or any(map(self._is_new, dead))

    def consider(self, dead: list[Carriers]) -> Iterator[None]:
        """Apply the new sets of dead entries, yielding from time to time."""
        for new in list(filter(self._is_new, dead)):
            self._considered.append(new)
            yield from self._consider(new)

    def _is_new(self, dead: Carriers) -> bool:
        return not any(dead is each for each in self._considered)

    def _consider(self, dead: Carriers) -> Iterator[None]:
        """Remove entries that are already dead."""
        for some in _in_both(self.found, dead):
            for key in some:
                self.found.discard(key)
            yield

    def look_again(self) -> Iterator[None]:
        """Check the touched keys again, yielding after each."""
        while self.touched:
            key = self.touched.pop()
            entry = self._lookup(key)
            if entry is not None and self.wanted([entry]):
                self.found.add(key, entry)
            else:
                self.found.discard(key)
            yield


class Overlap(Selection):
    """The entries of a tag that are already dead, so that they are not counted twice.

    ``carriers`` returns the entries of the tag; ``wanted`` filters the dead ones.
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
    """Return the ``entries`` with these keys, and perhaps some that were added since."""
    if len(keys) < len(entries) // 2:
        some = Entries()
        for key in keys:
            if (entry := entries.get(key)) is not None:
                some[key] = entry
        return some
    # Copying a whole table is much faster than filling a new one.
    rest = entries.copy()
    if len(keys) < len(entries):
        for key in set(entries).difference(keys):
            del rest[key]
    return rest
