"""The Django backend, beyond Django's own tests for every backend."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from django.contrib.sessions.backends.cache import KEY_PREFIX as SESSIONS
from django.core.cache.backends.base import CacheKeyWarning, InvalidCacheBackendError

from tagcache.client import AsyncClient, AsyncShardedClient, Client, ShardedClient
from tagcache.contrib.django import TagCache, close_clients
from tagcache.contrib.django.base import _clients
from tagcache.contrib.pytest_plugin import Server, _started
from tagcache.errors import CannotDecode, CircuitOpen, ConnectionFailed, Refused, Unavailable
from tests.contrib.conftest import Call, Make


class JsonSerializer:
    """A serializer like those that projects have for Django's Redis backend."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


class TestTags:
    def test_every_store_takes_tags(self, cache: TagCache, call: Call) -> None:
        call(cache, "set", "set", 1, tags=["a", "x"])
        assert call(cache, "add", "add", 2, tags=["b", "x"])
        assert call(cache, "get_or_set", "or", lambda: 3, tags=["c", "x"]) == 3
        assert call(cache, "set_many", {"m": 4, "n": 5}, tags=iter(["d", "x"])) == []
        assert call(cache, "invalidate_tag", "b") == 1
        assert call(cache, "invalidate_tags", ["a", "d"], mode="all") == 0
        assert call(cache, "get_many", ["set", "add", "or", "m", "n"]) == {
            "set": 1,
            "or": 3,
            "m": 4,
            "n": 5,
        }
        assert call(cache, "invalidate_tags", ["d", "x"], mode="all") == 2
        assert call(cache, "invalidate_tags", ["a", "c"]) == 2
        assert call(cache, "get_many", ["set", "add", "or", "m", "n"]) == {}

    def test_tags_are_the_same_for_every_prefix_and_version(self, make: Make, call: Call) -> None:
        one, two = make(KEY_PREFIX="one"), make(KEY_PREFIX="two", VERSION=3)
        call(one, "set", "k", 1, tags=["t"])
        call(two, "set", "k", 2, tags=["t"])
        call(two, "set", "k", 3, version=4, tags=["t"])
        assert [call(one, "get", "k"), call(two, "get", "k")] == [1, 2]
        assert call(one, "invalidate_tag", "t") == 3
        assert call(two, "get", "k", version=4) is None

    def test_incr_and_touch_keep_the_tags(self, cache: TagCache, call: Call) -> None:
        call(cache, "set", "n", 1, tags=["t"])
        assert call(cache, "incr", "n", 4) == 5
        assert call(cache, "decr", "n") == 4
        assert call(cache, "touch", "n", 50)
        assert call(cache, "invalidate_tag", "t") == 1

    def test_a_new_version_has_the_given_tags(self, cache: TagCache, call: Call) -> None:
        call(cache, "set", "k", "v", tags=["t"])
        assert call(cache, "incr_version", "k", tags=["t"]) == 2
        assert call(cache, "decr_version", "k", version=2, tags=["t", "u"]) == 1
        assert call(cache, "get", "k") == "v"
        assert call(cache, "invalidate_tags", ["t", "u"], mode="all") == 1
        with pytest.raises(ValueError, match="'k' not found"):
            call(cache, "incr_version", "k")


