"""The tag index: which entries carry which tag."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from sys import getsizeof
from typing import Any, TypeAlias

from tagcache.engine.entry import Entries, Entry, TagTotals

# A growing dictionary is copied as a whole, which takes 30 ms for a million entries. If it is split
# into parts by hash, only one part is copied at a time. Splitting does not pay for tags with few
# entries: 64 empty dictionaries take 4 KiB.
_SPLIT_AT = 16384
_PARTS = 64
_MASK = _PARTS - 1
# A dictionary does not shrink when entries are removed. Its size is checked once in this many
# removals: it is too large if it takes more than _SMALL bytes and _SPARSE bytes per entry. A copy
# takes at most 110 bytes per entry.
_CHECK_EVERY = 32
_SMALL = 4096
_SPARSE = 240
# Entries yielded at a time.
_SOME = 512


class ManyEntries:
    """A large number of entries by key, in parts by the hash of the key."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[Entries] = [Entries() for _ in range(_PARTS)]

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
        number = hash(key) & _MASK
        if self.parts[number].pop(key, None) is not None:
            shrink(self.parts, number)


def shrink(tables: Any, place: Any) -> None:
    """Replace ``tables[place]`` by a copy if it is more than twice as large as the copy.

    Call this after each removal from that dictionary. The copy only saves memory, so it is skipped
    if there is no memory for it.
    """
    try:
        table = tables[place]
        if not len(table) % _CHECK_EVERY and getsizeof(table) > _SMALL + _SPARSE * len(table):
            tables[place] = table.copy()
    except MemoryError:
        pass


def parts(entries: Entries | ManyEntries) -> list[Entries]:
    """Return the tables that hold these entries."""
    return entries.parts if isinstance(entries, ManyEntries) else [entries]


# Most tags have few entries, and many have only one, which needs no table.
Carriers: TypeAlias = Entry | Entries | ManyEntries


