"""Cache libraries for Python that use redis-py: with their documented features.

Their own tests, as far as their sources have some, are run by test_their_own_tests.py.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from aiocache import Cache as AioCache
from aiocache import cached as aio_cached
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock
from cachelib import RedisCache
from cashews import Cache as Cashews
from cashews.exceptions import CacheBackendInteractionError, LockedError
from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE
from dogpile.testing import fixtures
from flask import Flask
from flask_caching import Cache as FlaskCache
from redis.exceptions import ResponseError

from tests.outside.redis_clients.server import Server

# They use methods that redis-py would like to be rid of.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")

# ---- cachelib -------------------------------------------------------------------------------


@pytest.fixture
def cachelib(redis_port: int) -> Iterator[RedisCache]:
    cache = RedisCache("127.0.0.1", redis_port, key_prefix="app:", default_timeout=100)
    yield cache
    cache._read_client.close()


def test_cachelib(cachelib: RedisCache) -> None:
    assert cachelib.set("k", {"a": [1, None]}) is True
    assert cachelib.get("k") == {"a": [1, None]}
    assert cachelib.add("k", 1) is False
    assert cachelib.add("fresh", 1) is True
    assert cachelib.set_many({"a": 1, "b": "two"}) == ["a", "b"]
    assert cachelib.get_many("a", "missing", "b") == [1, None, "two"]
    assert cachelib.get_dict("a", "b") == {"a": 1, "b": "two"}
    assert cachelib.inc("a", 41) == 42
    assert cachelib.dec("a") == 41
    assert cachelib.get("a") == 41
    assert cachelib.has("a") == 1
    assert cachelib.delete("a") is True
    assert cachelib.delete_many("b", "fresh") == ["b", "fresh"]
    assert cachelib.set("forever", 1, timeout=0) is True
    assert cachelib._read_client.ttl("app:forever") == -1
    assert cachelib.clear()
    assert not cachelib.has("k")


# ---- Flask-Caching --------------------------------------------------------------------------


def test_flask_caching(redis_url: str) -> None:
    app = Flask("site")
    app.config.update(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=redis_url, CACHE_KEY_PREFIX="f:")
    cache = FlaskCache(app)
    runs: list[str] = []

    @app.route("/")
    @cache.cached(timeout=60)
    def front() -> str:
        runs.append("front")
        return f"front {len(runs)}"

    @cache.memoize(60)
    def square(number: int) -> int:
        runs.append("square")
        return number * number

    visitor = app.test_client()
    assert [visitor.get("/").text for _ in range(3)] == ["front 1"] * 3
    with app.app_context():
        assert [square(3), square(3), square(4)] == [9, 9, 16]
        assert runs == ["front", "square", "square"]
        cache.delete_memoized(square, 3)
        assert [square(3), square(4)] == [9, 16]
        assert runs == ["front", "square", "square", "square"]
        assert cache.cache.get_many("missing") == [None]
        cache.clear()
        assert visitor.get("/").text == "front 5"
        cache.cache._read_client.close()


# ---- dogpile.cache: its own suites for backends ---------------------------------------------

ARGUMENTS: dict[str, Any] = {}
LOCKING: dict[str, Any] = {"distributed_lock": True, "thread_local_lock": False}


@pytest.fixture(autouse=True)
def where(redis_url: str) -> None:
    ARGUMENTS["url"] = LOCKING["url"] = redis_url


class TestDogpile(fixtures._GenericBackendTestSuite):  # type: ignore[misc]
    backend = "dogpile.cache.redis"
    config_args = {"arguments": ARGUMENTS}


class TestDogpileSerializer(fixtures._GenericSerializerTestSuite, TestDogpile):  # type: ignore[misc]
    region_args = {
        "serializer": lambda value: json.dumps(value).encode(),
        "deserializer": json.loads,
    }

    # Ten seconds of sleep.
    @pytest.mark.slow
    def test_threaded_get_multi(self) -> None:
        super().test_threaded_get_multi()


class TestDogpileLock(fixtures._GenericMutexTestSuite):  # type: ignore[misc]
    backend = "dogpile.cache.redis"
    config_args = {"arguments": LOCKING}


def test_dogpile_computes_once(redis_url: str) -> None:
    arguments = {**LOCKING, "url": redis_url, "lock_sleep": 0.01, "redis_expiration_time": 100}
    computed: list[int] = []

    def compute() -> str:
        computed.append(1)
        time.sleep(0.05)
        return "value"

    def read() -> None:
        region = make_region().configure("dogpile.cache.redis", arguments=arguments)
        assert region.get_or_create("k", compute) == "value"

    threads = [threading.Thread(target=read) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert computed == [1]
    region = make_region().configure("dogpile.cache.redis", arguments=arguments)
    region.set_multi({"a": 1, "b": 2})
    assert region.get_multi(["a", "missing", "b"]) == [1, NO_VALUE, 2]
    region.delete_multi(["a", "b"])
    assert region.get("a") is NO_VALUE


# ---- aiocache -------------------------------------------------------------------------------


def test_aiocache(redis_port: int) -> None:
    calls: list[int] = []

    async def use() -> None:
        async with AioCache(
            AioCache.REDIS, endpoint="127.0.0.1", port=redis_port, namespace="app"
        ) as cache:
            assert await cache.set("k", {"a": 1}, ttl=60) is True
            assert await cache.get("k") == {"a": 1}
            with pytest.raises(ValueError, match="already exists"):
                await cache.add("k", 1)
            assert await cache.add("half", 1, ttl=0.5) is True
            assert await cache.multi_set([("a", 1), ("b", 2)], ttl=60) is True
            assert await cache.multi_get(["a", "missing", "b"]) == [1, None, 2]
            assert await cache.increment("n", 5) == 5
            assert await cache.exists("n") is True
            assert await cache.expire("n", 60) is True
            assert await cache.delete("n") == 1
            async with RedLock(cache, "k", lease=10):
                assert await cache.exists("k-lock") is True
            assert await cache.exists("k-lock") is False
            async with OptimisticLock(cache, "k") as lock:
                await lock.cas("second")
            assert await cache.get("k") == "second"
            with pytest.raises(OptimisticLockError):
                async with OptimisticLock(cache, "k") as lock:
                    await cache.set("k", "somebody else")
                    await lock.cas("third")
            assert await cache.clear(namespace="app") is True
            assert await cache.exists("k") is False

        @aio_cached(ttl=60, cache=AioCache.REDIS, endpoint="127.0.0.1", port=redis_port)
        async def square(number: int) -> int:
            calls.append(number)
            return number * number

        assert [await square(3), await square(3)] == [9, 9]
        await square.cache.close()

    asyncio.run(use())
    assert calls == [3]


# ---- cashews --------------------------------------------------------------------------------


@pytest.fixture
def with_cashews(redis_url: str) -> Callable[[Callable[[Cashews], Any]], None]:
    """Run a coroutine function with a cache that raises what goes wrong."""

    def run(use: Callable[[Cashews], Any]) -> None:
        async def work() -> None:
            cache = Cashews()
            cache.setup(redis_url, suppress=False, client_name="shop")
            try:
                await use(cache)
            finally:
                await cache.close()

        asyncio.run(work())

    return run


def test_cashews(with_cashews: Callable[..., None]) -> None:
    async def use(cache: Cashews) -> None:
        await cache.set("k", {"a": 1}, expire="1m")
        assert await cache.get("k") == {"a": 1}
        assert 59 <= await cache.get_expire("k") <= 60
        assert await cache.set("k", 2, exist=False) is False
        await cache.set_many({"a": 1, "b": "two"}, expire=60)
        assert await cache.get_many("a", "missing", "b") == (1, None, "two")
        assert await cache.incr("n") == 1
        assert await cache.incr("n", 5, expire=60) == 6
        assert await cache.incr("m", expire=60) == 1
        assert await cache.get_expire("m") == 60
        assert sorted([key async for key in cache.scan("*")]) == ["a", "b", "k", "m", "n"]
        assert {key: value async for key, value in cache.get_match("[ab]")} == {
            "a": 1,
            "b": "two",
        }
        assert await cache.get_size("k") > 0
        assert await cache.get_keys_count() == 5
        await cache.delete_match("[ab]*")
        assert await cache.exists("a") is False
        assert await cache.ping(b"hello") == b"hello"
        async with cache.lock("lock", expire="10s"):
            assert await cache.is_locked("lock")
            with pytest.raises(LockedError):
                async with cache.lock("lock", expire="10s", wait=False):
                    pass
        assert not await cache.is_locked("lock")
        await cache.clear()
        assert await cache.get_keys_count() == 0

    with_cashews(use)


def test_decorators_of_cashews(with_cashews: Callable[..., None]) -> None:
    async def use(cache: Cashews) -> None:
        calls: list[str] = []

        @cache(ttl=timedelta(minutes=1), key="simple:{number}", lock=True)
        async def simple(number: int) -> int:
            calls.append("simple")
            await asyncio.sleep(0.02)
            return number

        @cache.early(ttl="1m", early_ttl="30s", key="early:{number}")
        async def early(number: int) -> int:
            calls.append("early")
            return number

        @cache.hit(ttl="1m", cache_hits=2, key="hit:{number}")
        async def hit(number: int) -> int:
            calls.append("hit")
            return number

        @cache.soft(ttl="1m", soft_ttl="30s", key="soft:{number}")
        async def soft(number: int) -> int:
            calls.append("soft")
            return number

        @cache.failover(ttl="1m", key="failover")
        async def failover(broken: bool) -> str:
            if broken:
                raise OSError
            return "ok"

        assert await asyncio.gather(*(simple(1) for _ in range(5))) == [1] * 5
        for function in (early, soft):
            assert [await function(1) for _ in range(3)] == [1] * 3
        assert [await hit(1) for _ in range(3)] == [1] * 3
        assert calls == ["simple", "early", "soft", "hit"]
        assert [await failover(False), await failover(True)] == ["ok", "ok"]
        async with cache.transaction():
            await cache.set("k", 1)
            assert await cache.get("k") == 1
        assert await cache.get("k") == 1

    with_cashews(use)


@pytest.mark.tagcache_only("sets are refused")
def test_tags_of_cashews_are_refused(
    with_cashews: Callable[..., None], redis_server: Server
) -> None:
    async def use(cache: Cashews) -> None:
        cache.register_tag("posts", "post:{id}")
        with pytest.raises((CacheBackendInteractionError, ResponseError)) as caught:
            await cache.set("post:1", 1, tags=["posts"])
        why = caught.value.__cause__ or caught.value
        assert "sets" in str(why)
        assert "TAG.SET" in str(why)

    with_cashews(use)
    with redis.Redis(port=redis_server.port) as client:
        assert client.ping()
