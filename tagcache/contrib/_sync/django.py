# Generated from tagcache/contrib/_async/django.py by tools/unasync.py: do not edit.
"""The operations of the cache backend for Django."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from tagcache.client.arguments import Mode, Tag
from tagcache.contrib._sync import best_effort
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


class Operations(TagCacheBase):
    """Django's cache API, with tags."""

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        name = self.make_and_validate_key(key, version)
        client = self.client
        return client.get(name, default)

    def set(
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
        client = self.client
        if ttl == EXPIRED:
            client.delete(name)
        else:
            best_effort.put(client, name, value, tags, ttl)

    def add(
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
        client = self.client
        if ttl == EXPIRED:
            return client.get(name, self._missing_key) is self._missing_key
        added = best_effort.add(client, name, value, tags, ttl)
        return added or is_session_without_cache(key, client)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = self.client
        if ttl == EXPIRED:
            return client.delete(name)
        return client.touch(name, ttl)

    def delete(self, key: Any, version: int | None = None) -> bool:
        name = self.make_and_validate_key(key, version)
        client = self.client
        return client.delete(name)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        names = {self.make_and_validate_key(key, version): key for key in keys}
        client = self.client
        found = client.get_many(names)
        return {names[name]: value for name, value in found.items()}

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
        ttl = self._ttl(timeout)
        client = self.client
        if ttl == EXPIRED:
            client.delete_many(names)
            return []
        values = {name: data[key] for name, key in names.items()}
        refused = best_effort.put_many(client, values, tags, ttl)
        return [names[name] for name in refused]

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        names = [self.make_and_validate_key(key, version) for key in keys]
        client = self.client
        client.delete_many(names)

    def get_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> Any:
        """Return the stored value, or ``default``, which is then stored with ``tags``."""
        found = self.get(key, self._missing_key, version)
        if found is not self._missing_key:
            return found
        if callable(default):
            default = default()
        self.add(key, default, timeout, version, tags=tags)
        # Another caller may have added a value first.
        return self.get(key, default, version)

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to an integer on the server, and return the sum; its time to live starts again.

        Raises ValueError if there is no value or the sum does not fit 64 bits, TypeError if the
        value is not an integer.
        """
        name, by = self.make_and_validate_key(key, version), operator.index(delta)
        client = self.client
        seen = client.get(name, self._missing_key)
        if seen is self._missing_key:
            raise not_found(key)
        try:
            total = client.increment(name, by)
        except Refused as error:
            raise count_error(key, error) from None
        if was_recreated(seen, by, total):
            client.delete(name)
            raise not_found(key)
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
        """Move a value to another version, and return that version.

        The server does not reveal the tags of an entry: pass those that it is to have.
        """
        version = self.version if version is None else version
        value = self.get(key, self._missing_key, version)
        if value is self._missing_key:
            raise not_found(key)
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
        """Remove everything from the server, of any prefix and version."""
        client = self.client
        client.flush()

    def invalidate_tag(self, tag: Tag) -> int:
        """Remove all entries with ``tag``, of any prefix and version; return their number."""
        client = self.client
        return client.invalidate_tag(tag)

    def invalidate_tags(self, tags: Iterable[Tag], mode: Mode = "any") -> int:
        """Remove all entries with any of ``tags``, or ``all`` of them; return their number."""
        client = self.client
        return client.invalidate_tags(tags, mode)
