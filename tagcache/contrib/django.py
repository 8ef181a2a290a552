"""A cache backend for Django.

CACHES = {
    "default": {
        "BACKEND": "tagcache.contrib.django.TagCache",
        "LOCATION": "tagcache://127.0.0.1:1984",
    }
}
"""

from __future__ import annotations

import inspect
import operator
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Literal

try:
    from django.core.cache.backends.base import (
        DEFAULT_TIMEOUT,
        BaseCache,
        InvalidCacheBackendError,
        InvalidCacheKey,
    )
    from django.utils.module_loading import import_string
except ModuleNotFoundError as error:
    raise ImportError(
        "tagcache.contrib.django needs: pip install 'tagcache-server[django]'"
    ) from error

from tagcache.client.requests import Mode, Tag
from tagcache.contrib import room
from tagcache.contrib.connecting import (
    AnyAsyncClient,
    AnyClient,
    ClientPerLoop,
    Connecting,
    is_away,
)
from tagcache.errors import BadArgument, IntegerOverflow, NotAnInteger, Refused

_ILLEGAL_IN_KEY = re.compile(r"[\t\n\r]")
# Before the keys of django.contrib.sessions.backends.cache.
_SESSION = "django.contrib.sessions.cache"
# A timeout that has passed already.
_OVER: Literal[0] = 0


