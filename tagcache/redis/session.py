"""The session of one client of the Redis engine."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from tagcache.model.interfaces import ISession
from tagcache.model.store_options import StoreOptions
from tagcache.redis.cache import Miss, RedisCache
from tagcache.redis.leases import Leases


@implementer(ISession)
class RedisSession:
    """An ISession in Redis.

    With the number of a ``pipeline``, all calls are carried out in their order, and a fill after a
    miss is refused if its key or tags were invalidated since. Without one there are no leases, and
    only calls for the same key keep their order.
    """

    def __init__(self, cache: RedisCache, pipeline: int | None = None) -> None:
        self._cache = cache
        self._pipeline = pipeline
        self._leases = Leases()

    def get(self, key: bytes) -> bytes | Deferred[bytes | None]:
        near = self._cache.get_near(key)
        if near is not None:
            return near
        if self._pipeline is None:
            return self._cache.get(key).addCallback(_value)
        look_up = key, self._leases.begin(key)
        found = self._cache.get(key, self._pipeline)
        return found.addCallbacks(self._found, self._failed, look_up, errbackArgs=look_up)

    def _found(self, found: bytes | Miss, key: bytes, number: int) -> bytes | None:
        if isinstance(found, bytes):
            self._leases.end(key, number)
            return found
        self._leases.end(key, number, found.lease)
        return None

    def _failed(self, reason: Failure, key: bytes, number: int) -> Failure:
        self._leases.end(key, number)
        return reason

    def put(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> Deferred[int | None]:
        return self._cache.put(key, value, tags, ttl_ms, self._leases.take(key), self._pipeline)

    def put_with(self, key: bytes, value: bytes, options: StoreOptions) -> Deferred[int | None]:
        return self.put(key, value, options.tags, options.asked_ms)

    def add(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> Deferred[bool]:
        return self._cache.add(key, value, tags, ttl_ms, self._pipeline)

    def increment(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> Deferred[int]:
        return self._cache.increment(key, by, tags, ttl_ms, self._pipeline)

    def decrement(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> Deferred[int]:
        return self._cache.increment(key, -by, tags, ttl_ms, self._pipeline)

    def touch(self, key: bytes, ttl_ms: int | None = None) -> Deferred[bool]:
        return self._cache.touch(key, ttl_ms, self._pipeline)

    def delete(self, key: bytes) -> Deferred[bool]:
        self._leases.take(key)
        return self._cache.delete(key, self._pipeline)

    def invalidate_tag(self, tag: bytes) -> Deferred[int]:
        return self.invalidate_any((tag,))

    # A value that a client stores after its own invalidation is new: its leases end.

    def invalidate_any(self, tags: Collection[bytes]) -> Deferred[int]:
        self._leases.clear()
        return self._cache.invalidate_any(tags)

    def invalidate_all(self, tags: Collection[bytes]) -> Deferred[int]:
        self._leases.clear()
        return self._cache.invalidate_all(tags)

    def invalidate_keys(self, keys: Collection[bytes]) -> Deferred[int]:
        self._leases.clear()
        return self._cache.invalidate_keys(keys)

    def flush(self) -> Deferred[int]:
        self._leases.clear()
        return self._cache.flush()


def _value(found: bytes | Miss) -> bytes | None:
    return found if isinstance(found, bytes) else None
