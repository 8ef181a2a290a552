"""Tags of cached results that only the code knows which makes them, through every level."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from tagcache.client import AsyncClient, Client, cache_tag
from tagcache.client.lease_requests import fetch, fill
from tagcache.contrib.cached import cached
from tagcache.contrib.pytest_plugin import Server


def test_tags_of_inner_results_are_those_of_outer_ones(tagcache_client: Client) -> None:
    calls = []

    @cached(tagcache_client, key="author:{number}", tags=lambda number: [f"author:{number}"])
    def author(number: int) -> str:
        cache_tag("names")
        return f"author {number}"

    @cached(tagcache_client, key="post:{number}")
    def post(number: int) -> str:
        cache_tag(f"post:{number}")
        return f"post by {author(7)}"

    @cached(tagcache_client, key="page")
    def page() -> str:
        calls.append(1)
        return f"page: {post(1)}, {post(2)}"

    # Once computed inside, once found inside.
    for _ in range(2):
        assert page() == page() == "page: post by author 7, post by author 7"
        for tag in ("author:7", "names", "post:1", "post:2"):
            assert "page" in tagcache_client.keys_by_tag(tag), tag
        tagcache_client.delete("page")
    assert len(calls) == 2
    page()
    assert tagcache_client.invalidate_tag("names") == 4
    page()
    assert len(calls) == 4


def test_an_inner_result_that_is_invalidated_meanwhile_outdates_the_outer_one(
    tagcache_client: Client,
) -> None:
    @cached(tagcache_client, key="inner")
    def inner() -> str:
        cache_tag("t")
        return "inner"

    @cached(tagcache_client, key="outer")
    def outer() -> str:
        found = inner()
        tagcache_client.invalidate_tag("t")
        return found

    inner()
    assert outer() == "inner"
    assert tagcache_client.get("outer") is None


def test_tasks_collect_for_themselves(tagcache_server: Server, tagcache_client: Client) -> None:
    async def run() -> None:
        async with AsyncClient.from_url(tagcache_server.url, timeout=60.0) as client:

            @cached(client, key="inner:{name}")
            async def inner(name: str) -> str:
                cache_tag(name)
                await asyncio.sleep(0)
                return name

            @cached(client, key="outer:{name}")
            async def outer(name: str) -> list[Any]:
                return list(await asyncio.gather(inner(name), inner(name + "2")))

            assert await asyncio.gather(outer("a"), outer("b")) == [["a", "a2"], ["b", "b2"]]

    asyncio.run(run())
    for name in "ab":
        assert sorted(tagcache_client.keys_by_tag(f"{name}2")) == [
            f"inner:{name}2",
            f"outer:{name}",
        ]


def test_what_is_made_of_a_stale_value_is_not_stored(tagcache_client: Client) -> None:
    options: dict[str, Any] = {"tags": ["t"], "ttl": 60, "grace": 60}
    client = tagcache_client
    outer = functools.partial(client.get_or_set, "outer", ttl=60)
    outermost = functools.partial(client.get_or_set, "outermost", ttl=60)

    def inner(producer: Callable[[], str]) -> Callable[[], str]:
        return lambda: client.get_or_set("inner", producer, **options)

    def broken() -> str:
        raise KeyError

    assert inner(lambda: "old")() == "old"
    client.invalidate_tag("t", soft=True)
    # The stale value is used, because the new one cannot be computed.
    assert outermost(lambda: outer(inner(broken))) == "old"
    # And here, because somebody else computes it.
    with Client(port=client.options.port, timeout=60) as other:
        token = other._run(fetch(other._requests, "inner", 60_000, 0, False)).token
        assert outermost(lambda: outer(inner(broken))) == "old"
        assert client.get_many(["outermost", "outer", "inner"]) == {}
        other._run(fill(other._requests, "inner", "new", token, (b"t",), 60, 60, None))
    assert outermost(lambda: outer(inner(broken))) == "new"
    assert sorted(client.keys_by_tag("t")) == ["inner", "outer", "outermost"]
    assert client.get_many(["outermost", "outer"]) == {"outermost": "new", "outer": "new"}
