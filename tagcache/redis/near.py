"""The near cache: entries of Redis that this server keeps in its own memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from tagcache.errors import CommandError
from tagcache.model.interfaces import ICache

# A change that is older than this many seconds is visible in every reply.
STALENESS_SECONDS = 1.0
_MOST_TAGS_NOTED = 10_000


class Near:
    """Keeps entries that were looked up in Redis in ``cache``, a cache of this process.

    The tracking reports changes (``changed``, ``tags_changed``, ``clear``) and sets
    ``fresh_until``, the time of the monotonic clock in seconds until which its reports are
    complete. While this server changes an entry, it holds the key or the tags (from ``hold`` to
    ``release``); the entry is not kept meanwhile, so that no client finds the old value here.

    A look-up in Redis whose result is to be kept begins with ``begin`` and ends with ``keep``.
    """

    def __init__(self, cache: ICache, monotonic: Callable[[], float]) -> None:
        self.cache = cache
        self.fresh_until = 0.0
        self.hits = 0
        self.cleared = 0
        self._monotonic = monotonic
        # Changes are numbered: a look-up that began before a change may have found the old value.
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
        """Whether it may answer now."""
        return self._monotonic() <= self.fresh_until

    def get(self, key: bytes) -> bytes | None:
        """Return a value that is stale by at most STALENESS_SECONDS; None if there is none."""
        now = self._monotonic()
        if now > self.fresh_until:
            return None
        value = self.cache.get(key, now)
        if value is not None:
            self.hits += 1
        return value

    def begin(self, key: bytes) -> tuple[int, float]:
        """Begin a look-up in Redis; returns the argument ``begun`` of ``keep``."""
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

        ``left_ms`` is the remaining time to live, None if the entry does not expire.
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
            # The entry is too large for this cache.
            self.cache.delete(key)

    def end(self, key: bytes) -> None:
        """End a look-up in Redis whose result is not kept."""
        self._looking_up[key] -= 1
        if not self._looking_up[key]:
            del self._looking_up[key]
            self._changed.pop(key, None)
        if not self._looking_up:
            self._tags_changed.clear()

    def changed(self, key: bytes) -> None:
        """Drop an entry that has changed."""
        self.cache.delete(key)
        if key in self._looking_up:
            self._number += 1
            self._changed[key] = self._number

    def tags_changed(self, tags: Iterable[bytes]) -> None:
        """Drop all entries with one of the tags."""
        # All partitions of a cluster report the same tags.
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
        """Drop everything, and answer nothing until changes are tracked again."""
        # After a failed attempt to track again, there is nothing to drop.
        self.cleared += self.fresh_until > 0
        self.fresh_until = 0.0
        self._drop_all()

    def hold(self, key: bytes) -> None:
        """Begin a change of an entry by this server."""
        self._held[key] += 1
        self.changed(key)

    def release(self, key: bytes) -> None:
        """End a change of an entry, whether it succeeded or not."""
        self.changed(key)
        _take_one(self._held, key)

    def hold_tags(self, tags: Iterable[bytes]) -> None:
        """Begin an invalidation of tags by this server."""
        self._held_tags.update(tags)
        self.tags_changed(tags)

    def release_tags(self, tags: Iterable[bytes]) -> None:
        """End an invalidation, whether it succeeded or not."""
        self.tags_changed(tags)
        for tag in tags:
            _take_one(self._held_tags, tag)

    def hold_all(self) -> None:
        """Begin a flush by this server."""
        self._held_all += 1
        self.clear()

    def release_all(self) -> None:
        """End a flush, whether it succeeded or not."""
        self.clear()
        self._held_all -= 1


def _take_one(counter: Counter[bytes], name: bytes) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]
