"""What a server keeps of a remote cache in its own memory, and when that may not be believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from tagcache.errors import CommandError
from tagcache.model.interfaces import ICache

# How old an answer may be at most, in seconds: what was changed longer ago is never answered.
STALENESS_SECONDS = 1.0
_MOST_TAGS_NOTED = 10_000


class Near:
    """Entries of a remote cache that were looked up here, in a cache of this process.

    Whoever hears of changes elsewhere tells of them (``changed``, ``tags_changed``, ``clear``), and
    says up to when what was told is complete (``fresh_until``, in seconds of the monotonic clock).
    Whoever changes an entry from here holds its key, or its tags, until that is answered: meanwhile
    nothing is kept of it, so that nobody here finds what was there before.

    A look-up elsewhere that is to be kept begins with ``begin`` and ends with ``keep``.
    """

    def __init__(self, cache: ICache, monotonic: Callable[[], float]) -> None:
        self.cache = cache
        self.fresh_until = 0.0
        self.hits = 0
        self.cleared = 0
        self._monotonic = monotonic
        # Events are numbered: a look-up begun before one may have found what was there before it.
        self._number = 0
        self._looking_up: Counter[bytes] = Counter()
        self._changed: dict[bytes, int] = {}
        self._tags_changed: dict[bytes, int] = {}
        self._all_changed = 0
        self._held: Counter[bytes] = Counter()
        self._held_tags: Counter[bytes] = Counter()
        self._held_all = 0

    @property
    def is_fresh(self) -> bool:
        """Whether it can answer now."""
        return self._monotonic() <= self.fresh_until

    def get(self, key: bytes) -> bytes | None:
        """Return a value that is at most STALENESS_SECONDS old; None if it is not here."""
        now = self._monotonic()
        if now > self.fresh_until:
            return None
        value = self.cache.get(key, now)
        if value is not None:
            self.hits += 1
        return value

    def begin(self, key: bytes) -> tuple[int, float]:
        """Note that the key is looked up elsewhere; returns what ``keep`` is to be given."""
        self._looking_up[key] += 1
        return self._number, self._monotonic()

    def keep(
        self,
        key: bytes,
        begun: tuple[int, float],
        value: bytes,
        tags: Iterable[bytes],
        left_ms: int | None,
    ) -> None:
        """Keep what was found, unless it may have changed meanwhile; ends the look-up.

        ``left_ms`` is the time to live that it had left, None if it does not expire.
        """
        number, since = begun
        tags = list(tags)
        believed = (
            max(self._changed.get(key, 0), self._all_changed) <= number
            and all(self._tags_changed.get(tag, 0) <= number for tag in tags)
            and not self._held_all
            and key not in self._held
            and not any(tag in self._held_tags for tag in tags)
        )
        self.end(key)
        now = self._monotonic()
        if not believed or now > self.fresh_until:
            return
        if left_ms is not None:
            left_ms -= int((now - since) * 1000) + 1
            if left_ms <= 0:
                return
        try:
            self.cache.put(key, value, tags, left_ms)
        except CommandError:
            # Too large to be kept here.
            self.cache.delete(key)

    def end(self, key: bytes) -> None:
        """Note that a look-up elsewhere is over."""
        self._looking_up[key] -= 1
        if not self._looking_up[key]:
            del self._looking_up[key]
            self._changed.pop(key, None)
        if not self._looking_up:
            self._tags_changed.clear()

    def changed(self, key: bytes) -> None:
        """Drop an entry that is not what it was."""
        self.cache.delete(key)
        if key in self._looking_up:
            self._number += 1
            self._changed[key] = self._number

    def tags_changed(self, tags: Iterable[bytes]) -> None:
        """Drop all entries that carry one of the tags."""
        # All partitions of a cluster tell of the same ones.
        tags = list(dict.fromkeys(tags))
        for tag in tags:
            for _ in self.cache.invalidate_tag(tag):
                pass
        if not self._looking_up:
            return
        self._number += 1
        if len(self._tags_changed) + len(tags) > _MOST_TAGS_NOTED:
            self._tags_changed.clear()
            self._all_changed = self._number
        else:
            self._tags_changed.update(dict.fromkeys(tags, self._number))

    def clear(self) -> None:
        """Drop everything."""
        self.cleared += 1
        self._drop_all()

    def _drop_all(self) -> None:
        for _ in self.cache.flush():
            pass
        self._number += 1
        self._all_changed = self._number

    def lose(self) -> None:
        """Drop everything, and answer nothing until somebody hears of changes again."""
        # Attempts to hear again that fail have nothing more to drop.
        self.cleared += self.fresh_until > 0
        self.fresh_until = 0.0
        self._drop_all()

    def hold(self, key: bytes) -> None:
        """Note that the entry is being changed from here."""
        self._held[key] += 1
        self.changed(key)

    def release(self, key: bytes) -> None:
        """Note that the change is through, or nobody knows whether it is."""
        self.changed(key)
        _take_one(self._held, key)

    def hold_tags(self, tags: Iterable[bytes]) -> None:
        """Note that the tags are being invalidated from here."""
        self._held_tags.update(tags)
        self.tags_changed(tags)

    def release_tags(self, tags: Iterable[bytes]) -> None:
        """Note that the invalidation is through, or nobody knows whether it is."""
        self.tags_changed(tags)
        for tag in tags:
            _take_one(self._held_tags, tag)

    def hold_all(self) -> None:
        """Note that everything is being flushed from here."""
        self._held_all += 1
        self.clear()

    def release_all(self) -> None:
        """Note that the flush is through, or nobody knows whether it is."""
        self.clear()
        self._held_all -= 1


def _take_one(counter: Counter[bytes], name: bytes) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]
