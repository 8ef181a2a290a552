"""The session of one client of the Redis engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from tagcache.model.drafts import Draft
from tagcache.model.fetched import Fetched
from tagcache.model.interfaces import IEngine, ISession, Versions
from tagcache.model.store_options import StoreOptions
from tagcache.redis.cache import RedisCache
from tagcache.redis.deferreds import as_deferred, together
from tagcache.redis.drafts import State
from tagcache.redis.partitions import chunks
from tagcache.redis.transaction import DraftEngine, DraftSession
from tagcache.redis.turns import Turns

T = TypeVar("T")

_LOOK_UPS_AT_ONCE = 500


@implementer(ISession)
class RedisSession:
    """An ISession in Redis.

    With the number of a ``pipeline``, all calls are executed in their order. Without one, only
    calls for the same key are; for a call with several keys, the first one counts.

    An update takes several scripts, so later calls wait until it is done.
    """

    def __init__(self, cache: RedisCache, pipeline: int | None = None) -> None:
        self._cache = cache
        self._pipeline = pipeline
        self._turns = Turns()

    def _in_order(
        self, keys: Collection[bytes], call: Callable[[], Deferred[T]], alone: bool = False
    ) -> Deferred[T]:
        """Make a call after the earlier ones.

        One that is ``alone`` calls several scripts, so later calls wait for its result.
        """
        if self._pipeline is not None:
            # The key under which all calls of the pipeline keep their order.
            keys = (b"",)
        if alone or self._turns.is_taken(keys):
            return self._turns.run(keys, call, alone)
        return call()

    def get(self, key: bytes) -> bytes | Deferred[bytes | None] | None:
        if self._turns.is_idle:
            return self._get(key)
        return self._in_order((key,), lambda: self._look_up(key))

    def _look_up(self, key: bytes) -> Deferred[bytes | None]:
        found = self._get(key)
        return found if isinstance(found, Deferred) else succeed(found)

    def _get(self, key: bytes) -> bytes | Deferred[bytes | None] | None:
        near = self._cache.get_near(key)
        if near is not None:
            return near
        return self._cache.get(key, self._pipeline)

    def get_many(self, keys: Sequence[bytes]) -> Deferred[list[bytes | None]]:
        @as_deferred
        async def work() -> list[bytes | None]:
            values: list[bytes | None] = []
            for some in chunks(keys, _LOOK_UPS_AT_ONCE):
                values += await together(map(self._look_up, some))
            return values

        return self._in_order(keys, work, alone=len(keys) > _LOOK_UPS_AT_ONCE)

    def update(
        self, keys: Collection[bytes], change: Callable[[Draft], T], counts: bool = False
    ) -> Deferred[T]:
        def decide(draft: Draft, _: State) -> T:
            return change(draft)

        # The result is None only if keys had to be unchanged.
        return cast("Deferred[T]", self._change(keys, {}, decide, counts))

    def versions(self, keys: Collection[bytes]) -> Deferred[Versions]:
        return self._in_order(keys, lambda: self._cache.drafts.versions(keys, self._pipeline))

    def transact(
        self, unchanged: Versions, keys: Collection[bytes], run: Callable[[ISession, IEngine], T]
    ) -> Deferred[T | None]:
        cache = self._cache

        def decide(draft: Draft, state: State) -> tuple[T, DraftSession]:
            session = DraftSession(draft, state, cache.limits)
            engine: Any = DraftEngine(session, cache.limits)
            return run(session, engine), session

        def conclude(outcome: tuple[T, DraftSession] | None) -> T | None:
            if outcome is None:
                return None
            result, session = outcome
            for look_up in session.looked_up:
                cache.count_look_up(*look_up)
            return result

        return self._change(keys, unchanged, decide).addCallback(conclude)

    def _change(
        self,
        keys: Collection[bytes],
        unchanged: Versions,
        decide: Callable[[Draft, State], T],
        counts: bool = False,
    ) -> Deferred[T | None]:
        def call() -> Deferred[T | None]:
            return self._cache.drafts.change(keys, unchanged, decide, counts, self._pipeline)

        return self._in_order((*keys, *unchanged), call, alone=True)

    def put(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> Deferred[int | None]:
        return self._put(key, value, tags, ttl_ms, 0)

    def put_with(self, key: bytes, value: bytes, options: StoreOptions) -> Deferred[int | None]:
        return self._put(key, value, options.tags, options.asked_ms, options.grace_ms)

    def _put(
        self,
        key: bytes,
        value: bytes,
        tags: Collection[bytes],
        ttl_ms: int | None,
        grace_ms: int,
    ) -> Deferred[int | None]:
        return self._in_order(
            (key,),
            lambda: self._cache.put(key, value, tags, ttl_ms, grace_ms, self._pipeline),
        )

    def fetch(self, key: bytes, lease_ms: int) -> Deferred[Fetched]:
        return self._in_order(
            (key,), lambda: self._cache.fresh.fetch(key, lease_ms, self._pipeline)
        )

    def fill(self, token: int, key: bytes, value: bytes, options: StoreOptions) -> Deferred[bool]:
        return self._in_order(
            (key,), lambda: self._cache.fresh.fill(token, key, value, options, self._pipeline)
        )

    def release(self, token: int, key: bytes) -> Deferred[bool]:
        return self._in_order((key,), lambda: self._cache.fresh.release(token, key, self._pipeline))

    def add(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> Deferred[bool]:
        return self._in_order(
            (key,), lambda: self._cache.add(key, value, tags, ttl_ms, self._pipeline)
        )

    def increment(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> Deferred[int]:
        return self._in_order(
            (key,), lambda: self._cache.increment(key, by, tags, ttl_ms, self._pipeline)
        )

    def decrement(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> Deferred[int]:
        return self.increment(key, -by, tags, ttl_ms)

    def touch(self, key: bytes, ttl_ms: int | None = None) -> Deferred[bool]:
        return self._in_order((key,), lambda: self._cache.touch(key, ttl_ms, self._pipeline))

    def delete(self, key: bytes) -> Deferred[bool]:
        return self._in_order((key,), lambda: self._cache.delete(key, self._pipeline))

    def invalidate_tag(self, tag: bytes, soft: bool = False) -> Deferred[int]:
        return self.invalidate_any((tag,), soft)

    def invalidate_any(self, tags: Collection[bytes], soft: bool = False) -> Deferred[int]:
        return self._in_order((), lambda: self._cache.invalidate_any(tags, soft))

    def invalidate_all(self, tags: Collection[bytes], soft: bool = False) -> Deferred[int]:
        return self._in_order((), lambda: self._cache.invalidate_all(tags, soft))

    def invalidate_keys(self, keys: Collection[bytes], soft: bool = False) -> Deferred[int]:
        return self._in_order(keys, lambda: self._cache.invalidate_keys(keys, soft))

    def flush(self) -> Deferred[int]:
        return self._in_order((), self._cache.flush)
