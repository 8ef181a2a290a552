"""A cache for users of cachelib (Flask-Session and others).

cache = TagCache("tagcache://127.0.0.1:1984", default_timeout=60)
cache.set("page:7", html, tags=["post:7"])
cache.invalidate_tag("post:7")
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal

try:
    from cachelib import BaseCache
except ModuleNotFoundError as error:
    raise ImportError(
        "tagcache.contrib.cachelib needs: pip install 'tagcache-server[cachelib]'"
    ) from error

from tagcache.client.arguments import Mode, Tag
from tagcache.contrib._sync import best_effort
from tagcache.contrib.connecting import AnyClient, Connecting
from tagcache.errors import CannotDecode

_ABSENT = object()
# What a negative timeout means: the value has already expired.
EXPIRED: Literal[-1] = -1


class TagCache(BaseCache):
    """TagCache with the API of cachelib, and with tags.

    ``location`` is a URL or several. ``options`` are the fields of tagcache.client.Options, and
    ``serializer``: one of cachelib's, or any object with ``dumps`` and ``loads``.

    Timeouts are whole seconds or a timedelta; 0: no timeout. ``clear`` removes everything from the
    server. Errors of the client are raised (tagcache.errors), unless ``ignore_exc`` is set: then
    an unavailable cache is a miss. If the server is full, a value is not cached, and that is
    logged. Raises BadArgument.
    """

    def __init__(
        self,
        location: str | Iterable[str] = "tagcache://127.0.0.1:1984",
        default_timeout: int | timedelta = 300,
        ignore_delete_many_errors: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            default_timeout=default_timeout, ignore_delete_many_errors=ignore_delete_many_errors
        )
        self._location = location if isinstance(location, str) else tuple(location)
        self._options = options
        self.client: AnyClient = Connecting(self._location, options).client()

    @property
    def serializer(self) -> Any:
        """Converts values to bytes and back; if None, the option ``serde`` is used.

        It may be set before the cache is used. Raises BadArgument.
        """
        return self._options.get("serializer")

    @serializer.setter
    def serializer(self, serializer: Any) -> None:
        options = {**self._options, "serializer": serializer}
        client = Connecting(self._location, options).client()
        self.client.close()
        self._options, self.client = options, client

    def close(self) -> None:
        """Close every connection."""
        self.client.close()

    def ttl(self, timeout: int | timedelta | None) -> int | None:
        """Return the time to live in seconds; None: no limit; EXPIRED: it has passed."""
        if isinstance(timeout, timedelta):
            timeout = math.ceil(timeout.total_seconds())
        seconds = self._normalize_timeout(timeout if timeout is None else math.ceil(timeout))
        if seconds == 0:
            return None
        return seconds if seconds > 0 else EXPIRED

    def get(self, key: str) -> Any:
        try:
            return self.client.get(key)
        except CannotDecode:
            return None

    def get_many(self, *keys: str) -> list[Any]:
        try:
            found = self.client.get_many(keys)
        except CannotDecode:
            return [self.get(key) for key in keys]
        return [found.get(key) for key in keys]

    def set(
        self,
        key: str,
        value: Any,
        timeout: int | timedelta | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> bool:
        """Store a value with ``tags``; False if the server has no room."""
        ttl = self.ttl(timeout)
        if ttl == EXPIRED:
            self.client.delete(key)
            return True
        return best_effort.put(self.client, key, value, tags, ttl)

    def add(
        self,
        key: str,
        value: Any,
        timeout: int | timedelta | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> bool:
        """Store a value with ``tags`` if there is none; return whether it was stored."""
        ttl = self.ttl(timeout)
        if ttl == EXPIRED:
            return not self.has(key)
        return best_effort.add(self.client, key, value, tags, ttl)

    def set_many(
        self,
        mapping: Mapping[str, Any],
        timeout: int | timedelta | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> list[Any]:
        """Store values, all with the same ``tags``; return the keys that were stored."""
        ttl = self.ttl(timeout)
        if ttl == EXPIRED:
            self.client.delete_many(mapping)
            return list(mapping)
        refused = best_effort.put_many(self.client, mapping, tags, ttl)
        return [key for key in mapping if key not in refused]

    def delete(self, key: str) -> bool:
        return self.client.delete(key)

    def delete_many(self, *keys: str) -> list[Any]:
        """Remove entries; return all ``keys``, because none of them has a value any more."""
        self.client.delete_many(keys)
        return list(keys)

    def has(self, key: str) -> bool:
        try:
            return self.client.get(key, _ABSENT) is not _ABSENT
        except CannotDecode:
            return True

    def clear(self) -> bool:
        """Remove everything from the server, of any prefix."""
        self.client.flush()
        return True

    def inc(self, key: str, delta: int = 1) -> int:
        """Add to an integer on the server, 0 if absent, and return the sum.

        The default timeout starts again. Raises Refused if the value is not an integer.
        """
        return self.client.increment(key, delta, ttl=self.ttl(None))

    def dec(self, key: str, delta: int = 1) -> int:
        """Subtract from an integer; see ``inc``."""
        return self.client.decrement(key, delta, ttl=self.ttl(None))

    def invalidate_tag(self, tag: Tag) -> int:
        """Remove all entries with ``tag``, of any prefix; return their number."""
        return self.client.invalidate_tag(tag)

    def invalidate_tags(self, tags: Iterable[Tag], mode: Mode = "any") -> int:
        """Remove all entries with any of ``tags``, or ``all`` of them; return their number."""
        return self.client.invalidate_tags(tags, mode)
