"""The base of the cache backend for Django: settings, clients, keys, times."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Literal

try:
    from django.core.cache.backends.base import DEFAULT_TIMEOUT as DEFAULT_TIMEOUT
    from django.core.cache.backends.base import BaseCache, InvalidCacheBackendError, get_key_func
    from django.core.exceptions import ImproperlyConfigured
except ModuleNotFoundError as error:
    raise ImportError(
        "tagcache.contrib.django needs: pip install 'tagcache-server[django]'"
    ) from error

from tagcache.client.arguments import Tag, collected
from tagcache.client.collecting import cache_tag, is_collecting
from tagcache.contrib.connecting import (
    AnyAsyncClient,
    AnyClient,
    ClientPerLoop,
    Connecting,
    is_unavailable,
)
from tagcache.contrib.django.requests import glob_escape
from tagcache.contrib.django.settings import are_checked, connecting_for
from tagcache.errors import IntegerOverflow, NotAnInteger, Refused

# The prefix of keys of django.contrib.sessions.backends.cache.
_SESSION = "django.contrib.sessions.cache"
# The time to live for a timeout that is not positive.
EXPIRED: Literal[0] = 0


class _Clients:
    """The clients of this process, shared by all backends with the same settings.

    Django creates backends for each thread, and under ASGI for each request.
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

    Backends connect again when they are used.
    """
    _clients.close()


class TagCacheBase(BaseCache):
    """The settings, the clients, keys and timeouts of a backend."""

    def __init__(self, location: str | Iterable[str], params: Mapping[str, Any]) -> None:
        # The options are those of the clients, and checked below.
        super().__init__({**params, "OPTIONS": {}})
        timeout = params.get("timeout", params.get("TIMEOUT"))
        if isinstance(timeout, float):
            # Django converts it to whole seconds.
            self.default_timeout = timeout
        reverse = params.get("REVERSE_KEY_FUNCTION")
        self._reverse_key = None if reverse is None else get_key_func(reverse)
        self._settings: Connecting | InvalidCacheBackendError
        try:
            # Report a mistake in the settings now, not at the first use.
            self._settings = connecting_for(location, params, _clients.of)
        except InvalidCacheBackendError as mistake:
            if not are_checked():
                raise
            self._settings = mistake

    @property
    def _connecting(self) -> Connecting:
        if isinstance(self._settings, InvalidCacheBackendError):
            raise InvalidCacheBackendError(str(self._settings))
        return self._settings

    @property
    def client(self) -> AnyClient:
        """The blocking client, for operations that Django's API does not have."""
        return _clients.of(self._connecting)[0]

    async def async_client(self) -> AnyAsyncClient:
        """Return the client of the running event loop."""
        return await _clients.of(self._connecting)[1].here()

    async def aclose(self, **kwargs: Any) -> None:
        """Close the connections of the running event loop; it connects again when needed."""
        await _clients.of(self._connecting)[1].close()

    def _pattern(self, search: str, version: int | None, prefix: str | None = None) -> str:
        """Return the pattern for keys as make_key returns them."""
        prefix = self.key_prefix if prefix is None else prefix
        version = self.version if version is None else version
        pattern: str = self.key_func(search, glob_escape(prefix), glob_escape(str(version)))
        return pattern

    def _key_of(self, name: str, version: int | None) -> str:
        """Return the key that make_key made ``name`` of. Raises ImproperlyConfigured."""
        if self._reverse_key is not None:
            key: str = self._reverse_key(name)
            return key
        before = self.make_key("", version)
        if not name.startswith(before):
            raise ImproperlyConfigured(
                "CACHES: keys can be listed if a REVERSE_KEY_FUNCTION undoes the KEY_FUNCTION"
            )
        return name[len(before) :]

    def _ttl(self, timeout: Any) -> float | None:
        """Return the time to live in seconds; None: no limit; EXPIRED: it has passed."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        if timeout is None:
            return None
        return timeout if timeout > 0 else EXPIRED


def noted(tags: Iterable[Tag]) -> tuple[Tag, ...]:
    """Return tags as a tuple; a value whose producer makes this call gets them, too.

    Raises BadArgument.
    """
    found = collected(tags)
    if is_collecting():
        cache_tag(*found)
    return found


def is_session_without_cache(key: Any, client: AnyClient | AnyAsyncClient) -> bool:
    """Return whether a session was not added because the cache is unavailable.

    Django would try 10,000 other keys, and then fail. So we report the session as added: the
    visitor gets the page, and a new session as soon as the cache is back.
    """
    return isinstance(key, str) and key.startswith(_SESSION) and is_unavailable(client)


def was_recreated(seen: Any, by: int, total: int) -> bool:
    """Return whether the ``seen`` value vanished before the increment, which then made a new entry.

    The new entry has neither the time to live nor the tags of the old one, and must be deleted.
    """
    return total == by and seen != 0


def not_found(key: Any) -> ValueError:
    """Return the exception that BaseCache raises for a key without a value."""
    return ValueError(f"Key {key!r} not found")


def count_error(key: Any, error: Refused) -> Exception:
    """Return the exception that BaseCache raises if a value cannot be incremented."""
    if error.code == NotAnInteger.code:
        return TypeError(f"Key {key!r} cannot be counted: the value is not an integer")
    if error.code == IntegerOverflow.code:
        return ValueError(f"Key {key!r} cannot be counted: the sum does not fit 64 bits")
    return error
