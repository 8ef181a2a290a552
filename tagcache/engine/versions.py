"""The versions of entries, with which WATCH detects every change."""

from __future__ import annotations

from weakref import WeakValueDictionary

from tagcache.engine.store import Store


class _Version:
    """The state of an entry, or of its absence, until the next change of its key."""

    __slots__ = ("__weakref__",)


class EntryVersions:
    """Hands out versions of entries; every change replaces the version. A Watcher of the store.

    A version exists as long as somebody refers to it. Without any, the store reports nothing.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._current: WeakValueDictionary[bytes, _Version] = WeakValueDictionary()

    def of(self, key: bytes) -> object:
        """Return the current version of an entry; two are equal if it did not change in between."""
        store = self._store
        entry = store.find(key)
        if entry is not None and not store.is_live(entry, store.monotonic()):
            # Remove it now: its removal later would look like a change of an absent entry.
            store.remove_gone(entry)
            entry = None
        version = self._current.get(key)
        if version is None:
            version = self._current[key] = _Version()
            if self not in store.watchers:
                store.watchers.append(self)
        # Include whether it exists: an entry expires or is flushed without a report.
        return entry is not None, version

    def changing(self, key: bytes) -> None:
        self._current.pop(key, None)
        if not self._current:
            # Make a new list, because the store is iterating over the old one.
            self._store.watchers = [each for each in self._store.watchers if each is not self]

    def flushed(self) -> None:
        """Do nothing: the versions already include whether an entry exists."""
