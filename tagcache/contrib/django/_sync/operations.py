# Generated from tagcache/contrib/django/_async/operations.py by tools/unasync.py: do not edit.
"""The operations of the cache backend for Django."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from tagcache.client._sync.computing import BlockingComputation
from tagcache.client.arguments import Duration, Mode, Tag
from tagcache.client.collecting import is_collecting
from tagcache.client.compute_options import ComputeOptions
from tagcache.contrib._sync import best_effort
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


class Operations(TagCacheBase):
    """Django's cache API, with tags."""

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return a value, or ``default``; see BaseCache.

        A page, a fragment or a value that is being computed gets the tags of what it reads.
        """
        name = self.make_and_validate_key(key, version)
        client = self.client
        if not is_collecting():
            return client.get(name, default)
        # Only a look-up that may take a lease returns the tags.
        work = BlockingComputation[Any](client, name, ComputeOptions())
        found = work.look_up(waits=False)
        work.give_up()
        return work.value if found and work.found is Found.HIT else default

    def set(
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
            return self.add(key, value, timeout, version, tags=tags)
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = self.client
        if ttl == EXPIRED:
            return client.delete(name)
        tags = noted(tags)
        if not xx:
            return best_effort.put(client, name, value, tags, ttl)
        try:
            return client._run(replacement(client._requests, name, value, tags, ttl))
        except Refused as error:
            best_effort.log_if_no_room(name, error)
            return client.delete(name) and False

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> bool:
        """Store a value with ``tags`` if there is none; return whether it was; see ``set``."""
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = self.client
        if ttl == EXPIRED:
            return client.get(name, self._missing_key) is self._missing_key
        added = best_effort.add(client, name, value, noted(tags), ttl)
        return added or is_session_without_cache(key, client)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Set the time to live in seconds; return whether there is a value; see BaseCache.

        None: as the server is configured. One that has passed removes the value.
        """
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = self.client
        if ttl == EXPIRED:
            return client.delete(name)
        return client.touch(name, ttl)

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Remove a value; return whether there was one."""
        name = self.make_and_validate_key(key, version)
        client = self.client
        return client.delete(name)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return those values that are there, by their keys; see ``get``."""
        if is_collecting():
            found = {key: self.get(key, self._missing_key, version) for key in keys}
            return {key: value for key, value in found.items() if value is not self._missing_key}
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
        """Store values, all with the same ``tags``; return the keys that there was no room for.

        See ``set``.
        """
        names = {self.make_and_validate_key(key, version): key for key in data}
        ttl = self._ttl(timeout)
        client = self.client
        if ttl == EXPIRED:
            client.delete_many(names)
            return []
        values = {name: data[key] for name, key in names.items()}
        refused = best_effort.put_many(client, values, noted(tags), ttl)
        return [names[name] for name in refused]

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Remove values; those that are not there are ignored."""
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
        raises. Only ``get_or_set`` awaits coroutines.

            page = cache.get_or_set("page:1", render, 60, tags=["post:1"], grace=600)
        """
        name, ttl = self.make_and_validate_key(key, version), self._ttl(timeout)
        client = self.client
        producer = default if callable(default) else lambda: default
        if ttl == EXPIRED:
            found = self.get(key, self._missing_key, version)
            if found is self._missing_key:
                found = producer()
            return found
        options = ComputeOptions(ttl, grace, wait)
        refused = partial(best_effort.log_if_no_room, name)
        work = BlockingComputation[Any](client, name, options, refused=refused)
        return work.result(producer, tags)

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
        """Return whether there is a value."""
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

        The server does not reveal the tags of an entry, so pass the tags to store.
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

    def invalidate_tag(self, tag: Tag, *, soft: bool = False) -> int:
        """Remove all entries with ``tag``, of any prefix and version; return their number.

        With ``soft``, those that have a grace become stale instead.
        """
        client = self.client
        return client.invalidate_tag(tag, soft=soft)

    def invalidate_tags(
        self, tags: Iterable[Tag], mode: Mode = "any", *, soft: bool = False
    ) -> int:
        """Remove all entries with any of ``tags``, or ``all`` of them; return their number.

        With ``soft``, those that have a grace become stale instead.
        """
        client = self.client
        return client.invalidate_tags(tags, mode, soft=soft)
