"""Which keys carry which tag."""

from __future__ import annotations

from collections.abc import Collection, Iterator

_NO_KEYS: frozenset[bytes] = frozenset()


class TagIndex:
    """For each tag the keys of the entries that carry it; a tag without keys is dropped."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[bytes, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes, tags: tuple[bytes, ...]) -> None:
        """Note that the entry ``key`` carries ``tags``."""
        index = self._keys
        for tag in tags:
            keys = index.get(tag)
            if keys is None:
                index[tag] = {key}
            else:
                keys.add(key)

    def discard(self, key: bytes, tags: tuple[bytes, ...]) -> None:
        """Forget that the entry ``key`` carries ``tags``."""
        index = self._keys
        for tag in tags:
            keys = index[tag]
            keys.discard(key)
            if not keys:
                del index[tag]

    def keys(self, tag: bytes) -> Collection[bytes]:
        """Return the keys under ``tag``: the index's own set, not to be changed."""
        return self._keys.get(tag, _NO_KEYS)

    def any(self, tags: Collection[bytes]) -> set[bytes]:
        """Return the keys under at least one of ``tags``."""
        return set().union(*(self._keys.get(tag, _NO_KEYS) for tag in tags))

    def all(self, tags: Collection[bytes]) -> set[bytes]:
        """Return the keys under every one of ``tags``; none for no tags."""
        if not tags:
            return set()
        smallest, *others = sorted((self._keys.get(tag, _NO_KEYS) for tag in tags), key=len)
        return set(smallest).intersection(*others)

    def names(self) -> list[bytes]:
        """Return the tags that are in use."""
        return list(self._keys)

    def sizes(self) -> Iterator[tuple[bytes, int]]:
        """Yield each tag with the number of its keys."""
        for tag, keys in self._keys.items():
            yield tag, len(keys)
