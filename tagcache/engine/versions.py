"""The versions of entries, by which WATCH notices every change."""

from __future__ import annotations

from weakref import WeakValueDictionary

from tagcache.engine.store import Store


class _Version:
    """The state of an entry, or of its absence, until the next change of its key."""

    __slots__ = ("__weakref__",)


class EntryVersions:
    """Hands out a version of an entry that every change replaces; a Watcher of the store.

    A version exists as long as somebody keeps it. Without one, the store has nothing to report.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._current: WeakValueDictionary[bytes, _Version] = WeakValueDictionary()

    def of(self, key: bytes) -> object:
        """Return the current version of an entry; two are equal unless it changed in between."""
        store = self._store
        entry = store.find(key)
        if entry is not None and not store.is_live(entry, store.monotonic()):
            # Its later removal would look like a change of an entry that is absent already.
            store.remove_gone(entry)
            entry = None
        version = self._current.get(key)
        if version is None:
            version = self._current[key] = _Version()
            if self not in store.watchers:
                store.watchers.append(self)
        # An entry that expires or is flushed ceases to exist without a report.
        return entry is not None, version

    def changing(self, key: bytes) -> None:
        self._current.pop(key, None)
        if not self._current:
            # A new list, because the store goes through the old one at this moment.
            self._store.watchers = [each for each in self._store.watchers if each is not self]

    def flushed(self) -> None:
        """Do nothing: what was there is absent now, and what was absent has not changed."""
