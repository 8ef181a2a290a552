"""One interface to both engines, with a way to let time pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tagcache.engine.memory import MemoryCache
from tagcache.engine.session import MemoryEngine
from tagcache.model.activity import Activity
from tagcache.model.limits import Limits
from tagcache.redis.availability import Availability
from tagcache.redis.cache import RedisCache
from tagcache.redis.connection import connect, is_cluster
from tagcache.redis.engine import RedisEngine
from tagcache.redis.near import Near
from tagcache.redis.partitions import Partitions
from tagcache.redis.pipeline import ScriptPipeline
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.tracking import Tracking
from tagcache.redis.upkeep import Upkeep
from tests.helpers import done


class Driven:
    """An engine whose results are waited for; what it is asked is looked up in this order:

    the session of no connection, the engine, and the cache behind it.
    """

    engine: Any
    cache: Any

    def wait_for(self, result: Any) -> Any:
        raise NotImplementedError

    def operation(self, name: str) -> Callable[..., Any]:
        for place in (self.engine.session, self.engine, self.cache):
            found: Callable[..., Any] | None = getattr(place, name, None)
            if found is not None:
                return found
        raise AttributeError(name)

    def __getattr__(self, name: str) -> Any:
        operation = self.operation(name)
        return lambda *arguments, **options: self.wait_for(operation(*arguments, **options))

    def search(self, tags: list[bytes], every: bool = False) -> list[bytes]:
        return [entry.key for entry in self.wait_for(self.engine.search(tags, every))]

    def newest(self, prefix: bytes = b"") -> list[bytes]:
        return [entry.key for entry in self.wait_for(self.engine.newest(prefix, 0, 10_000))]

    def tags(self, prefix: bytes = b"") -> list[tuple[bytes, int, int]]:
        return [tuple(tag) for tag in self.wait_for(self.engine.largest_tags(prefix, 10_000))]

    def ttl_ms(self, key: bytes) -> int | None:
        entry = self.wait_for(self.engine.peek(key))
        return None if entry is None else entry.ttl_ms

    def limit(self, limits: Limits) -> None:
        self.engine.limits = limits

    def counted(self) -> tuple[int, int, int, int]:
        counted = self.wait_for(self.engine.all_counters())
        return counted.hits, counted.misses, counted.puts, counted.invalidations


class Memory(Driven):
    """The engine in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cache = MemoryCache(monotonic=self.clock.seconds, wall=self.clock.seconds)
        self.engine = MemoryEngine(self.cache, self.clock.seconds)

    def wait_for(self, result: Any) -> Any:
        return done(result) if hasattr(result, "send") else result

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def close(self) -> None:
        """Do nothing: nothing is open."""


class Remote(Driven):
    """The engine in Redis, with an event loop of its own, or that of another one."""

    def __init__(
        self,
        url: str,
        timeout: float = 60.0,
        partitions: int | None = None,
        near: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.url = url
        self.loop = loop or asyncio.new_event_loop()
        self._owns_loop = loop is None
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
        self.pipelines = [
            ScriptPipeline(self.client, self.loop, timeout, self.troubles.append) for _ in range(4)
        ]
        self.partitions = Partitions(
            self.pipelines, "tagcache:", partitions or (64 if is_cluster(url) else 1)
        )
        self.cache = RedisCache(
            self.partitions,
            Limits(),
            Activity(Random(1)),
            time.monotonic,
            self.near,
        )
        availability = Availability(url)
        self.upkeep = Upkeep(
            self.cache, self.pipelines, self.client, availability, Clock(), PolicyCheck(False)
        )
        self.engine = RedisEngine(self.cache, self.upkeep)

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

    def wait_for(self, result: Any) -> Any:
        return self.run(result) if isinstance(result, Deferred) else result

    def pass_time(self, seconds: float) -> None:
        # The clock is that of Redis: one has to wait.
        time.sleep(seconds)

    def close(self) -> None:
        if self.tracking is not None:
            self.wait(self.tracking.close())
        for pipeline in self.pipelines:
            self.wait(pipeline.close())
        self.wait(self.client.aclose())
        if self._owns_loop:
            self.loop.close()
