"""One interface to both engines, with a way to let time pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tagcache.engine.caches import MemoryCaches
from tagcache.engine.databases import MemoryDatabases
from tagcache.engine.memory import MemoryCache
from tagcache.model.activity import Activity
from tagcache.model.limits import Limits
from tagcache.model.numbered import Numbered
from tagcache.redis.availability import Availability
from tagcache.redis.cache import RedisCache
from tagcache.redis.caches import RedisCaches
from tagcache.redis.connection import connect, is_cluster
from tagcache.redis.databases import RedisDatabases
from tagcache.redis.near import Near
from tagcache.redis.partitions import Partitions
from tagcache.redis.pipeline import ScriptPipeline
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.tracking import Tracking
from tagcache.redis.upkeep import Upkeep
from tests.helpers import done


def raw_client(url: str) -> Any:
    """A client of redis-py, for what only tests look at."""
    if not is_cluster(url):
        return Redis.from_url(url)
    places = [place.split(":") for place in url.partition("://")[2].split(",")]
    return RedisCluster(startup_nodes=[ClusterNode(host, int(port)) for host, port in places])


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


class Database(Driven):
    """One database of another engine."""

    def __init__(self, whole: Any, number: int) -> None:
        self.engine = whole.databases[number]
        self.cache = whole.caches[number]
        self.wait_for = whole.wait_for


class Memory(Driven):
    """The engine in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        seconds = self.clock.seconds
        self.caches = MemoryCaches(lambda: MemoryCache(monotonic=seconds, wall=seconds), 16)
        self.databases = MemoryDatabases(self.caches, seconds)
        self.cache = self.caches[0]
        self.engine = self.databases[0]

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
        self.client = raw_client(url)
        self.servers = connect(url, timeout, PolicyCheck(False))
        self.troubles: list[str] = []
        self.near = self.tracking = nears = None
        if near:
            nears = Numbered(16, lambda _: Near(MemoryCache(), time.monotonic))
            self.near = nears[0]
            self.tracking = Tracking(
                self.servers,
                "tagcache:",
                nears,
                self.loop,
                time.monotonic,
                self.troubles.append,
            )
            self.tracking.start()
            self.wait(self._until_fresh(self.near))
        self.pipelines = [
            ScriptPipeline(self.servers, self.loop, timeout, self.troubles.append) for _ in range(4)
        ]

        def partitions_of(number: int) -> Partitions:
            count = partitions or (16 if is_cluster(url) else 1)
            return Partitions(self.pipelines, "tagcache:", count, database=number)

        def make(number: int) -> RedisCache:
            return RedisCache(
                partitions_of(number),
                Limits(),
                Activity(Random(1)),
                time.monotonic,
                None if nears is None else nears[number],
            )

        self.caches = RedisCaches(16, make, partitions_of)
        self.upkeep = Upkeep(
            self.caches,
            self.pipelines,
            self.servers,
            Availability(url),
            Clock(),
            PolicyCheck(False),
        )
        self.databases = RedisDatabases(self.caches, self.upkeep)
        self.cache = self.caches[0]
        self.engine = self.databases[0]
        self.partitions = self.cache._partitions

    async def _until_fresh(self, near: Near) -> None:
        await self._until(lambda: near.is_fresh)

    @staticmethod
    async def _until(condition: Callable[[], bool]) -> None:
        while not condition():
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
        self.wait(self.servers.close())
        self.wait(self.client.aclose())
        if self._owns_loop:
            self.loop.close()
