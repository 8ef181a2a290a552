"""Remove entries by key or by tag: any number of them atomically."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Protocol

from tagcache.engine.entry import Entries, Entry
from tagcache.engine.reclaim import Backlog
from tagcache.engine.selection import Overlap, Selection
from tagcache.engine.store import Store
from tagcache.engine.tags import ManyEntries
from tagcache.model.activity import Activity

# Up to this many entries are removed in one step, which takes less than a millisecond. More are
# found in slices, marked dead together, and reclaimed later.
AT_ONCE = 500
# The most sets of dead entries that may wait to be reclaimed: each makes look-ups a little slower.
_MOST_DEAD = 16
# Names that are checked in one step; and tags of one invalidation whose activity is recorded.
_NAMES_AT_ONCE = 256
_NOTED_TAGS = 64


class Heir(Protocol):
    """Takes over entries that are softly invalidated."""

    def soften(self, entry: Entry) -> None:
        """Remove a live entry from the store, and keep it as stale if it has a grace."""

    def softened(self, dead: list[Entries | ManyEntries]) -> None:
        """Note that the entries of these sets were marked dead, and are removed later."""


class Invalidation:
    """Removes entries on request. Its methods return work, as those of ICache do.

    ``count`` is how many entries were removed. If there is an ``heir``, it takes them over.
    """

    def __init__(
        self, store: Store, backlog: Backlog, activity: Activity, heir: Heir | None = None
    ) -> None:
        self.count = 0
        self._heir = heir
        self._remove = store.remove if heir is None else heir.soften
        self._store = store
        self._backlog = backlog
        self._activity = activity

    def delete(
        self, keys: Iterable[bytes], by_tag: Mapping[bytes, list[bytes]] | None = None
    ) -> int:
        """Remove the entries with these keys; ``by_tag`` says which were invalidated by a tag."""
        store = self._store
        now = store.monotonic()
        removed = 0
        for tag, carriers in (by_tag or {}).items():
            if carriers:
                self._activity.invalidated(tag, carriers, len(carriers), now)
        for key in keys:
            entry = store.find(key)
            if entry is None:
                continue
            if store.is_live(entry, now):
                count = self.count + 1
                self._remove(entry)
                self.count = count
                removed += 1
            else:
                store.remove_gone(entry)
        return removed

    def any_of(self, tags: Collection[bytes]) -> Generator[None, None, int]:
        """Remove every entry that carries at least one of the tags."""
        index = self._store.tags
        tags = list(dict.fromkeys(tags))
        if len(tags) <= _NAMES_AT_ONCE and sum(map(index.count, tags)) <= AT_ONCE:
            by_tag = {tag: [entry.key for entry in index.entries(tag)] for tag in tags}
            return self.delete([key for keys in by_tag.values() for key in keys], by_tag)
        largest = yield from self._largest(tags)
        return (yield from self._any_of_many(tags, largest))

    def _largest(self, tags: list[bytes]) -> Generator[None, None, bytes]:
        largest, most = tags[0], -1
        for number, tag in enumerate(tags):
            if (count := self._store.tags.count(tag)) > most:
                largest, most = tag, count
            if not number % _NAMES_AT_ONCE:
                yield
        return largest

    def _smallest(self, tags: set[bytes]) -> Generator[None, None, bytes]:
        smallest, fewest = b"", -1
        for number, tag in enumerate(tags):
            if fewest < 0 or self._store.tags.count(tag) < fewest:
                smallest, fewest = tag, self._store.tags.count(tag)
            if not fewest:
                break
            if number % _NAMES_AT_ONCE == _NAMES_AT_ONCE - 1:
                yield
        return smallest

    def _any_of_many(self, tags: list[bytes], largest: bytes) -> Generator[None, None, int]:
        """Mark the entries of the largest tag dead as they are, and the rest of the others'."""
        store = self._store
        others = set(tags) - {largest}
        rest = Selection(
            lambda entries: [
                entry
                for entry in entries
                if largest not in entry.tags and not others.isdisjoint(entry.tags)
            ],
            store.find_valid,
        )
        dead = Overlap(
            lambda entries: [
                entry for entry in entries if largest in entry.tags and store.is_dead(entry)
            ],
            store.find,
            lambda: store.tags.by_key(largest),
        )
        yield from self._select(rest.look_at(self._entries_of(others)), rest, dead)
        for tag in tags[:_NOTED_TAGS]:
            keys = (entry.key for entry in store.tags.entries(tag))
            self._note(tag, keys, store.tags.count(tag))
        count = store.tags.count(largest) - len(dead.found) + len(rest.found)
        return self._mark_dead(rest, count, largest)

    def all_of(self, tags: Collection[bytes]) -> Generator[None, None, int]:
        """Remove every entry that carries all of the tags; none for no tags."""
        if not tags:
            return 0
        store = self._store
        meant = set(tags)
        if len(meant) == 1:
            return (yield from self.any_of(meant))
        smallest = yield from self._smallest(meant)
        selection = Selection(
            lambda entries: [entry for entry in entries if meant.issubset(entry.tags)],
            store.find_valid,
        )
        if store.tags.count(smallest) <= AT_ONCE:
            keys = [entry.key for entry in selection.wanted(list(store.tags.entries(smallest)))]
            return self.delete(keys, dict.fromkeys(meant, keys))
        yield from self._select(self._look_for_all(selection, meant), selection)
        for tag in islice(meant, _NOTED_TAGS):
            keys_found = chain.from_iterable(selection.found.parts)
            self._note(tag, keys_found, len(selection.found))
        return self._mark_dead(selection, len(selection.found))

    def keys(self, keys: Collection[bytes]) -> Generator[None, None, int]:
        """Remove the entries with these keys."""
        if len(keys) <= AT_ONCE:
            return self.delete(keys)
        meant = set(keys)
        selection = Selection(
            lambda entries: [entry for entry in entries if entry.key in meant],
            self._store.find_valid,
        )
        yield from self._select(selection.look_at(self._entries_at(keys)), selection)
        return self._mark_dead(selection, len(selection.found))

    def flush(self, memory: int) -> int:
        """Remove every entry at once; they take about ``memory`` bytes."""
        removed = self._store.items - self._store.dead_left
        count = self.count + removed
        if self._store.items:
            self._backlog.flush(memory)
        self.count = count
        return removed

    def keys_by_tag(self, tag: bytes) -> Generator[None, None, list[bytes]]:
        """Work that returns the keys of the entries that carry the tag at one point in time."""
        store = self._store
        if store.tags.count(tag) <= AT_ONCE:
            now = store.monotonic()
            return [entry.key for entry in store.tags.entries(tag) if store.is_live(entry, now)]
        selection = Selection(
            lambda entries: [entry for entry in entries if tag in entry.tags], store.find_valid
        )
        yield from self._select(selection.look_at(self._entries_of([tag])), selection)
        keys: list[bytes] = []
        for part in selection.found.parts:
            keys += part
            part.clear()
            yield
        return keys

    def _select(self, look: Iterator[None], *selections: Selection) -> Iterator[None]:
        """Find the entries to invalidate; only at the end are the selections exact.

        ``look`` finds them; it begins after the expired entries are removed. At the end, no expired
        entry is in the selections, nor anywhere else.
        """
        store = self._store
        dead = store.dead
        yield from store.sweep()
        while len(dead) >= _MOST_DEAD:
            yield from self._backlog.reclaim()
            yield from store.sweep()
        store.watchers += selections
        try:
            yield from look
            yield from store.sweep()
            while any(selection.is_behind(dead) for selection in selections):
                for selection in selections:
                    yield from selection.consider(dead)
                    yield from selection.look_again()
                yield from store.sweep()
            # Finish without yielding: only a little is left.
            store.settle()
            for selection in selections:
                for _ in selection.look_again():
                    pass
        finally:
            for selection in selections:
                store.watchers.remove(selection)

    def _look_for_all(self, selection: Selection, tags: Collection[bytes]) -> Iterator[None]:
        index = self._store.tags
        many = index.many_entries(tags)
        if many is None:
            smallest = min(tags, key=index.count)
            yield from selection.look_at(index.some_entries(smallest))
        else:
            yield from selection.look_at_common(many)

    def _entries_of(self, tags: Iterable[bytes]) -> Iterator[list[Entry]]:
        """Yield lists of entries with these tags, and an empty one before each tag."""
        for tag in tags:
            yield []
            yield from self._store.tags.some_entries(tag)

    def _entries_at(self, keys: Iterable[bytes]) -> Iterator[list[Entry]]:
        """Yield lists of the entries with these keys; the list of some keys may be empty."""
        left = iter(keys)
        while some := list(islice(left, _NAMES_AT_ONCE)):
            yield list(filter(None, map(self._store.find, some)))

    def _mark_dead(self, selection: Selection, removed: int, tag: bytes | None = None) -> int:
        """Remove the ``removed`` entries that were selected or carry the tag, at once."""
        count = self.count + removed
        before = len(self._store.dead)
        self._store.mark_dead(selection.found, removed, tag)
        self.count = count
        if self._heir is not None:
            self._heir.softened(self._store.dead[: len(self._store.dead) - before])
        if removed:
            self._backlog.on_garbage()
        return removed

    def _note(self, tag: bytes, keys: Iterable[bytes], count: int) -> None:
        if count:
            self._activity.invalidated(tag, keys, count, self._store.monotonic())
