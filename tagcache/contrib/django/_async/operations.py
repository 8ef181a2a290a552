"""The operations of the cache backend for Django."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from tagcache.client._async.computing import AwaitedComputation
from tagcache.client.arguments import Duration, Mode, Tag
from tagcache.client.collecting import is_collecting
from tagcache.client.compute_options import ComputeOptions
from tagcache.contrib._async import best_effort
from tagcache.contrib.django.base import (
    DEFAULT_TIMEOUT,
    EXPIRED,
    TagCacheBase,
    count_error,
    is_session_without_cache,
    not_found,
    noted,
    was_recreated,
)
from tagcache.contrib.django.requests import replacement
from tagcache.errors import BadArgument, Refused
from tagcache.model.fetched import Found


class AsyncOperations(TagCacheBase):
    """Django's cache API, with tags."""

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return a value, or ``default``; see BaseCache.

        A page, a fragment or a value that is being computed gets the tags of what it reads.
        """
        name = self.make_and_validate_key(key, version)
        client = await self.async_client()
        if not is_collecting():
            return await client.get(name, default)
        # Only a look-up that may take a lease returns the tags.
        work = AwaitedComputation[Any](client, name, ComputeOptions())
        found = await work.look_up(waits=False)
        await work.give_up()
        return work.value if found and work.found is Found.HIT else default

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
        nx: bool = False,
        xx: bool = False,
    ) -> bool:
        """Store a value with ``tags``, and return whether it was stored; see BaseCache.

        ``timeout`` is in seconds; None: as the server is configured. With ``nx`` only if there is
        no value, with ``xx`` only if there is one. A timeout that has passed removes the value:
        returns whether there was one. Raises BadArgument.
        """
        if nx and xx:
            raise BadArgument("set takes nx or xx, not both")
        if nx:
            return await self.aadd(key, value, timeout, version, tags=tags)
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = await self.async_client()
        if ttl == EXPIRED:
            return await client.delete(name)
        tags = noted(tags)
        if not xx:
            return await best_effort.put(client, name, value, tags, ttl)
        try:
            return await client._run(replacement(client._requests, name, value, tags, ttl))
        except Refused as error:
            best_effort.log_if_no_room(name, error)
            return await client.delete(name) and False

    async def aadd(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> bool:
        """Store a value with ``tags`` if there is none; return whether it was; see ``aset``."""
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = await self.async_client()
        if ttl == EXPIRED:
            return await client.get(name, self._missing_key) is self._missing_key
        added = await best_effort.add(client, name, value, noted(tags), ttl)
        return added or is_session_without_cache(key, client)

    async def atouch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Set the time to live in seconds; return whether there is a value; see BaseCache.

        None: as the server is configured. One that has passed removes the value.
        """
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = await self.async_client()
        if ttl == EXPIRED:
            return await client.delete(name)
        return await client.touch(name, ttl)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """Remove a value; return whether there was one."""
        name = self.make_and_validate_key(key, version)
        client = await self.async_client()
        return await client.delete(name)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return those values that are there, by their keys; see ``aget``."""
        if is_collecting():
            found = {key: await self.aget(key, self._missing_key, version) for key in keys}
            return {key: value for key, value in found.items() if value is not self._missing_key}
        names = {self.make_and_validate_key(key, version): key for key in keys}
        client = await self.async_client()
        found = await client.get_many(names)
        return {names[name]: value for name, value in found.items()}

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> list[Any]:
        """Store values, all with the same ``tags``; return the keys that there was no room for.

        See ``aset``.
        """
        names = {self.make_and_validate_key(key, version): key for key in data}
        ttl = self._ttl(timeout)
        client = await self.async_client()
        if ttl == EXPIRED:
            await client.delete_many(names)
            return []
        values = {name: data[key] for name, key in names.items()}
        refused = await best_effort.put_many(client, values, noted(tags), ttl)
        return [names[name] for name in refused]

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Remove values; those that are not there are ignored."""
        names = [self.make_and_validate_key(key, version) for key in keys]
        client = await self.async_client()
        await client.delete_many(names)

    async def aget_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] | Callable[[Any], Iterable[Tag]] = (),
        grace: Duration | None = None,
        wait: Duration | None = None,
    ) -> Any:
        """Return the stored value, or ``default``, which is then stored with ``tags``.

        ``default`` may be a callable. Only one caller in all processes calls it; the others wait
        for up to ``wait`` seconds (None: 5), and then call it themselves. Its result is returned,
        but not stored, if one of its tags was invalidated meanwhile; ``tags`` may be a function of
        it. For ``grace`` seconds after the timeout, or after a soft invalidation, the others get
        the old value while one caller computes a new one; that caller gets it too if ``default``
        raises. Only ``aget_or_set`` awaits coroutines.

            page = await cache.aget_or_set("page:1", render, 60, tags=["post:1"], grace=600)
        """
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = await self.async_client()
        producer = default if callable(default) else lambda: default
        if ttl == EXPIRED:
            found = await self.aget(key, self._missing_key, version)
            if found is self._missing_key:
                found = producer()
                if isinstance(found, Awaitable):  # async only
                    found = await found
            return found
        options = ComputeOptions(ttl, grace, wait)
        refused = partial(best_effort.log_if_no_room, name)
        work = AwaitedComputation[Any](client, name, options, refused=refused)
        return await work.result(producer, tags)

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to an integer on the server, and return the sum; its time to live starts again.

        Raises ValueError if there is no value or the sum does not fit 64 bits, TypeError if the
        value is not an integer.
        """
        name, by = self.make_and_validate_key(key, version), operator.index(delta)
        client = await self.async_client()
        seen = await client.get(name, self._missing_key)
        if seen is self._missing_key:
            raise not_found(key)
        try:
            total = await client.increment(name, by)
        except Refused as error:
            raise count_error(key, error) from None
        if was_recreated(seen, by, total):
            await client.delete(name)
            raise not_found(key)
        return total

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """Return whether there is a value."""
        return await self.aget(key, self._missing_key, version) is not self._missing_key

    async def aincr_version(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> int:
        """Move a value to another version, and return that version.

        The server does not reveal the tags of an entry, so pass the tags to store.
        """
        version = self.version if version is None else version
        value = await self.aget(key, self._missing_key, version)
        if value is self._missing_key:
            raise not_found(key)
        await self.aset(key, value, version=version + delta, tags=tags)
        await self.adelete(key, version)
        return version + delta

    async def adecr_version(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> int:
        """Move a value to another version; see ``aincr_version``."""
        return await self.aincr_version(key, -delta, version, tags=tags)

    async def aclear(self) -> None:
        """Remove everything from the server, of any prefix and version."""
        client = await self.async_client()
        await client.flush()

    async def ainvalidate_tag(self, tag: Tag, *, soft: bool = False) -> int:
        """Remove all entries with ``tag``, of any prefix and version; return their number.

        With ``soft``, those that have a grace become stale instead.
        """
        client = await self.async_client()
        return await client.invalidate_tag(tag, soft=soft)

    async def ainvalidate_tags(
        self, tags: Iterable[Tag], mode: Mode = "any", *, soft: bool = False
    ) -> int:
        """Remove all entries with any of ``tags``, or ``all`` of them; return their number.

        With ``soft``, those that have a grace become stale instead.
        """
        client = await self.async_client()
        return await client.invalidate_tags(tags, mode, soft=soft)
