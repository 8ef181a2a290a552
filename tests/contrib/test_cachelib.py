"""The cachelib backend."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cachelib.serializers import JSONSerializer, RedisSerializer

from tagcache.client import Client
from tagcache.contrib.cachelib import TagCache
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import BadArgument, Refused


@pytest.fixture
def cache(tagcache_server: Server, tagcache_client: Client) -> Iterator[TagCache]:
    cache = TagCache(tagcache_server.url, key_prefix="app:", timeout=60.0)
    yield cache
    cache.close()


@pytest.mark.parametrize("value", [None, True, 0, -5, 2**70, "é\n\t", b"\x00\n", [1, (2,)], {1: 2}])
def test_values_make_the_round_trip(cache: TagCache, value: Any) -> None:
    assert cache.set("k", value) is True
    assert cache.get("k") == value
    assert type(cache.get("k")) is type(value)
    assert cache.has("k")


def test_several_keys(cache: TagCache) -> None:
    assert cache.set_many({"a": 1, "b": 2}, tags=["t"]) == ["a", "b"]
    assert cache.get_many("a", "x", "b") == [1, None, 2]
    assert cache.get_dict("a", "x") == {"a": 1, "x": None}
    assert cache.delete_many("a", "x") == ["a", "x"]
    assert not cache.has("a")
    assert cache.delete("b")
    assert not cache.delete("b")


def test_tags(cache: TagCache) -> None:
    cache.set("a", 1, tags=["t", "u"])
    assert cache.add("b", 2, tags=["t"])
    assert not cache.add("b", 3, tags=["v"])
    cache.set_many({"c": 3}, tags=iter(["u"]))
    assert cache.invalidate_tag("v") == 0
    assert cache.invalidate_tags(["t", "u"], mode="all") == 1
    assert cache.get_many("a", "b", "c") == [None, 2, 3]
    assert cache.invalidate_tags(["t", "u"]) == 2


def test_the_server_counts_and_keeps_tags(cache: TagCache, tagcache_client: Client) -> None:
    assert cache.inc("n") == 1
    assert cache.dec("n", 3) == -2
    assert tagcache_client.increment("app:n", 5) == 3
    assert cache.get("n") == 3
    cache.set("n", 1, tags=["t"])
    assert cache.inc("n") == 2
    assert cache.invalidate_tag("t") == 1
    cache.set("n", "text")
    with pytest.raises(Refused, match="not an integer"):
        cache.inc("n")


def test_timeouts(tagcache_server: Server, tagcache_client: Client) -> None:
    sent: list[Any] = []

    class Seen(Client):
        def put(self, key: Any, value: Any, **terms: Any) -> bool:
            sent.append(terms["ttl"])
            return super().put(key, value, **terms)

    cache = TagCache(tagcache_server.url, default_timeout=7)
    cache.close()
    with Seen.from_url(tagcache_server.url, timeout=60) as client:
        cache.client = client
        cache.set("k", 1)
        cache.set("k", 1, 0)
        cache.set("k", 1, timedelta(seconds=9))
        assert cache.set("k", 1, -1)
    assert sent == [7, None, 9]
    assert tagcache_client.get("k") is None


def test_expiry(cache: TagCache) -> None:
    cache.set("k", 1, 1)
    pause = threading.Event()
    for _ in range(200):
        if not cache.has("k"):
            return
        pause.wait(0.02)
    raise AssertionError("the entry has not expired")


def test_values_that_others_wrote_are_misses(cache: TagCache, tagcache_client: Client) -> None:
    tagcache_client.put("app:k", "text")
    cache.set("l", 1)
    assert cache.get("k") is None
    assert cache.get_many("k", "l") == [None, 1]


def test_values_without_room(cache: TagCache, caplog: pytest.LogCaptureFixture) -> None:
    cache.set("k", "old")
    assert cache.set("k", "x" * 2_000_000) is False
    assert not cache.has("k")
    assert cache.add("k", "x" * 2_000_000) is False
    assert cache.set_many({"k": "x" * 2_000_000, "l": 1}) == ["l"]
    assert "k is not cached" in caplog.text


@pytest.mark.parametrize("serializer", [JSONSerializer(), RedisSerializer(), JSONSerializer, json])
def test_setting_the_serializer(cache: TagCache, tagcache_client: Client, serializer: Any) -> None:
    assert cache.serializer is None
    cache.serializer = serializer
    assert cache.serializer is serializer
    assert cache.set("k", {"a": [1, None]})
    assert cache.get("k") == {"a": [1, None]}
    if not isinstance(serializer, RedisSerializer):
        assert tagcache_client.get("app:k") == {"a": [1, None]}
    assert cache.set("n", 41)
    assert cache.inc("n") == cache.get("n") == 42


def test_the_serializer_as_an_option(tagcache_server: Server, tagcache_client: Client) -> None:
    cache = TagCache(tagcache_server.url, serializer=JSONSerializer())
    cache.set("k", [1])
    assert tagcache_client.get("k") == [1]
    cache.close()


def test_a_serializer_rejects_a_value(cache: TagCache, tagcache_client: Client) -> None:
    """cachelib's JSON serializer logs the reason, and returns None."""
    cache.serializer = JSONSerializer()
    with pytest.raises(BadArgument, match="serde=JSONSerializer cannot hold this: set"):
        cache.set("k", {1})
    cache.set("k", 1)
    with pytest.raises(BadArgument, match="dumps and loads"):
        cache.serializer = object()
    assert cache.get("k") == 1


def test_the_serde_of_the_url(tagcache_server: Server, tagcache_client: Client) -> None:
    cache = TagCache(f"{tagcache_server.url}?serde=json")
    cache.set("k", [1])
    assert tagcache_client.get("k") == [1]
    with pytest.raises(BadArgument, match="cannot be given together"):
        cache.serializer = JSONSerializer()
    cache.close()


def test_clear_empties_the_server(cache: TagCache, tagcache_client: Client) -> None:
    tagcache_client.put("other", 1)
    assert cache.clear() is True
    assert tagcache_client.get("other") is None


def test_invalid_options(tagcache_server: Server) -> None:
    with pytest.raises(BadArgument, match="threshold is not an option"):
        TagCache(tagcache_server.url, threshold=5)
    with pytest.raises(BadArgument, match="no server"):
        TagCache([])


def test_an_unavailable_cache_may_be_ignored() -> None:
    cache = TagCache("tagcache://127.0.0.1:1", ignore_exc=True)
    assert cache.get("k") is None
    assert cache.set("k", 1) is False
    assert cache.set_many({"k": 1}) in ([], ["k"])
