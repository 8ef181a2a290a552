"""When the responses of path functions are made, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response

from tagcache.client import Client
from tagcache.client.early import Early
from tagcache.contrib.fastapi import ResponseCache
from tagcache.contrib.pytest_plugin import Server
from tests.contrib.fastapi_site import HIT, get, status, visit


@pytest.fixture
def cache(tagcache_server: Server, tagcache_client: Client) -> ResponseCache:
    return ResponseCache(tagcache_server.url, timeout=60.0)


@pytest.fixture
def app(cache: ResponseCache) -> FastAPI:
    return FastAPI(lifespan=cache.lifespan)


@pytest.fixture
def calls() -> list[Any]:
    return []


def test_the_time_to_live_may_depend_on_the_result(app: FastAPI, cache: ResponseCache) -> None:
    @app.get("/{seconds}")
    @cache.cached(ttl=lambda result: f"{result}s")
    async def show(seconds: float) -> float:
        return seconds

    async def visits(client: httpx.AsyncClient) -> None:
        await client.get("/0.001")
        await client.get("/60")
        while status(await client.get("/0.001")) == HIT:
            await asyncio.sleep(0.001)
        assert status(await client.get("/60")) == HIT

    visit(app, visits)


def test_many_requests_for_one_missing_page(
    app: FastAPI, cache: ResponseCache, calls: list[Any]
) -> None:
    @app.get("/page")
    @cache.cached()
    async def show(response: Response) -> list[Any]:
        calls.append("page")
        await asyncio.sleep(0.01)
        return calls

    @app.get("/personal")
    @cache.cached()
    async def personal(response: Response) -> int:
        calls.append("personal")
        number = len(calls)
        await asyncio.sleep(0.01)
        response.set_cookie("number", str(number))
        return number

    async def visits(client: httpx.AsyncClient) -> list[list[httpx.Response]]:
        return [
            await asyncio.gather(*(client.get(path) for _ in range(20)))
            for path in ("/page", "/personal")
        ]

    shared, own = visit(app, visits)
    assert [response.json() for response in shared] == [["page"]] * 20
    # Nobody gets what was made for another one.
    assert sorted(response.json() for response in own) == list(range(2, 22))
    assert all(response.cookies["number"] == response.text for response in own)


def test_an_early_refresh(app: FastAPI, cache: ResponseCache, calls: list[Any]) -> None:
    seconds = 0.0

    @app.get("/")
    @cache.cached(ttl="1m", grace="1m", early=Early(now=lambda: seconds))
    async def show(response: Response) -> int:
        calls.append(1)
        if len(calls) == 3:
            response.set_cookie("a", "b")
        return len(calls)

    assert [get(app).json() for _ in range(2)] == [1, 1]
    seconds = 61.0
    assert [get(app).json() for _ in range(2)] == [2, 2]
    seconds = 122.0
    # What is for one visitor only is not stored, and the next request makes another response.
    assert [get(app).json() for _ in range(2)] == [3, 4]