class _Clients:
    """The clients of all backends with the same settings, in this process.

    Django makes backends for each thread, and under ASGI for each request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[Any, ...], tuple[AnyClient, ClientPerLoop]] = {}

    def of(self, connecting: Connecting) -> tuple[AnyClient, ClientPerLoop]:
        """Return the clients with these settings. Raises BadArgument."""
        with self._lock:
            found = self._found.get(connecting.identity)
            if found is None:
                found = connecting.client(), ClientPerLoop(connecting.async_client)
                self._found[connecting.identity] = found
            return found

    def close(self) -> None:
        with self._lock:
            found, self._found = self._found, {}
        for client, _ in found.values():
            client.close()


_clients = _Clients()


def close_clients() -> None:
    """Close the blocking clients of every TagCache backend in this process.

    Backends that are used after that connect anew.
    """
    _clients.close()


class TagCache(BaseCache):
    """Django's cache API over TagCache, with tags.

    ``LOCATION`` is a URL or several, ``OPTIONS`` what tagcache.client.Options has, and
    ``serializer``, as Django's Redis backend has it. Tags are not changed by ``KEY_PREFIX`` or a
    version: what is invalidated is so for everyone.

    Connections are shared by all threads and stay open between requests. Errors of the client
    are raised (tagcache.errors), unless OPTIONS has ``ignore_exc``: then an unavailable cache is a
    miss. A value that the server has no room for is not stored, and that is logged.
    """

    def __init__(self, location: str | Iterable[str], params: Mapping[str, Any]) -> None:
        super().__init__(params)
        timeout = params.get("timeout", params.get("TIMEOUT"))
        if isinstance(timeout, float):
            # Django takes whole seconds only.
            self.default_timeout = timeout
        options = dict(params.get("OPTIONS", {}))
        culling = {"MAX_ENTRIES", "CULL_FREQUENCY", "max_entries", "cull_frequency"}
        refused = sorted(culling & (options.keys() | params.keys()))
        if refused:
            raise InvalidCacheBackendError(
                f"{', '.join(refused)} cannot take effect:"
                " the server's cache.max_memory bounds the cache"
            )
        try:
            for name in ("on_error", "serializer"):
                if isinstance(options.get(name), str):
                    options[name] = import_string(options[name])
            self._connecting = Connecting(location, options)
            # A mistake in the settings is told at once.
            _clients.of(self._connecting)
        except (BadArgument, ImportError) as error:
            raise InvalidCacheBackendError(f"CACHES, LOCATION or OPTIONS: {error}") from error

    @property
    def client(self) -> AnyClient:
        """The blocking client, for what Django's API does not have."""
        return _clients.of(self._connecting)[0]

    async def async_client(self) -> AnyAsyncClient:
        """Return the client of the event loop that runs."""
        return await _clients.of(self._connecting)[1].here()

    def validate_key(self, key: str) -> None:
        """Warn as Django does of keys that memcached would not take; raise InvalidCacheKey."""
        if _ILLEGAL_IN_KEY.search(key):
            raise InvalidCacheKey(f"a key must not hold TAB, LF or CR: {key!r}")
        super().validate_key(key)

    def _ttl(self, timeout: Any) -> float | None:
        """Return seconds; None: for ever; _OVER: it has passed already."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        if timeout is None:
            return None
        return timeout if timeout > 0 else _OVER

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self.client.get(self.make_and_validate_key(key, version), default)

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> None:
        """Store a value with ``tags``; see BaseCache.set."""
        name, ttl, client = (
            self.make_and_validate_key(key, version),
            self._ttl(timeout),
            self.client,
        )
        if ttl == _OVER:
            client.delete(name)
            return
        room.put(client, name, value, tags, ttl)

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> bool:
        """Store a value with ``tags`` if there is none; see BaseCache.add."""
        name, ttl, client = (
            self.make_and_validate_key(key, version),
            self._ttl(timeout),
            self.client,
        )
        if ttl == _OVER:
            return client.get(name, self._missing_key) is self._missing_key
        return room.add(client, name, value, tags, ttl) or _is_session_without_cache(key, client)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        return self.client.delete(name) if ttl == _OVER else self.client.touch(name, ttl)

    def delete(self, key: Any, version: int | None = None) -> bool:
        return self.client.delete(self.make_and_validate_key(key, version))

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        names = {self.make_and_validate_key(key, version): key for key in keys}
        return {names[name]: value for name, value in self.client.get_many(names).items()}

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> list[Any]:
        """Store values, all with the same ``tags``; return the keys that there was no room for."""
        names = {self.make_and_validate_key(key, version): key for key in data}
        ttl, client = self._ttl(timeout), self.client
        if ttl == _OVER:
            client.delete_many(names)
            return []
        values = {name: data[key] for name, key in names.items()}
        return [names[name] for name in room.put_many(client, values, tags, ttl)]

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        self.client.delete_many([self.make_and_validate_key(key, version) for key in keys])

    def get_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> Any:
        """Return what is stored, or ``default``, which is stored with ``tags`` then."""
        found = self.get(key, self._missing_key, version)
        if found is self._missing_key:
            if callable(default):
                default = default()
            self.add(key, default, timeout, version, tags=tags)
            # Another may have added before us.
            return self.get(key, default, version)
        return found

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to an integer, on the server, and return the sum; its time to live begins anew.

        Raises ValueError if it is not there or the sum would have more than 64 bits, TypeError if
        it is no integer.
        """
        name, by, client = (
            self.make_and_validate_key(key, version),
            operator.index(delta),
            self.client,
        )
        seen = client.get(name, self._missing_key)
        if seen is self._missing_key:
            raise _not_found(key)
        try:
            total = client.increment(name, by)
        except Refused as error:
            raise _not_counted(key, error) from None
        if _is_new(seen, by, total):
            client.delete(name)
            raise _not_found(key)
        return total

    def has_key(self, key: Any, version: int | None = None) -> bool:
        return self.get(key, self._missing_key, version) is not self._missing_key

    def incr_version(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> int:
        """Move a value to another version, and return that.

        The server does not tell an entry's tags: name those that it is to have.
        """
        version = self.version if version is None else version
        value = self.get(key, self._missing_key, version)
        if value is self._missing_key:
            raise _not_found(key)
        self.set(key, value, version=version + delta, tags=tags)
        self.delete(key, version)
        return version + delta

    def decr_version(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> int:
        """Move a value to another version; see ``incr_version``."""
        return self.incr_version(key, -delta, version, tags=tags)

    def clear(self) -> None:
        """Remove everything from the server, whatever its prefix and version."""
        self.client.flush()

    def invalidate_tag(self, tag: Tag) -> int:
        """Remove every entry that carries ``tag``, of any prefix and version; return how many."""
        return self.client.invalidate_tag(tag)

    def invalidate_tags(self, tags: Iterable[Tag], mode: Mode = "any") -> int:
        """Remove every entry that carries one of ``tags``, or ``all`` of them; return how many."""
        return self.client.invalidate_tags(tags, mode)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        name = self.make_and_validate_key(key, version)
        return await (await self.async_client()).get(name, default)

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> None:
        """See ``set``."""
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = await self.async_client()
        if ttl == _OVER:
            await client.delete(name)
            return
        try:
            await client.put(name, value, tags=tags, ttl=ttl)
        except Refused as error:
            room.check_room(name, error)
            await client.delete(name)

    async def aadd(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> bool:
        """See ``add``."""
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = await self.async_client()
        if ttl == _OVER:
            return await client.get(name, self._missing_key) is self._missing_key
        try:
            added = await client.add(name, value, tags=tags, ttl=ttl)
        except Refused as error:
            room.check_room(name, error)
            return False
        return added or _is_session_without_cache(key, client)

    async def atouch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = await self.async_client()
        return await (client.delete(name) if ttl == _OVER else client.touch(name, ttl))

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        name = self.make_and_validate_key(key, version)
        return await (await self.async_client()).delete(name)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        names = {self.make_and_validate_key(key, version): key for key in keys}
        found = await (await self.async_client()).get_many(names)
        return {names[name]: value for name, value in found.items()}

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> list[Any]:
        """See ``set_many``."""
        names = {self.make_and_validate_key(key, version): key for key in data}
        ttl, client, tags = self._ttl(timeout), await self.async_client(), list(tags)
        if ttl == _OVER:
            await client.delete_many(names)
            return []
        pipe = client.pipeline()
        put = {name: pipe.put(name, data[key], tags=tags, ttl=ttl) for name, key in names.items()}
        try:
            await pipe.execute()
        except Refused:
            refused = room.refused(put)
            await client.delete_many(refused)
            return [names[name] for name in refused]
        return []

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        names = [self.make_and_validate_key(key, version) for key in keys]
        await (await self.async_client()).delete_many(names)

    async def aget_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> Any:
        """See ``get_or_set``; what ``default`` returns is awaited if it can be."""
        found = await self.aget(key, self._missing_key, version)
        if found is self._missing_key:
            if callable(default):
                default = default()
            if inspect.isawaitable(default):
                default = await default
            await self.aadd(key, default, timeout, version, tags=tags)
            return await self.aget(key, default, version)
        return found

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See ``incr``."""
        name, by = self.make_and_validate_key(key, version), operator.index(delta)
        client = await self.async_client()
        seen = await client.get(name, self._missing_key)
        if seen is self._missing_key:
            raise _not_found(key)
        try:
            total = await client.increment(name, by)
        except Refused as error:
            raise _not_counted(key, error) from None
        if _is_new(seen, by, total):
            await client.delete(name)
            raise _not_found(key)
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
        """See ``incr_version``."""
        version = self.version if version is None else version
        value = await self.aget(key, self._missing_key, version)
        if value is self._missing_key:
            raise _not_found(key)
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
        """See ``incr_version``."""
        return await self.aincr_version(key, -delta, version, tags=tags)

    async def aclear(self) -> None:
        """See ``clear``."""
        await (await self.async_client()).flush()

    async def ainvalidate_tag(self, tag: Tag) -> int:
        """See ``invalidate_tag``."""
        return await (await self.async_client()).invalidate_tag(tag)

    async def ainvalidate_tags(self, tags: Iterable[Tag], mode: Mode = "any") -> int:
        """See ``invalidate_tags``."""
        return await (await self.async_client()).invalidate_tags(tags, mode)

    async def aclose(self, **kwargs: Any) -> None:
        """Close the connections of the event loop that runs; it connects anew where needed."""
        await _clients.of(self._connecting)[1].close()


def _is_session_without_cache(key: Any, client: AnyClient | AnyAsyncClient) -> bool:
    """Say whether a session was not added because the cache is away, which is ignored.

    Django would try 10,000 other keys for it, and then fail. It is told that the session was
    added: the visitor gets the page, and a new session as soon as there is a cache.
    """
    return isinstance(key, str) and key.startswith(_SESSION) and is_away(client)


def _is_new(seen: Any, by: int, total: int) -> bool:
    """Say whether what was ``seen`` vanished before it was counted, so that a new one began.

    That one has neither the time to live nor the tags, and must go.
    """
    return total == by and seen != 0


def _not_found(key: Any) -> ValueError:
    return ValueError(f"Key {key!r} not found")


def _not_counted(key: Any, error: Refused) -> Exception:
    """Return what BaseCache raises where the sum cannot be made."""
    if error.code == NotAnInteger.code:
        return TypeError(f"Key {key!r} cannot be counted: what is stored is no integer")
    if error.code == IntegerOverflow.code:
        return ValueError(f"Key {key!r} cannot be counted: the sum has more than 64 bits")
    return error
