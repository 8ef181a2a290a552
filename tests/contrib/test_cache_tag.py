"""Tags of cached results that only the code knows which makes them, through every level."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tagcache.client import AsyncClient, Client, cache_tag
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


def test_a_stale_inner_result_has_its_tags_too(tagcache_client: Client) -> None:
    fails = False

    @cached(tagcache_client, key="inner", grace=60)
    def inner() -> str:
        if fails:
            raise KeyError("the database is down")
        cache_tag("t")
        return "inner"

    @cached(tagcache_client, key="outer", grace=60)
    def outer() -> str:
        return inner()

    inner()
    fails = True
    tagcache_client.invalidate_tag("t", soft=True)
    assert inner() == "inner"
    assert outer() == "inner"
    assert tagcache_client.keys_by_tag("t") == ["outer"]
    tagcache_client.invalidate_tag("t")
    with pytest.raises(KeyError):
        outer()


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