class TagIndex(TagTotals):
    """For each tag the entries that carry it; a tag without entries is dropped.

    The native core adds the tags of new entries, too.

    Attributes:
        shards: the carriers by tag, in parts that are quick to iterate; others must not change it.
        references: the sum of the numbers of tags of all entries.
        count_all: the number of tags.
        name_bytes: the sum of their lengths.
    """

    __slots__ = ()

    def __init__(self) -> None:
        self.shards: list[dict[bytes, Carriers]] = [{} for _ in range(_PARTS)]
        self.references = 0
        self.count_all = 0
        self.name_bytes = 0

    def add(self, entry: Entry, tags: Collection[bytes]) -> None:
        """Add ``entry`` to ``tags``, none of which it has yet.

        A MemoryError changes nothing.
        """
        key = entry.key
        shards = self.shards
        new = new_bytes = 0
        try:
            for tag in tags:
                shard = shards[hash(tag) & _MASK]
                carriers = shard.get(tag)
                if isinstance(carriers, Entries):
                    carriers[key] = entry
                    if len(carriers) > _SPLIT_AT:
                        shard[tag] = _split(carriers)
                elif carriers is None:
                    shard[tag] = entry
                    new += 1
                    new_bytes += len(tag)
                elif isinstance(carriers, Entry):
                    both = Entries()
                    both[carriers.key] = carriers
                    both[key] = entry
                    shard[tag] = both
                elif isinstance(carriers, ManyEntries):
                    carriers.add(key, entry)
            references = self.references + len(tags)
            if new:
                new += self.count_all
                new_bytes += self.name_bytes
        except MemoryError:
            self._undo(entry, tags)
            raise
        self.references = references
        if new:
            self.count_all = new
            self.name_bytes = new_bytes

    def _undo(self, entry: Entry, tags: Iterable[bytes]) -> None:
        """Remove ``entry`` from those ``tags`` to which ``add`` has already added it."""
        for tag in tags:
            shard = self.shards[hash(tag) & _MASK]
            carriers = shard.get(tag)
            if carriers is entry:
                del shard[tag]
            elif carriers is not None and not isinstance(carriers, Entry):
                # Other entries carry the tag, too, or there would be no table.
                for part in parts(carriers):
                    if part.get(entry.key) is entry:
                        del part[entry.key]

    def discard(self, entry: Entry, tags: Collection[bytes]) -> None:
        """Remove ``entry`` from ``tags``; a MemoryError changes nothing.

        Tags that were taken out are skipped: the index has no entries for them.
        """
        key = entry.key
        part = hash(key) & _MASK
        shards = self.shards
        names = name_size = 0
        # A table and the name to delete from it; and the place of that table.
        deletions: list[tuple[Any, bytes, Any, Any]] = []
        for tag in tags:
            number = hash(tag) & _MASK
            shard = shards[number]
            carriers = shard.get(tag)
            if isinstance(carriers, Entries):
                if carriers.get(key) is not entry:
                    continue
                if len(carriers) > 1:
                    deletions.append((carriers, key, shard, tag))
                    continue
            elif isinstance(carriers, ManyEntries):
                table = carriers.parts[part]
                if table.get(key) is not entry:
                    continue
                # Count all parts only if this one is about to become empty.
                if len(table) > 1 or len(carriers) > 1:
                    deletions.append((table, key, carriers.parts, part))
                    continue
            elif carriers is not entry:
                continue
            names += 1
            name_size += len(tag)
            deletions.append((shard, tag, shards, number))
        self._delete(deletions, self.references - len(tags), names, name_size)

    def _delete(
        self,
        deletions: list[tuple[Any, bytes, Any, Any]],
        references: int,
        names: int,
        name_size: int,
    ) -> None:
        count_all = self.count_all - names
        name_bytes = self.name_bytes - name_size
        shrinking = iter(deletions)
        # Nothing below allocates memory.
        for table, name, _, _ in deletions:
            del table[name]
        self.references = references
        self.count_all = count_all
        self.name_bytes = name_bytes
        for _, _, tables, place in shrinking:
            shrink(tables, place)

    def replace(self, entry: Entry, tags: tuple[bytes, ...]) -> None:
        """Replace the tags of ``entry``; a MemoryError changes nothing."""
        old, new = set(entry.tags), set(tags)
        before = self.references, self.count_all, self.name_bytes
        self.add(entry, new - old)
        try:
            self.discard(entry, old - new)
        except MemoryError:
            self._undo(entry, new - old)
            self.references, self.count_all, self.name_bytes = before
            raise
        entry.tags = tags

    def take_out(self, tag: bytes) -> Entries | ManyEntries:
        """Remove ``tag``, and return its entries by key; a MemoryError changes nothing."""
        carriers = self.by_key(tag)
        if carriers:
            shard = self.shards[hash(tag) & _MASK]
            count_all, name_bytes = self.count_all - 1, self.name_bytes - len(tag)
            del shard[tag]
            self.count_all = count_all
            self.name_bytes = name_bytes
        return carriers

    def carriers(self, tag: bytes) -> Carriers | None:
        """Return what holds the entries of ``tag``; not to be changed."""
        return self.shards[hash(tag) & _MASK].get(tag)

    def name(self, tag: bytes) -> bytes:
        """Return the object for ``tag`` that its entries already share, if there are any."""
        carriers = self.carriers(tag)
        if carriers is None:
            return tag
        if not isinstance(carriers, Entry):
            part = next(filter(None, parts(carriers)))
            carriers = part.last()
        tags = carriers.tags
        return tags[tags.index(tag)] if tag in tags else tag

    def count(self, tag: bytes) -> int:
        """Return the number of entries that carry ``tag``."""
        return _count(self.shards[hash(tag) & _MASK].get(tag))

    def by_key(self, tag: bytes) -> Entries | ManyEntries:
        """Return the entries that carry ``tag``, by key; not to be changed."""
        carriers = self.carriers(tag)
        if carriers is not None and not isinstance(carriers, Entry):
            return carriers
        entries = Entries()
        if carriers is not None:
            entries[carriers.key] = carriers
        return entries

    def many_entries(self, tags: Iterable[bytes]) -> list[ManyEntries] | None:
        """Return the entries of these tags, the fewest first; None unless all of them are split."""
        found = [self.carriers(tag) for tag in tags]
        many = [carriers for carriers in found if isinstance(carriers, ManyEntries)]
        return sorted(many, key=len) if len(many) == len(found) else None

    def some_entries(self, tag: bytes) -> Iterator[list[Entry]]:
        """Yield the entries that carry ``tag`` in lists; they may come and go meanwhile."""
        carriers = self.carriers(tag)
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
        for shard in self.shards:
            for tag, carriers in list(shard.items()):
                yield tag, _count(carriers)

    def dismantle(self) -> Iterator[None]:
        """Free the memory of the whole index, yielding from time to time."""
        for shard in self.shards:
            while shard:
                _, carriers = shard.popitem()
                for part in () if isinstance(carriers, Entry) else parts(carriers):
                    part.clear()
                    yield
                yield


def _split(entries: Entries) -> ManyEntries:
    many = ManyEntries()
    many.add_all(entries.values())
    return many


def _count(carriers: Carriers | None) -> int:
    if carriers is None:
        return 0
    return 1 if isinstance(carriers, Entry) else len(carriers)
