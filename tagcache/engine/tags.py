"""Which entries carry which tag."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from sys import getsizeof
from typing import Any, TypeAlias

from tagcache.engine.entry import Entry

# A dictionary that grows is copied as a whole. Split, the largest copied at once stays small.
_SPLIT_AT = 16384
_PARTS = 64
_MASK = _PARTS - 1
# Removals between two looks at the size of a dictionary; bytes that are never too many; bytes an
# entry that are too many: a copy takes 110 at most.
_LOOK_EVERY = 32
_SMALL = 4096
_SPARSE = 240
# So many entries are looked at in one go.
_SOME = 512


class ManyEntries:
    """Very many entries by key, in parts of which none takes long to grow."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[dict[bytes, Entry]] = [{} for _ in range(_PARTS)]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def get(self, key: bytes) -> Entry | None:
        return self.parts[hash(key) & _MASK].get(key)

    def add(self, key: bytes, entry: Entry) -> None:
        self.parts[hash(key) & _MASK][key] = entry

    def add_all(self, entries: Iterable[Entry]) -> None:
        parts = self.parts
        for entry in entries:
            key = entry.key
            parts[hash(key) & _MASK][key] = entry

    def discard(self, key: bytes) -> None:
        part = self.parts[hash(key) & _MASK]
        part.pop(key, None)
        if is_sparse(part):
            self.parts[hash(key) & _MASK] = dict(part)


def is_sparse(table: dict[bytes, Any]) -> bool:
    """Say whether a dictionary takes more than twice what a copy of it would.

    Dictionaries do not shrink when entries are removed. It looks now and then only, as often as
    entries are removed.
    """
    return not len(table) % _LOOK_EVERY and getsizeof(table) > _SMALL + _SPARSE * len(table)


def parts(entries: dict[bytes, Entry] | ManyEntries) -> list[dict[bytes, Entry]]:
    """Return the dictionaries that these entries are in."""
    return entries.parts if isinstance(entries, ManyEntries) else [entries]


# Most tags have few entries, and many but one: that one needs no dictionary.
Carriers: TypeAlias = "Entry | dict[bytes, Entry] | ManyEntries"


