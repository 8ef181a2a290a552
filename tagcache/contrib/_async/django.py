"""The operations of the cache backend for Django."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable, Mapping
from typing import Any

from tagcache.client.arguments import Mode, Tag
from tagcache.contrib._async import best_effort
from tagcache.contrib.django_base import (
    DEFAULT_TIMEOUT,
    EXPIRED,
    TagCacheBase,
    count_error,
    is_session_without_cache,
    not_found,
    was_recreated,
)
from tagcache.errors import Refused


class AsyncOperations(TagCacheBase):
    """Django's cache API, with tags."""

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        name = self.make_and_validate_key(key, version)
        client = await self.async_client()
        return await client.get(name, default)

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> None:
        """Store a value with ``tags``; see BaseCache."""
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = await self.async_client()
        if ttl == EXPIRED:
            await client.delete(name)
        else:
            await best_effort.put(client, name, value, tags, ttl)

    async def aadd(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> bool:
        """Store a value with ``tags`` if there is none; see BaseCache."""
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = await self.async_client()
        if ttl == EXPIRED:
            return await client.get(name, self._missing_key) is self._missing_key
        added = await best_effort.add(client, name, value, tags, ttl)
        return added or is_session_without_cache(key, client)

    async def atouch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = await self.async_client()
        if ttl == EXPIRED:
            return await client.delete(name)
        return await client.touch(name, ttl)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        name = self.make_and_validate_key(key, version)
        client = await self.async_client()
        return await client.delete(name)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
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
        """Store values, all with the same ``tags``; return the keys that there was no room for."""
        names = {self.make_and_validate_key(key, version): key for key in data}
        ttl = self._ttl(timeout)
        client = await self.async_client()
        if ttl == EXPIRED:
            await client.delete_many(names)
            return []
        values = {name: data[key] for name, key in names.items()}
        refused = await best_effort.put_many(client, values, tags, ttl)
        return [names[name] for name in refused]

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
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
        tags: Iterable[Tag] = (),
    ) -> Any:
        """Return the stored value, or ``default``, which is then stored with ``tags``."""
        found = await self.aget(key, self._missing_key, version)
        if found is not self._missing_key:
            return found
        if callable(default):
            default = default()
        if inspect.isawaitable(default):  # async only
            default = await default
        await self.aadd(key, default, timeout, version, tags=tags)
        # Another caller may have added a value first.
        return await self.aget(key, default, version)

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

        The server does not reveal the tags of an entry: pass those that it is to have.
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

    async def ainvalidate_tag(self, tag: Tag) -> int:
        """Remove all entries with ``tag``, of any prefix and version; return their number."""
        client = await self.async_client()
        return await client.invalidate_tag(tag)

    async def ainvalidate_tags(self, tags: Iterable[Tag], mode: Mode = "any") -> int:
        """Remove all entries with any of ``tags``, or ``all`` of them; return their number."""
        client = await self.async_client()
        return await client.invalidate_tags(tags, mode)
