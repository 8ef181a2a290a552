"""The methods that django-redis adds to Django's cache API, with the same names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from tagcache.client._async.sharded import AsyncShardedClient
from tagcache.client.outcomes import raise_first
from tagcache.client.requests import Request
from tagcache.contrib.django._async.locks import AsyncLock
from tagcache.contrib.django.base import DEFAULT_TIMEOUT, TagCacheBase
from tagcache.contrib.django.requests import deadline, epoch_ms, scan, time_left

# How many keys are deleted together.
_AT_ONCE = 500


class AsyncRedisNames(TagCacheBase):
    """Times to live, keys by pattern, and locks."""

    async def attl(self, key: Any, version: int | None = None) -> int | None:
        """Return the remaining time to live in seconds; None: no limit; 0: there is no entry."""
        return await self._atime_left(b"TTL", key, version)

    async def apttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the remaining time to live in milliseconds; see ``attl``."""
        return await self._atime_left(b"PTTL", key, version)

    async def _atime_left(self, verb: bytes, key: Any, version: int | None) -> int | None:
        name = self.make_and_validate_key(key, version)
        client = await self.async_client()
        return await client._run(time_left(client._requests, name, verb))

    async def apersist(self, key: Any, version: int | None = None) -> bool:
        """Remove the time to live; return whether there was an entry that had one."""
        return await self._adeadline(b"PERSIST", key, version)

    async def aexpire(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Set the time to live, in seconds or as a timedelta; return whether there is an entry.

        One that has passed removes the entry; None is as ``apersist``.
        """
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        if timeout is None:
            return await self.apersist(key, version)
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        return await self.apexpire(key, seconds * 1000, version)

    async def apexpire(
        self, key: Any, timeout: float | timedelta, version: int | None = None
    ) -> bool:
        """Set the time to live, in milliseconds or as a timedelta; see ``aexpire``."""
        if isinstance(timeout, timedelta):
            timeout = timeout.total_seconds() * 1000
        return await self._adeadline(b"PEXPIRE", key, version, int(timeout))

    async def aexpire_at(
        self, key: Any, when: float | datetime, version: int | None = None
    ) -> bool:
        """Set when the entry expires: seconds since 1970, or a datetime; see ``aexpire``."""
        return await self._adeadline(b"PEXPIREAT", key, version, epoch_ms(when, 1000))

    async def apexpire_at(
        self, key: Any, when: float | datetime, version: int | None = None
    ) -> bool:
        """Set when the entry expires: milliseconds since 1970, or a datetime; see ``aexpire``."""
        return await self._adeadline(b"PEXPIREAT", key, version, epoch_ms(when, 1))

    async def _adeadline(self, verb: bytes, key: Any, version: int | None, *when: int) -> bool:
        name = self.make_and_validate_key(key, version)
        client = await self.async_client()
        return await client._run(deadline(client._requests, name, verb, *when))

    async def akeys(self, search: str, version: int | None = None) -> list[str]:
        """Return the keys that match a pattern such as ``"post:*"``; see ``aiter_keys``."""
        return [key async for key in self.aiter_keys(search, version=version)]

    async def aiter_keys(
        self, search: str, itersize: int | None = None, version: int | None = None
    ) -> AsyncIterator[str]:
        """Yield the keys that match a pattern with ``*``, ``?`` and ``[...]``, in no order.

        Yields keys as they were given, without prefix and version; a key that is stored or removed
        meanwhile may be left out. ``itersize`` is about how many keys the server looks at for one
        request. With a KEY_FUNCTION the cache needs a REVERSE_KEY_FUNCTION.
        """
        async for names in self._anames(self._pattern(search, version), itersize):
            for name in names:
                yield self._key_of(name, version)

    async def adelete_pattern(
        self,
        pattern: str,
        version: int | None = None,
        prefix: str | None = None,
        itersize: int | None = None,
    ) -> int:
        """Remove the entries whose keys match; return how many there were. See ``aiter_keys``.

        ``prefix`` replaces the KEY_PREFIX. All entries are looked at: a tag costs less.
        """
        client = await self.async_client()
        found: list[str] = []
        async for names in self._anames(self._pattern(pattern, version, prefix), itersize):
            found += names
        removed = 0
        for start in range(0, len(found), _AT_ONCE):
            removed += await client.delete_many(found[start : start + _AT_ONCE])
        return removed

    async def _anames(self, pattern: str, itersize: int | None) -> AsyncIterator[list[str]]:
        """Yield names of keys of all servers, as make_key returns them."""
        client = await self.async_client()
        prefix_length = len(client._requests._prefix)
        nodes = client._ring.nodes if isinstance(client, AsyncShardedClient) else [None]
        for node in nodes:
            cursor = None
            while cursor != b"0":
                request = scan(client._requests, pattern, cursor or b"0", itersize)
                cursor, names = await self._ascan(client, node, request)
                yield [name[prefix_length:].decode("utf-8", "surrogateescape") for name in names]

    async def _ascan(
        self, client: Any, node: Any, request: Request[tuple[bytes, list[bytes]]]
    ) -> tuple[bytes, list[bytes]]:
        """Ask the server, or one of several; a server that is away has no keys."""
        found: Any = [request.absent]
        if node is None:
            found = [await client._run(request)]
        elif (outcomes := await client._ask(node, [request])) is not None:
            found = raise_first(outcomes if isinstance(outcomes, list) else [outcomes])
        cursor, names = found[0]
        return cursor, names

    def alock(
        self,
        key: Any,
        version: int | None = None,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
    ) -> AsyncLock:
        """Return a lock that all processes share, with the methods of redis-py's Lock.

        It ends by itself after ``timeout`` seconds (None: as the server is configured). A caller
        that waits tries again every ``sleep`` seconds, for ``blocking_timeout`` seconds (None: for
        ever).
        With ``thread_local`` a thread cannot release the lock of another one. A lock in a cache
        avoids duplicate work; it protects nothing, as an entry may be evicted.
        """
        name = self.make_and_validate_key(key, version)
        return AsyncLock(self, name, timeout, sleep, blocking, blocking_timeout, thread_local)