def ttl_ms(server: Server, key: str) -> int | None:
    """Return the time to live of an entry on the server."""
    import json
    import urllib.request
    from base64 import b64encode

    user = b64encode(f"{server.username}:{server.password}".encode()).decode()
    request = urllib.request.Request(
        f"{server.http_url}/keys/{key}", headers={"Authorization": f"Basic {user}"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        found: int | None = json.load(response)["ttl_ms"]
    return found


class TestTimeouts:
    @pytest.mark.parametrize("timeout", [0, -1, -0.5])
    def test_timeouts_that_have_passed(self, cache: TagCache, call: Call, timeout: float) -> None:
        call(cache, "set", "k", 1)
        call(cache, "set", "k", 2, timeout)
        assert call(cache, "get", "k") is None
        assert call(cache, "add", "k", 1, timeout) is True
        assert call(cache, "get", "k") is None
        call(cache, "set_many", {"k": 1, "l": 2})
        assert call(cache, "set_many", {"k": 1}, timeout) == []
        assert call(cache, "add", "l", 1, timeout) is False
        assert call(cache, "touch", "l", timeout) is True
        assert call(cache, "touch", "l", timeout) is False
        assert call(cache, "get_many", ["k", "l"]) == {}

    def test_fractions_of_a_second(self, make: Make, call: Call) -> None:
        cache = make(TIMEOUT=0.05)
        call(cache, "set", "k", 1)
        call(cache, "set", "l", 1, 0.05)
        call(cache, "set", "m", 1, 60.5)
        pause = threading.Event()
        for _ in range(100):
            if not call(cache, "has_key", "k") and not call(cache, "has_key", "l"):
                break
            pause.wait(0.02)
        assert call(cache, "get_many", ["k", "l", "m"]) == {"m": 1}

    def test_the_default_is_that_of_the_settings(self, make: Make, tagcache_server: Server) -> None:
        sent: list[Any] = []

        class Seen(Client):
            def put(self, key: Any, value: Any, **terms: Any) -> bool:
                sent.append(terms["ttl"])
                return super().put(key, value, **terms)

        with Seen.from_url(tagcache_server.url, timeout=60) as client:
            for settings in ({}, {"TIMEOUT": 7}, {"TIMEOUT": None}):
                cache = type("Watched", (TagCache,), {"client": client})(
                    tagcache_server.url, settings
                )
                cache.set("k", 1)
                cache.set("k", 1, None)
                cache.set("k", 1, 9)
        assert sent == [300, None, 9, 7, None, 9, None, None, 9]


class TestCounting:
    def test_integers_are_counted_on_the_server(
        self, cache: TagCache, call: Call, tagcache_client: Client
    ) -> None:
        call(cache, "set", "n", 40)
        assert tagcache_client.increment(":1:n") == 41
        assert call(cache, "incr", "n") == 42
        assert call(cache, "get", "n") == 42

    def test_threads_do_not_lose_increments(self, cache: TagCache) -> None:
        cache.set("n", 0)
        threads = [
            threading.Thread(target=lambda: [cache.incr("n") for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert cache.get("n") == 200

    @pytest.mark.parametrize("value", ["text", 1.5, True, None, 2**70])
    def test_other_values_cannot_be_counted(self, cache: TagCache, call: Call, value: Any) -> None:
        call(cache, "set", "k", value)
        with pytest.raises(TypeError, match="not an integer"):
            call(cache, "incr", "k")
        assert call(cache, "get", "k") == value

    def test_sums_that_do_not_fit(self, cache: TagCache, call: Call) -> None:
        call(cache, "set", "k", 2**63 - 1)
        with pytest.raises(ValueError, match="64 bits"):
            call(cache, "incr", "k")
        with pytest.raises(TypeError):
            call(cache, "incr", "k", 0.5)
        with pytest.raises(ValueError, match="'absent' not found"):
            call(cache, "decr", "absent")

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_a_counter_that_vanishes_meanwhile_is_not_recreated(
        self, make: Make, tagcache_server: Server, tagcache_client: Client, kind: str
    ) -> None:
        """A new counter, without the old tags and time to live, would stay for ever."""

        class Vanishing(Client):
            def increment(self, key: Any, *args: Any, **terms: Any) -> int:
                tagcache_client.invalidate_tag("t")
                return super().increment(key, *args, **terms)

        class AsyncVanishing(AsyncClient):
            async def increment(self, key: Any, *args: Any, **terms: Any) -> int:
                tagcache_client.invalidate_tag("t")
                return await super().increment(key, *args, **terms)

        class Cache(TagCache):
            async def async_client(self) -> AsyncClient:
                return asynchronous

        async def aincr() -> None:
            try:
                await cache.aincr("n")
            finally:
                await asynchronous.close()

        asynchronous = AsyncVanishing.from_url(tagcache_server.url, timeout=60)
        with Vanishing.from_url(tagcache_server.url, timeout=60) as client:
            cache = type("Cache", (Cache,), {"client": client})(tagcache_server.url, {})
            make().set("n", 5, tags=["t"])
            with pytest.raises(ValueError, match="not found"):
                _ = cache.incr("n") if kind == "sync" else asyncio.run(aincr())
        assert tagcache_client.stats().invalidations
        assert make().get("n") is None


class TestValues:
    @pytest.mark.parametrize("size", [1_100_000, 5_000_000])
    def test_values_without_room_are_logged_and_are_misses(
        self, cache: TagCache, call: Call, caplog: pytest.LogCaptureFixture, size: int
    ) -> None:
        large = "x" * size
        call(cache, "set", "k", "old")
        with caplog.at_level(logging.WARNING, "tagcache.contrib"):
            call(cache, "set", "k", large)
            assert call(cache, "get", "k") is None
            assert call(cache, "add", "k", large) is False
            call(cache, "set", "k", "old")
            assert call(cache, "set_many", {"k": large, "l": 1}) in (["k"], ["k", "l"])
        assert call(cache, "get", "k") is None
        assert len(caplog.records) >= 3
        assert ":1:k is not cached" in caplog.text

    def test_other_refusals_are_raised(self, cache: TagCache, call: Call) -> None:
        for name, first in (("set", "k"), ("add", "k"), ("set_many", {"k": 1})):
            args = [first] if name == "set_many" else [first, 1]
            with pytest.raises(Refused, match="too_many_tags"):
                call(cache, name, *args, tags=map(str, range(200)))

    @pytest.mark.parametrize("key", ["a\tb", "a\nb", "a\rb"])
    def test_keys_that_memcached_would_reject(self, cache: TagCache, call: Call, key: str) -> None:
        with pytest.warns(CacheKeyWarning, match="memcached"):
            call(cache, "set", key, 1)
        with pytest.warns(CacheKeyWarning, match="memcached"):
            assert call(cache, "get", key) == 1

    def test_get_or_set_awaits_an_awaitable_default(self, cache: TagCache) -> None:
        async def produce() -> str:
            return "made"

        assert asyncio.run(cache.aget_or_set("k", produce, tags=["t"])) == "made"
        assert cache.get("k") == "made"

    def test_the_serde_of_the_options(self, make: Make, tagcache_client: Client) -> None:
        cache = make(OPTIONS={"serde": "json"})
        cache.set("k", {"a": [1]})
        assert tagcache_client.get(":1:k") == {"a": [1]}
        named = make(OPTIONS={"serde": "pickle"})
        named.set("n", 1)
        assert named.incr("n") == 2

    def test_the_serde_of_the_url(
        self, make: Make, tagcache_server: Server, tagcache_client: Client
    ) -> None:
        make(f"{tagcache_server.url}?serde=json").set("k", {"a": [1]})
        assert tagcache_client.get(":1:k") == {"a": [1]}
        cache = make(f"{tagcache_server.url}?serde=pickle")
        cache.set("n", 1)
        assert cache.incr("n") == 2

    def test_the_database_of_the_url_and_of_the_options(
        self, make: Make, tagcache_server: Server
    ) -> None:
        caches = [
            make(tagcache_server.url),
            make(f"{tagcache_server.url}/2"),
            make(OPTIONS={"db": 3}),
        ]
        for number, cache in enumerate(caches):
            cache.set("k", number)
        assert [cache.get("k") for cache in caches] == [0, 1, 2]
        caches[1].clear()
        assert [cache.get("k") for cache in caches] == [0, None, 2]
        caches[2].clear()

    @pytest.mark.parametrize("serializer", [json, JsonSerializer, f"{__name__}.JsonSerializer"])
    def test_a_serializer_of_a_project(
        self, make: Make, call: Call, tagcache_client: Client, serializer: Any
    ) -> None:
        cache = make(OPTIONS={"serializer": serializer})
        call(cache, "set", "k", {"a": [1, "\n"]})
        assert call(cache, "get", "k") == {"a": [1, "\n"]}
        assert tagcache_client.get(":1:k") == {"a": [1, "\n"]}
        call(cache, "set", "n", 41)
        assert call(cache, "incr", "n") == 42

    def test_djangos_own_serializer(self, make: Make) -> None:
        cache = make(OPTIONS={"serializer": "django.core.cache.backends.redis.RedisSerializer"})
        cache.set("n", 41)
        assert cache.incr("n") == 42
        cache.set("k", {1, 2})
        assert cache.get("k") == {1, 2}

    def test_values_that_a_serializer_cannot_read(self, make: Make) -> None:
        make().set("k", {1, 2})
        with pytest.raises(CannotDecode, match="serde=JsonSerializer did not write this"):
            make(OPTIONS={"serializer": JsonSerializer}).get("k")


class TestSettings:
    def test_backends_with_the_same_settings_share_their_connections(self, make: Make) -> None:
        assert make().client is make(KEY_PREFIX="x").client
        assert make(OPTIONS={"timeout": 2.0}).client is not make().client
        serialized = {"OPTIONS": {"serializer": JsonSerializer}}
        assert make(**serialized).client is make(**serialized).client
        assert make(OPTIONS={"serializer": json}).client is not make(**serialized).client
        assert make(OPTIONS={"timeout": 2.0}).client.options.timeout == 2.0  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("location", "params", "why"),
        [
            ("", {}, "no server is given"),
            ([], {}, "no server is given"),
            ("redis://localhost", {}, "the URL must begin with"),
            ("tagcache://h?nope=1", {}, "nope"),
            ("tagcache://h", {"OPTIONS": {"nope": 1, "also": 2}}, "also, nope is not an option"),
            ("tagcache://h", {"OPTIONS": {"pool_size": 0}}, "pool_size"),
            ("tagcache://h", {"OPTIONS": {"serde": "xml"}}, "serde=xml"),
            (
                "tagcache://h?serde=json",
                {"OPTIONS": {"serializer": json}},
                "cannot be given together",
            ),
            ("tagcache://h,tagcache://g?serde=json", {}, "must name the same serde"),
            ("tagcache://[h", {}, "cannot be read"),
            ("tagcache://h", {"OPTIONS": {"serializer": "no.such"}}, "no"),
            ("tagcache://h", {"OPTIONS": {"serializer": object}}, "dumps and loads"),
            ("tagcache://h", {"OPTIONS": {"MAX_ENTRIES": 5}}, "MAX_ENTRIES cannot take effect"),
            ("tagcache://h", {"cull_frequency": 5}, "cull_frequency cannot take effect"),
            ("tagcache://h", {"OPTIONS": {"on_error": "no.such"}}, "no"),
            ("tagcache://h", {"OPTIONS": {"flush_on_return": False}}, "not for one"),
        ],
    )
    def test_invalid_settings(self, location: Any, params: Any, why: str) -> None:
        with pytest.raises(InvalidCacheBackendError, match=why):
            TagCache(location, params)

    @pytest.mark.parametrize("how", ["{0},{1}", "{0};{1}", "{0} {1}", None])
    def test_several_servers(
        self,
        make: Make,
        call: Call,
        tagcache_server: Server,
        tmp_path_factory: pytest.TempPathFactory,
        how: str | None,
    ) -> None:
        second = _started(tmp_path_factory.mktemp("second"))
        other = next(second)
        try:
            urls = [tagcache_server.url, other.url]
            cache = make(urls if how is None else how.format(*urls))
            assert isinstance(cache.client, ShardedClient)
            values = {f"k{number}": number for number in range(40)}
            assert call(cache, "set_many", values, tags=["t"]) == []
            assert call(cache, "get_many", values) == values
            counts = [len(node.keys_by_tag("t")) for node in cache.client.nodes.values()]
            assert sum(counts) == 40
            assert all(counts)
            assert call(cache, "incr", "k5", 10) == 15
            assert call(cache, "invalidate_tag", "t") == 40
            assert call(cache, "get_many", values) == {}
        finally:
            second.close()

    def test_an_unavailable_cache(self, call: Call) -> None:
        down = TagCache("tagcache://127.0.0.1:1", {})
        with pytest.raises(ConnectionFailed):
            call(down, "get", "k")
        told: list[Unavailable] = []
        options = {"ignore_exc": True, "on_error": told.append}
        ignored = TagCache("tagcache://127.0.0.1:1", {"OPTIONS": options})
        assert call(ignored, "get", "k", "default") == "default"
        call(ignored, "set", "k", 1)
        assert call(ignored, "get_or_set", "k", 5) == 5
        assert call(ignored, "invalidate_tag", "t") == 0
        assert len(told) >= 5

    def test_a_session_without_a_cache_counts_as_added(self, call: Call) -> None:
        options = {"ignore_exc": True, "breaker_seconds": 600}
        ignored = TagCache("tagcache://127.0.0.1:1", {"OPTIONS": options})
        assert call(ignored, "get", SESSIONS + "k") is None
        assert call(ignored, "add", SESSIONS + "k", 1)
        assert not call(ignored, "add", "lock", 1)

    def test_a_session_without_any_of_several_servers(self) -> None:
        nodes = ["tagcache://127.0.0.1:1", "tagcache://127.0.0.2:1"]
        ignored = TagCache(nodes, {"OPTIONS": {"ignore_exc": True}})
        ignored.get_many(map(str, range(20)))
        assert ignored.add(SESSIONS + "k", 1)
        assert not ignored.add("lock", 1)

    def test_an_existing_session_is_not_added(self, cache: TagCache, call: Call) -> None:
        assert call(cache, "add", SESSIONS + "k", 1)
        assert not call(cache, "add", SESSIONS + "k", 2)

    def test_all_clients_share_one_circuit_breaker(self) -> None:
        down = TagCache("tagcache://127.0.0.1:1", {"OPTIONS": {"breaker_seconds": 600}})
        with pytest.raises(ConnectionFailed, match="refused"):
            down.get("k")
        with pytest.raises(CircuitOpen):
            asyncio.run(down.aget("k"))
        with pytest.raises(CircuitOpen):
            asyncio.run(down.aget("k"))

    def test_the_callback_may_be_a_dotted_path(self) -> None:
        options = {"ignore_exc": True, "on_error": "tests.contrib.test_django.note"}
        TagCache("tagcache://127.0.0.1:1", {"OPTIONS": options}).get("k")
        assert isinstance(noted.pop(), Unavailable)


noted: list[Unavailable] = []


def note(error: Unavailable) -> None:
    noted.append(error)


class TestConnections:
    def test_they_stay_open_after_a_request(self, cache: TagCache, tagcache_client: Client) -> None:
        cache.get("k")
        before = {client["id"] for client in tagcache_client.clients()}
        cache.close()
        cache.get("k")
        assert {client["id"] for client in tagcache_client.clients()} == before

    def test_closed_clients_connect_again(self, cache: TagCache) -> None:
        cache.set("k", 1)
        close_clients()
        assert cache.get("k") == 1

    @pytest.mark.parametrize("nodes", [1, 2])
    def test_each_loop_has_a_client_that_ends_with_it(
        self, make: Make, tagcache_server: Server, tagcache_client: Client, nodes: int
    ) -> None:
        url = tagcache_server.url
        cache = make([url, url.replace("127.0.0.1", "localhost")][:nodes])
        clients: list[AsyncClient | AsyncShardedClient] = []

        async def both() -> Any:
            clients.append(await cache.async_client())
            assert await cache.async_client() is clients[-1]
            await cache.aset("k", 1)
            return await asyncio.gather(*(cache.aget("k") for _ in range(4)))

        async def explicit() -> None:
            first = await cache.async_client()
            assert await cache.aget("k") == 1
            await cache.aclose()
            assert await cache.async_client() is not first
            assert await cache.aget("k") == 1

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            runs: list[Callable[[], Coroutine[Any, Any, Any]]] = [both, both, explicit]
            for run in runs:
                asyncio.run(run())
            gc.collect()
        assert clients[0] is not clients[1]
        (_, per_loop) = _clients.of(cache._connecting)
        assert not per_loop._clients
        pause = threading.Event()
        for _ in range(200):
            # Only the connection of this client is left.
            if len(tagcache_client.clients()) == 1:
                return
            pause.wait(0.02)
        raise AssertionError(tagcache_client.clients())