class TagIndex:
    """For each tag the entries that carry it; a tag without entries is dropped.

    ``references`` is the sum of the numbers of entries of all tags, ``count_all`` how many tags
    there are, ``name_bytes`` the sum of their lengths.
    """

    __slots__ = ("_shards", "count_all", "name_bytes", "references")

    def __init__(self) -> None:
        self._shards: list[dict[bytes, Carriers]] = [{} for _ in range(_PARTS)]
        self.references = 0
        self.count_all = 0
        self.name_bytes = 0

    def add(self, entry: Entry) -> None:
        """Note that ``entry`` carries its tags; a MemoryError changes nothing."""
        key = entry.key
        shards = self._shards
        new = new_bytes = 0
        try:
            for tag in entry.tags:
                shard = shards[hash(tag) & _MASK]
                carriers = shard.get(tag)
                if type(carriers) is dict:
                    carriers[key] = entry
                    if len(carriers) > _SPLIT_AT:
                        shard[tag] = _split(carriers)
                elif carriers is None:
                    shard[tag] = entry
                    new += 1
                    new_bytes += len(tag)
                elif isinstance(carriers, Entry):
                    shard[tag] = {carriers.key: carriers, key: entry}
                elif isinstance(carriers, ManyEntries):
                    carriers.add(key, entry)
            references = self.references + len(entry.tags)
            if new:
                new += self.count_all
                new_bytes += self.name_bytes
        except MemoryError:
            self._take_back(entry)
            raise
        self.references = references
        if new:
            self.count_all = new
            self.name_bytes = new_bytes

    def _take_back(self, entry: Entry) -> None:
        """Undo what an ``add`` has done that did not come to its end."""
        for tag in entry.tags:
            shard = self._shards[hash(tag) & _MASK]
            carriers = shard.get(tag)
            if carriers is entry:
                del shard[tag]
            elif carriers is not None and not isinstance(carriers, Entry):
                # Others carry it too, or it would not be here.
                for part in parts(carriers):
                    if part.get(entry.key) is entry:
                        del part[entry.key]

    def discard(self, entry: Entry) -> None:
        """Forget that ``entry`` carries its tags.

        Of a tag that was taken out meanwhile nothing has to be forgotten. After a MemoryError
        it can be asked again, to come to its end.
        """
        key = entry.key
        shards = self._shards
        references = self.references - len(entry.tags)
        for tag in entry.tags:
            shard = shards[hash(tag) & _MASK]
            carriers = shard.get(tag)
            if carriers is entry:
                self._drop(shard, tag)
            elif type(carriers) is dict:
                if carriers.get(key) is entry:
                    del carriers[key]
                if not carriers:
                    self._drop(shard, tag)
                elif is_sparse(carriers):
                    shard[tag] = dict(carriers)
            elif isinstance(carriers, ManyEntries):
                if carriers.get(key) is entry:
                    carriers.discard(key)
                # Whether nothing is left is asked only where it can be so.
                if not carriers.parts[0] and not any(carriers.parts):
                    self._drop(shard, tag)
        self.references = references

    def take_out(self, tag: bytes) -> dict[bytes, Entry] | ManyEntries:
        """Forget ``tag`` and return its entries by key."""
        carriers = self.by_key(tag)
        if carriers:
            self._drop(self._shards[hash(tag) & _MASK], tag)
        return carriers

    def _drop(self, shard: dict[bytes, Carriers], tag: bytes) -> None:
        count_all, name_bytes = self.count_all - 1, self.name_bytes - len(tag)
        del shard[tag]
        self.count_all = count_all
        self.name_bytes = name_bytes

    @property
    def shard_count(self) -> int:
        """How many parts the index has, none of which takes long to go through."""
        return _PARTS

    def in_shard(self, number: int) -> list[bytes]:
        """Return the tags in a part of the index."""
        return list(self._shards[number])

    def name_bytes_in_shard(self, number: int) -> int:
        """Return the sum of the lengths of the tags in a part of the index."""
        return sum(map(len, self._shards[number]))

    def carriers(self, tag: bytes) -> Carriers | None:
        """Return what holds the entries of ``tag``; not to be changed."""
        return self._shards[hash(tag) & _MASK].get(tag)

    def has(self, tag: bytes, entry: Entry) -> bool:
        """Say whether ``entry`` is one of those that carry ``tag``."""
        carriers = self.carriers(tag)
        if carriers is None or isinstance(carriers, Entry):
            return carriers is entry
        return carriers.get(entry.key) is entry

    def name(self, tag: bytes) -> bytes:
        """Return ``tag`` as the one object that entries with it have already, if there is one."""
        carriers = self._shards[hash(tag) & _MASK].get(tag)
        if carriers is None:
            return tag
        if not isinstance(carriers, Entry):
            part = next(filter(None, parts(carriers)))
            # The newest: where the oldest were, a dictionary has holes to step over.
            carriers = next(reversed(part.values()))
        tags = carriers.tags
        return tags[tags.index(tag)] if tag in tags else tag

    def count(self, tag: bytes) -> int:
        """Return the number of entries that carry ``tag``."""
        return _count(self._shards[hash(tag) & _MASK].get(tag))

    def by_key(self, tag: bytes) -> dict[bytes, Entry] | ManyEntries:
        """Return the entries that carry ``tag``, by key; they are not to be changed."""
        carriers = self._shards[hash(tag) & _MASK].get(tag)
        if carriers is None:
            return {}
        return {carriers.key: carriers} if isinstance(carriers, Entry) else carriers

    def many_entries(self, tags: Iterable[bytes]) -> list[ManyEntries] | None:
        """Return the entries of these tags, the fewest first; None unless each has very many."""
        found = [self._shards[hash(tag) & _MASK].get(tag) for tag in tags]
        many = [carriers for carriers in found if isinstance(carriers, ManyEntries)]
        return sorted(many, key=len) if len(many) == len(found) else None

    def some_entries(self, tag: bytes) -> Iterator[list[Entry]]:
        """Yield the entries that carry ``tag``, some at a time; they may come and go meanwhile."""
        carriers = self._shards[hash(tag) & _MASK].get(tag)
        if isinstance(carriers, Entry):
            yield [carriers]
        elif carriers is not None:
            for part in parts(carriers):
                entries = list(part.values())
                for start in range(0, len(entries), _SOME):
                    yield entries[start : start + _SOME]

    def entries(self, tag: bytes) -> Iterator[Entry]:
        """Yield the entries that carry ``tag``; they may come and go meanwhile."""
        return chain.from_iterable(self.some_entries(tag))

    def sizes(self) -> Iterator[tuple[bytes, int]]:
        """Yield each tag with the number of its entries; tags may come and go meanwhile."""
        for shard in self._shards:
            for tag, carriers in list(shard.items()):
                yield tag, _count(carriers)

    def dismantle(self) -> Iterator[None]:
        """Let go of everything, yielding now and then."""
        for shard in self._shards:
            while shard:
                _, carriers = shard.popitem()
                for part in () if isinstance(carriers, Entry) else parts(carriers):
                    part.clear()
                    yield
                yield


def _split(entries: dict[bytes, Entry]) -> ManyEntries:
    many = ManyEntries()
    for key, entry in entries.items():
        many.add(key, entry)
    return many


def _count(carriers: Carriers | None) -> int:
    if carriers is None:
        return 0
    return 1 if isinstance(carriers, Entry) else len(carriers)
