"""Sessions in a TagCache that survive its outages.

With SESSION_ENGINE = "tagcache.contrib.django.sessions", visitors are anonymous while the cache is
away, but keep their cookies. When it is back, they have their old sessions again.
"""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.core.exceptions import ImproperlyConfigured

from tagcache.client.replies import read_value
from tagcache.client.requests import Request, Requests
from tagcache.contrib.django.caches import tagged_cache
from tagcache.errors import CannotDecode, Refused, Unavailable
from tagcache.wire.resp import request

_AWAY = object()

_log = logging.getLogger("tagcache.contrib")


class SessionStore(CacheStore):
    """A session, in the cache SESSION_CACHE_ALIAS. Raises ImproperlyConfigured if it has no tags.

    Changes of a session while the cache is away are lost, and that is logged; the session itself
    is not overwritten. A visitor who logs out meanwhile loses the cookie; without ``ignore_exc``
    that raises Unavailable, because the session stays in the cache until it expires.
    """

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        cache = tagged_cache(settings.SESSION_CACHE_ALIAS)
        if cache is None:
            raise ImproperlyConfigured(
                "SESSION_CACHE_ALIAS names a DummyCache, which keeps nothing"
            )
        self._cache = _SessionCache(cache)


class _SessionCache:
    """The cache of one session; once the cache has been away, stores are dropped.

    While the cache is away, the session looks empty, so that it keeps its key.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._is_away = False

    def get(self, key: str) -> Any:
        client = self._cache.client
        name = self._cache.make_and_validate_key(key)
        try:
            return self._found(client._run(_look_up(client._requests, name)))
        except Unavailable:
            return self._found(_AWAY)
        except (CannotDecode, Refused):
            return None

    async def aget(self, key: str) -> Any:
        client = await self._cache.async_client()
        name = self._cache.make_and_validate_key(key)
        try:
            return self._found(await client._run(_look_up(client._requests, name)))
        except Unavailable:
            return self._found(_AWAY)
        except (CannotDecode, Refused):
            return None

    def _found(self, found: Any) -> Any:
        if found is not _AWAY:
            return found
        self._is_away = True
        return {}

    def add(self, key: str, value: Any, timeout: float) -> bool:
        try:
            return self._lost() if self._is_away else self._cache.add(key, value, timeout)
        except Unavailable as error:
            return self._lost(error)

    async def aadd(self, key: str, value: Any, timeout: float) -> bool:
        try:
            return self._lost() if self._is_away else await self._cache.aadd(key, value, timeout)
        except Unavailable as error:
            return self._lost(error)

    def set(self, key: str, value: Any, timeout: float) -> bool:
        try:
            return self._lost() if self._is_away else self._cache.set(key, value, timeout)
        except Unavailable as error:
            return self._lost(error)

    async def aset(self, key: str, value: Any, timeout: float) -> bool:
        try:
            return self._lost() if self._is_away else await self._cache.aset(key, value, timeout)
        except Unavailable as error:
            return self._lost(error)

    def _lost(self, why: object = "the cache was away when it was read") -> bool:
        """Log that a change is lost; return True, so that Django considers it stored."""
        self._is_away = True
        _log.warning("a change of a session is lost: %s", why)
        return True

    def delete(self, key: str) -> bool:
        deleted: bool = self._cache.delete(key)
        return deleted

    async def adelete(self, key: str) -> bool:
        deleted: bool = await self._cache.adelete(key)
        return deleted

    def __contains__(self, key: str) -> bool:
        # New keys are random, so assume that none exists if the cache is away.
        return self.get(key) not in (None, {})

    async def ahas_key(self, key: str) -> bool:
        return await self.aget(key) not in (None, {})


def _look_up(requests: Requests, key: str) -> Request[Any]:
    """Return the content of a session; None: there is none; _AWAY if errors are ignored."""
    name = requests._key(key)

    def read(reply: Any) -> Any:
        content = read_value(reply)
        return None if content is None else requests.load(content)

    return Request(request(b"GET", name), read, _AWAY, True, name)
