"""One way to talk to either engine, and to let time pass for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tagcache.engine.memory import MemoryCache
from tagcache.model.activity import Activity
from tagcache.model.limits import Limits
from tagcache.model.views import Miss
from tagcache.redis.cache import RedisCache
from tagcache.redis.connection import connect, is_cluster
from tagcache.redis.near import Near
from tagcache.redis.partitions import Partitions
from tagcache.redis.pipeline import Lane
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.tracking import Tracking
from tests.helpers import done


class Memory:
    """The engine in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cache: Any = MemoryCache(monotonic=self.clock.seconds, wall=self.clock.seconds)

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.cache, name)

        def call(*arguments: Any) -> Any:
            result = operation(*arguments)
            return done(result) if hasattr(result, "send") else result

        return call

    def search(self, tags: list[bytes], every: bool = False) -> list[bytes]:
        scan = (self.cache.scan_all if every else self.cache.scan_any)(tags)
        return [item[0] for item in scan if item is not None]

    def newest(self, prefix: bytes = b"") -> list[bytes]:
        return [item[0] for item in self.cache.scan(prefix) if item is not None]

    def tags(self, prefix: bytes = b"") -> list[tuple[bytes, int, int]]:
        return [item for item in self.cache.scan_tags(prefix) if item is not None]

    def ttl_ms(self, key: bytes) -> int | None:
        entry = self.cache.peek(key)
        return None if entry is None else entry.ttl_ms

    def limit(self, limits: Limits) -> None:
        self.cache.limits = limits

    def counted(self) -> tuple[int, int, int, int]:
        counted = self.cache.counters()
        return counted.hits, counted.misses, counted.puts, counted.invalidations

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def close(self) -> None:
        """Nothing is open."""


class Remote:
    """The engine in Redis, with an event loop of its own."""

    def __init__(
        self,
        url: str,
        timeout: float = 60.0,
        partitions: int | None = None,
        near: bool = False,
    ) -> None:
        self.url = url
        self.loop = asyncio.new_event_loop()
        self.client = connect(url, timeout, 4, PolicyCheck(False))
        self.troubles: list[str] = []
        self.near = self.tracking = None
        if near:
            self.near = Near(MemoryCache(), time.monotonic)
            self.tracking = Tracking(
                self.client,
                "tagcache:",
                self.near,
                self.loop,
                time.monotonic,
                self.troubles.append,
            )
            self.tracking.start()
            self.wait(self._until_fresh(self.near))
        self.lanes = [Lane(self.client, self.loop, timeout, self.troubles.append) for _ in range(4)]
        self.partitions = Partitions(
            self.lanes, "tagcache:", partitions or (64 if is_cluster(url) else 1)
        )
        self.cache = RedisCache(
            self.partitions,
            Limits(),
            Activity(Random(1)),
            time.monotonic,
            self.near,
        )

    @staticmethod
    async def _until_fresh(near: Near) -> None:
        while not near.is_fresh:
            await asyncio.sleep(0.01)

    def run(self, work: Deferred[Any]) -> Any:
        return self.loop.run_until_complete(work.asFuture(self.loop))

    def all(self, works: list[Deferred[Any]]) -> list[Any]:
        async def wait() -> list[Any]:
            return await asyncio.gather(*(work.asFuture(self.loop) for work in works))

        return self.wait(wait())

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.cache, name)

        def call(*arguments: Any) -> Any:
            return self.run(operation(*arguments))

        return call

    def get(self, key: bytes) -> bytes | None:
        near = self.cache.get_near(key)
        if near is not None:
            return near
        found = self.run(self.cache.get(key))
        return None if isinstance(found, Miss) else found

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        found = self.run(self.cache.get_many(keys))
        return [None if isinstance(each, Miss) else each for each in found]

    def search(self, tags: list[bytes], every: bool = False) -> list[bytes]:
        return [entry.key for entry in self.run(self.cache.search(tags, every))]

    def newest(self, prefix: bytes = b"") -> list[bytes]:
        return [entry.key for entry in self.run(self.cache.newest(prefix, 0, 10_000))]

    def tags(self, prefix: bytes = b"") -> list[tuple[bytes, int, int]]:
        return self.run(self.cache.tags(prefix))

    def ttl_ms(self, key: bytes) -> int | None:
        entry = self.run(self.cache.peek(key))
        return None if entry is None else entry.ttl_ms

    def limit(self, limits: Limits) -> None:
        self.cache.limits = limits

    def counted(self) -> tuple[int, int, int, int]:
        counted = self.run(self.cache.counters())
        return counted.hits, counted.misses, counted.puts, counted.invalidations

    def pass_time(self, seconds: float) -> None:
        # The clock is Redis's own; nothing but waiting moves it.
        time.sleep(seconds)

    def close(self) -> None:
        if self.tracking is not None:
            self.wait(self.tracking.close())
        for lane in self.lanes:
            self.wait(lane.close())
        self.wait(self.client.aclose())
        self.loop.close()
