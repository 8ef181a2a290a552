# Generated from tagcache/contrib/django/_async/redis_names.py by tools/unasync.py: do not edit.
"""The methods that django-redis adds to Django's cache API, with the same names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from tagcache.client._sync.sharded import ShardedClient
from tagcache.client.outcomes import raise_first
from tagcache.client.requests import Request
from tagcache.contrib.django._sync.locks import Lock
from tagcache.contrib.django.base import DEFAULT_TIMEOUT, TagCacheBase
from tagcache.contrib.django.requests import deadline, epoch_ms, scan, time_left

# How many keys are deleted together.
_AT_ONCE = 500


class RedisNames(TagCacheBase):
    """Times to live, keys by pattern, and locks."""

    def ttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the remaining time to live in seconds; None: no limit; 0: there is no entry."""
        return self._time_left(b"TTL", key, version)

    def pttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the remaining time to live in milliseconds; see ``ttl``."""
        return self._time_left(b"PTTL", key, version)

    def _time_left(self, verb: bytes, key: Any, version: int | None) -> int | None:
        name = self.make_and_validate_key(key, version)
        client = self.client
        return client._run(time_left(client._requests, name, verb))

    def persist(self, key: Any, version: int | None = None) -> bool:
        """Remove the time to live; return whether there was an entry that had one."""
        return self._deadline(b"PERSIST", key, version)

    def expire(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Set the time to live, in seconds or as a timedelta; return whether there is an entry.

        One that has passed removes the entry; None is as ``persist``.
        """
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        if timeout is None:
            return self.persist(key, version)
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        return self.pexpire(key, seconds * 1000, version)

    def pexpire(self, key: Any, timeout: float | timedelta, version: int | None = None) -> bool:
        """Set the time to live, in milliseconds or as a timedelta; see ``expire``."""
        if isinstance(timeout, timedelta):
            timeout = timeout.total_seconds() * 1000
        return self._deadline(b"PEXPIRE", key, version, int(timeout))

    def expire_at(self, key: Any, when: float | datetime, version: int | None = None) -> bool:
        """Set when the entry expires: seconds since 1970, or a datetime; see ``expire``."""
        return self._deadline(b"PEXPIREAT", key, version, epoch_ms(when, 1000))

    def pexpire_at(self, key: Any, when: float | datetime, version: int | None = None) -> bool:
        """Set when the entry expires: milliseconds since 1970, or a datetime; see ``expire``."""
        return self._deadline(b"PEXPIREAT", key, version, epoch_ms(when, 1))

    def _deadline(self, verb: bytes, key: Any, version: int | None, *when: int) -> bool:
        name = self.make_and_validate_key(key, version)
        client = self.client
        return client._run(deadline(client._requests, name, verb, *when))

    def keys(self, search: str, version: int | None = None) -> list[str]:
        """Return the keys that match a pattern such as ``"post:*"``; see ``iter_keys``."""
        return [key for key in self.iter_keys(search, version=version)]

    def iter_keys(
        self, search: str, itersize: int | None = None, version: int | None = None
    ) -> Iterator[str]:
        """Yield the keys that match a pattern with ``*``, ``?`` and ``[...]``, in no order.

        Yields keys as they were given, without prefix and version; a key that is stored or removed
        meanwhile may be left out. ``itersize`` is about how many keys the server looks at for one
        request. With a KEY_FUNCTION the cache needs a REVERSE_KEY_FUNCTION.
        """
        for names in self._names(self._pattern(search, version), itersize):
            for name in names:
                yield self._key_of(name, version)

    def delete_pattern(
        self,
        pattern: str,
        version: int | None = None,
        prefix: str | None = None,
        itersize: int | None = None,
    ) -> int:
        """Remove the entries whose keys match; return how many there were. See ``iter_keys``.

        ``prefix`` replaces the KEY_PREFIX. All entries are looked at: a tag costs less.
        """
        client = self.client
        found: list[str] = []
        for names in self._names(self._pattern(pattern, version, prefix), itersize):
            found += names
        removed = 0
        for start in range(0, len(found), _AT_ONCE):
            removed += client.delete_many(found[start : start + _AT_ONCE])
        return removed

    def _names(self, pattern: str, itersize: int | None) -> Iterator[list[str]]:
        """Yield names of keys of all servers, as make_key returns them."""
        client = self.client
        prefix_length = len(client._requests._prefix)
        nodes = client._ring.nodes if isinstance(client, ShardedClient) else [None]
        for node in nodes:
            cursor = None
            while cursor != b"0":
                request = scan(client._requests, pattern, cursor or b"0", itersize)
                cursor, names = self._scan(client, node, request)
                yield [name[prefix_length:].decode("utf-8", "surrogateescape") for name in names]

    def _scan(
        self, client: Any, node: Any, request: Request[tuple[bytes, list[bytes]]]
    ) -> tuple[bytes, list[bytes]]:
        """Ask the server, or one of several; a server that is away has no keys."""
        found: Any = [request.absent]
        if node is None:
            found = [client._run(request)]
        elif (outcomes := client._ask(node, [request])) is not None:
            found = raise_first(outcomes if isinstance(outcomes, list) else [outcomes])
        cursor, names = found[0]
        return cursor, names

    def lock(
        self,
        key: Any,
        version: int | None = None,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
    ) -> Lock:
        """Return a lock that all processes share, with the methods of redis-py's Lock.

        It ends by itself after ``timeout`` seconds (None: as the server is configured). A caller
        that waits tries again every ``sleep`` seconds, for ``blocking_timeout`` seconds (None: for
        ever).
        With ``thread_local`` a thread cannot release the lock of another one. A lock in a cache
        avoids duplicate work; it protects nothing, as an entry may be evicted.
        """
        name = self.make_and_validate_key(key, version)
        return Lock(self, name, timeout, sleep, blocking, blocking_timeout, thread_local)
