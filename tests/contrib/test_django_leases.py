"""The Django backend: values that are computed under a lease, and tags that reads collect."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tagcache.client.collecting import collecting
from tagcache.client.lease_requests import fetch, release
from tagcache.contrib.cached import cache_tag
from tagcache.contrib.django import TagCache
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import BadArgument
from tests.contrib.conftest import Call, Make

MANY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from tagcache.contrib.django import TagCache

cache = TagCache(sys.argv[1], {"OPTIONS": {"timeout": 30, "pool_size": 16}})
count = lambda: cache.client.increment("productions")
with ThreadPoolExecutor(8) as pool:
    print(set(pool.map(lambda _: cache.get_or_set("k", count, wait=60), range(8))))
"""


class TestComputing:
    def test_one_of_several_processes_computes(
        self, tagcache_server: Server, cache: TagCache
    ) -> None:
        command = [sys.executable, "-c", MANY, tagcache_server.url]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        assert [process.communicate(timeout=120)[0] for process in processes] == ["{1}\n"] * 3
        assert cache.client.get("productions") == 1

    def test_another_backend_waits_for_the_value(self, make: Make, call: Call) -> None:
        computing, go = threading.Event(), threading.Event()

        def compute() -> str:
            computing.set()
            assert go.wait(60)
            return "first"

        one, two = make(OPTIONS={"timeout": 30}), make(OPTIONS={"timeout": 31})
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(call, one, "get_or_set", "k", compute)
            assert computing.wait(60)
            second = pool.submit(call, two, "get_or_set", "k", lambda: "second", wait=60)
            go.set()
            assert (first.result(60), second.result(60)) == ("first", "first")
        assert call(two, "get", "k") == "first"

    def test_who_does_not_wait_computes(self, make: Make, call: Call) -> None:
        one, two = make(OPTIONS={"timeout": 30}), make(OPTIONS={"timeout": 31})

        def compute() -> str:
            # In a thread: call may run a loop already.
            with ThreadPoolExecutor(1) as pool:
                other = pool.submit(call, two, "get_or_set", "k", lambda: "other", wait=0)
                assert other.result(60) == "other"
            return "mine"

        assert call(one, "get_or_set", "k", compute) == "mine"
        assert call(two, "get", "k") == "mine"

    def test_what_is_invalidated_meanwhile_is_returned_but_not_stored(
        self, cache: TagCache, call: Call
    ) -> None:
        def compute() -> str:
            assert cache.invalidate_tag("t") == 0
            return "old"

        assert call(cache, "get_or_set", "k", compute, tags=["t", "u"]) == "old"
        assert call(cache, "get", "k") is None
        assert call(cache, "get_or_set", "k", lambda: "new", tags=["t", "u"]) == "new"
        assert call(cache, "get", "k") == "new"

    def test_with_a_grace_an_old_value_is_better_than_an_error(
        self, cache: TagCache, call: Call, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> str:
            raise OSError("no database")

        terms = {"tags": ["t"], "grace": 60}
        assert call(cache, "get_or_set", "k", lambda: "old", **terms) == "old"
        assert call(cache, "invalidate_tag", "t", soft=True) == 1
        assert call(cache, "get", "k") is None
        assert call(cache, "get_or_set", "k", fail, **terms) == "old"
        assert "no database" in caplog.text
        assert call(cache, "get_or_set", "k", lambda: "new", **terms) == "new"
        assert call(cache, "invalidate_tags", ["t"], soft=True) == 1
        call(cache, "invalidate_tag", "t")
        with pytest.raises(OSError, match="no database"):
            call(cache, "get_or_set", "k", fail, **terms)
        assert call(cache, "get_or_set", "k", lambda: "newer", wait=0) == "newer"
        assert call(cache, "get", "k") == "newer"

    def test_tags_that_only_the_producer_knows(self, cache: TagCache, call: Call) -> None:
        def compute() -> str:
            cache_tag("post:7")
            return "page"

        tags = {"tags": lambda page: ["posts", f"of:{page}"]}
        assert call(cache, "get_or_set", "k", compute, **tags) == "page"
        assert call(cache, "invalidate_tags", ["posts", "post:7", "of:page"], mode="all") == 1

    def test_a_value_without_room_is_returned_and_logged(
        self, cache: TagCache, call: Call, caplog: pytest.LogCaptureFixture
    ) -> None:
        large = "x" * 1_100_000
        assert call(cache, "get_or_set", "k", lambda: large) == large
        assert ":1:k is not cached" in caplog.text
        assert call(cache, "get_or_set", "k", "small", wait=0) == "small"
        assert call(cache, "get", "k") == "small"

    @pytest.mark.parametrize("timeout", [0, -1])
    def test_a_timeout_that_has_passed(self, cache: TagCache, call: Call, timeout: int) -> None:
        assert call(cache, "get_or_set", "k", lambda: "made", timeout) == "made"
        assert call(cache, "get", "k") is None
        call(cache, "set", "k", "there")
        assert call(cache, "get_or_set", "k", lambda: "made", timeout) == "there"

    def test_an_awaitable_is_awaited_whatever_the_timeout(self, cache: TagCache) -> None:
        async def compute() -> str:
            return "made"

        assert asyncio.run(cache.aget_or_set("k", compute, 0)) == "made"
        assert asyncio.run(cache.aget_or_set("k", compute())) == "made"
        assert cache.get("k") == "made"


class TestTagsOfWhatIsRead:
    def test_reads_and_stores(self, cache: TagCache, call: Call) -> None:
        call(cache, "set", "a", 1, tags=["of a"])
        call(cache, "set_many", {"b": 2, "c": 3}, tags=["of b"])
        for reads, tags in (
            (lambda: call(cache, "get", "a"), {b"of a"}),
            (lambda: call(cache, "get_many", ["a", "b", "x"]), {b"of a", b"of b"}),
            (lambda: call(cache, "get", "x", "default"), set()),
            (lambda: call(cache, "get_or_set", "a", 0, tags=["not its"]), {b"of a"}),
            (lambda: call(cache, "set", "d", 4, tags=iter(["of d"])), {b"of d"}),
            (lambda: call(cache, "add", "d", 4, tags=["e"]), {b"e"}),
            (lambda: call(cache, "set_many", {"d": 4}, tags=["f"]), {b"f"}),
        ):
            with collecting() as collected:
                reads()
            assert set(collected) == tags
        with collecting():
            assert call(cache, "get_many", ["a", "b", "x"]) == {"a": 1, "b": 2}
            assert call(cache, "get", "x", "default") == "default"

    def test_a_value_is_gone_with_what_it_was_made_of(self, cache: TagCache, call: Call) -> None:
        def compute() -> Any:
            return cache.get("a"), cache.get_or_set("b", lambda: 2, tags=["of b"])

        for tag in ("of a", "of b"):
            cache.set("a", 1, tags=["of a"])
            assert call(cache, "get_or_set", "page", compute) == (1, 2)
            assert call(cache, "invalidate_tag", tag) == 2
            assert call(cache, "get", "page") is None

    def test_a_stale_value_does_not_exist_for_get(self, cache: TagCache, call: Call) -> None:
        call(cache, "get_or_set", "k", lambda: "old", tags=["t"], grace=60)
        call(cache, "invalidate_tag", "t", soft=True)
        with collecting():
            assert call(cache, "get", "k") is None
            assert call(cache, "get", "k") is None
        assert call(cache, "get_or_set", "k", lambda: "new", wait=0) == "new"

    def test_a_stale_value_that_get_ignores_keeps_nothing_from_being_stored(
        self, cache: TagCache, call: Call
    ) -> None:
        call(cache, "get_or_set", "k", lambda: "old", tags=["t"], grace=60)
        call(cache, "invalidate_tag", "t", soft=True)
        client = cache.client
        # Somebody else computes the new value.
        lookup = client._run(fetch(client._requests, cache.make_key("k"), 60_000, 0, False))
        assert lookup.token is not None
        with collecting() as collected:
            assert call(cache, "get", "k") is None
        assert not collected.has_stale
        client._run(release(client._requests, cache.make_key("k"), lookup.token))


class TestConditions:
    def test_only_if_there_is_none(self, cache: TagCache, call: Call) -> None:
        assert call(cache, "set", "k", 1, nx=True, tags=["t"]) is True
        assert call(cache, "set", "k", 2, nx=True) is False
        assert call(cache, "get", "k") == 1
        assert call(cache, "invalidate_tag", "t") == 1

    def test_only_if_there_is_one(self, cache: TagCache, call: Call) -> None:
        assert call(cache, "set", "k", 1, xx=True) is False
        assert call(cache, "set", "k", 1) is True
        assert call(cache, "set", "k", 2, 60, xx=True, tags=["t"]) is True
        assert call(cache, "invalidate_tag", "t") == 1

    def test_what_is_returned_for_a_timeout_that_has_passed(
        self, cache: TagCache, call: Call
    ) -> None:
        assert call(cache, "set", "k", 1, 0) is False
        assert call(cache, "set", "k", 1, 0, nx=True) is True
        call(cache, "set", "k", 1)
        assert call(cache, "set", "k", 1, 0, nx=True) is False
        assert call(cache, "set", "k", 1, 0, xx=True) is True

    def test_without_room(self, cache: TagCache, call: Call) -> None:
        call(cache, "set", "k", 1)
        assert call(cache, "set", "k", "x" * 1_100_000, xx=True) is False
        assert call(cache, "set", "k", "x" * 1_100_000) is False
        assert call(cache, "get", "k") is None

    def test_both(self, cache: TagCache, call: Call) -> None:
        with pytest.raises(BadArgument, match="nx or xx, not both"):
            call(cache, "set", "k", 1, nx=True, xx=True)
