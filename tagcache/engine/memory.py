"""The cache in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import nlargest
from itertools import islice

from zope.interface import implementer

from tagcache.engine import int64
from tagcache.engine.entry import NEVER, Entry
from tagcache.engine.expiry import ExpiryIndex
from tagcache.engine.limits import Limits
from tagcache.engine.statistics import Counters, Totals
from tagcache.engine.tags import TagIndex
from tagcache.errors import (
    IntegerOverflow,
    KeyTooLong,
    NotAnInteger,
    TagTooLong,
    TooManyTags,
    ValueTooLarge,
)
from tagcache.interfaces import ICache

# Sharing tag sets is an economy: only short ones, and so many, are remembered.
_SHARED_TAGS = 8192
_SHARED_TAG_BYTES = 512


@implementer(ICache)
class MemoryCache:
    """An ICache that holds its entries in dictionaries; one thread owns it.

    ``monotonic`` and ``wall`` return seconds; expiry goes by the first, which never jumps,
    and creation times by the second.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or Limits()
        self._monotonic = monotonic
        self._wall = wall
        self._entries: dict[bytes, Entry] = {}
        self._tags = TagIndex()
        self._expiry = ExpiryIndex()
        self._shared_tags: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
        self._bytes = 0
        self._hits = 0
        self._misses = 0
        self._puts = 0
        self._invalidations = 0
        self._expirations = 0

    @property
    def limits(self) -> Limits:
        """What an entry may be at most."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        # Those tag sets were checked against the old limits.
        self._shared_tags = {}

    def get(self, key: bytes) -> bytes | None:
        entry = self._entries.get(key)
        if entry is not None:
            if entry.expires > self._monotonic():
                self._hits += 1
                return entry.value
            self._expire(key, entry)
        self._misses += 1
        return None

    def peek(self, key: bytes) -> Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires > self._monotonic():
            return entry
        self._expire(key, entry)
        return None

    def put(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int | None:
        limits = self._limits
        if len(key) > limits.max_key_length:
            raise KeyTooLong(f"the key has {len(key)} bytes, the limit is {limits.max_key_length}")
        if len(value) > limits.max_value_length:
            raise ValueTooLarge(
                f"the value has {len(value)} bytes, the limit is {limits.max_value_length}"
            )
        ttl_ms = ttl_ms or limits.default_ttl_ms or None
        self._store(key, value, self._checked_tags(tags) if tags else (), ttl_ms)
        return ttl_ms

    def add(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> bool:
        if self.peek(key) is not None:
            return False
        self.put(key, value, tags, ttl_ms)
        return True

    def increment(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int:
        entry = self.peek(key)
        if entry is None:
            self._check_range(by)
            self.put(key, b"%d" % by, tags, ttl_ms)
            return by
        stored = int64.parse(entry.value.strip())
        if stored is None:
            raise NotAnInteger
        result = stored + by
        self._check_range(result)
        self._store(
            key,
            b"%d" % result,
            self._checked_tags(tags) if tags else entry.tags,
            ttl_ms or entry.ttl_ms,
        )
        return result

    def decrement(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int:
        self._check_range(-by)
        return self.increment(key, -by, tags, ttl_ms)

    def delete(self, key: bytes) -> bool:
        return self._invalidate((key,)) == 1

    def invalidate_tag(self, tag: bytes) -> int:
        return self._invalidate(list(self._tags.keys(tag)))

    def invalidate_any(self, tags: Collection[bytes]) -> int:
        return self._invalidate(self._tags.any(tags))

    def invalidate_all(self, tags: Collection[bytes]) -> int:
        return self._invalidate(self._tags.all(tags))

    def invalidate_keys(self, keys: Collection[bytes]) -> int:
        return self._invalidate(keys)

    def keys_by_tag(self, tag: bytes) -> list[bytes]:
        now = self._monotonic()
        entries = self._entries
        return [key for key in self._tags.keys(tag) if entries[key].expires > now]

    def scan_any(self, tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
        seen: set[bytes] = set()
        for tag in dict.fromkeys(tags):
            for item in self._scan_keys(list(self._tags.keys(tag)), (tag,)):
                if item is None or item[0] in seen:
                    yield None
                else:
                    seen.add(item[0])
                    yield item

    def scan_all(self, tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
        if tags:
            smallest = min((self._tags.keys(tag) for tag in tags), key=len)
            yield from self._scan_keys(list(smallest), tags)

    def newest(self, offset: int, limit: int) -> list[tuple[bytes, Entry]]:
        # Storing appends to the dictionary, also where it overwrites: it is in order of age.
        now = self._monotonic()
        offset, limit = min(offset, len(self._entries)), min(limit, len(self._entries))
        live = (item for item in reversed(self._entries.items()) if item[1].expires > now)
        return list(islice(live, offset, offset + limit))

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, Entry] | None]:
        keys = list(self._entries)
        while keys:
            key = keys.pop()
            entry = self._entries.get(key) if key.startswith(prefix) else None
            if entry is not None and entry.expires > self._monotonic():
                yield key, entry
            else:
                yield None

    def scan_tags(self, prefix: bytes) -> Iterator[tuple[bytes, int, int] | None]:
        for tag in self._tags.names():
            if not tag.startswith(prefix):
                yield None
                continue
            keys = size = 0
            for key in list(self._tags.keys(tag)):
                entry = self._entries.get(key)
                if entry is not None and entry.expires > self._monotonic():
                    keys += 1
                    size += len(key) + len(entry.value)
                yield None
            if keys:
                yield tag, keys, size

    def flush(self) -> int:
        self._shared_tags.clear()
        return self._invalidate(list(self._entries))

    def sweep(self) -> Iterator[None]:
        now = self._monotonic()
        while (bucket := self._expiry.past(now)) is not None:
            while bucket:
                key = bucket.pop()
                entry = self._entries[key]
                if entry.expires <= now:
                    self._expire(key, entry)
                else:
                    entry.bucket = self._expiry.schedule(key, entry.expires, now)
                yield

    def counters(self) -> Counters:
        return Counters(
            hits=self._hits,
            misses=self._misses,
            puts=self._puts,
            invalidations=self._invalidations,
            expirations=self._expirations,
        )

    def totals(self) -> Totals:
        self._settle()
        return Totals(items=len(self._entries), tags=len(self._tags), bytes=self._bytes)

    def top_tags(self, count: int = 20) -> list[tuple[bytes, int]]:
        self._settle()
        return nlargest(count, self._tags.sizes(), key=lambda item: item[1])

    def _scan_keys(
        self, keys: list[bytes], tags: Collection[bytes]
    ) -> Iterator[tuple[bytes, Entry] | None]:
        """Yield those of ``keys`` that are there and carry all of ``tags``; None for others."""
        for key in keys:
            entry = self._entries.get(key)
            if (
                entry is not None
                and entry.expires > self._monotonic()
                and all(tag in entry.tags for tag in tags)
            ):
                yield key, entry
            else:
                yield None

    def _settle(self) -> None:
        """Reclaim all that has expired up to now, so that the totals are exact."""
        for _ in self.sweep():
            pass
        now = self._monotonic()
        for key in list(self._expiry.present(now)):
            entry = self._entries[key]
            if entry.expires <= now:
                self._expire(key, entry)

    def _checked_tags(self, tags: Collection[bytes]) -> tuple[bytes, ...]:
        """Return the tags without repetition, one shared tuple for equal sets.

        Raises TooManyTags, TagTooLong.
        """
        given = tuple(tags)
        shared = self._shared_tags.get(given)
        if shared is not None:
            return shared
        checked = tuple(dict.fromkeys(given))
        limits = self._limits
        if len(checked) > limits.max_tags_per_entry:
            raise TooManyTags(f"{len(checked)} tags, the limit is {limits.max_tags_per_entry}")
        for tag in checked:
            if len(tag) > limits.max_tag_length:
                raise TagTooLong(
                    f"a tag has {len(tag)} bytes, the limit is {limits.max_tag_length}"
                )
        if sum(map(len, given)) <= _SHARED_TAG_BYTES:
            if len(self._shared_tags) >= _SHARED_TAGS:
                self._shared_tags.clear()
            self._shared_tags[given] = checked
        return checked

    def _store(self, key: bytes, value: bytes, tags: tuple[bytes, ...], ttl_ms: int | None) -> None:
        now = self._monotonic()
        old = self._entries.get(key)
        tags_stay = False
        if old is not None:
            if old.expires <= now:
                self._expirations += 1
            tags_stay = old.tags is tags
            self._remove(key, old, tags_stay)
        if ttl_ms is None:
            expires, bucket = NEVER, None
        else:
            expires = now + ttl_ms / 1000
            bucket = self._expiry.schedule(key, expires, now)
        self._entries[key] = Entry(value, tags, ttl_ms, expires, int(self._wall() * 1000), bucket)
        if tags and not tags_stay:
            self._tags.add(key, tags)
        self._bytes += len(key) + len(value)
        self._puts += 1

    def _invalidate(self, keys: Iterable[bytes]) -> int:
        now = self._monotonic()
        count = 0
        for key in keys:
            entry = self._entries.get(key)
            if entry is None:
                continue
            if entry.expires > now:
                self._remove(key, entry)
                count += 1
            else:
                self._expire(key, entry)
        self._invalidations += count
        return count

    def _expire(self, key: bytes, entry: Entry) -> None:
        self._remove(key, entry)
        self._expirations += 1

    def _remove(self, key: bytes, entry: Entry, tags_stay: bool = False) -> None:
        """The one way out of the cache, whatever the reason.

        ``tags_stay``: the entry that takes its place at once carries the same tags.
        """
        del self._entries[key]
        if entry.tags and not tags_stay:
            self._tags.discard(key, entry.tags)
        if entry.bucket is not None:
            entry.bucket.discard(key)
        self._bytes -= len(key) + len(entry.value)

    @staticmethod
    def _check_range(number: int) -> None:
        if not int64.MIN <= number <= int64.MAX:
            raise IntegerOverflow
