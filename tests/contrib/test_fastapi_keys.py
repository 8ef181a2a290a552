"""The keys of the responses of path functions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel

from tagcache.client import Client
from tagcache.contrib.fastapi import ResponseCache
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import BadArgument
from tests.contrib.fastapi_site import HIT, get, status


class Page(BaseModel):
    skip: int = 0
    limit: int = 10


@dataclass
class Sorting:
    by: str = "date"


class Session:
    """What a dependency yields that is different for each request."""


@pytest.fixture
def cache(tagcache_server: Server, tagcache_client: Client) -> ResponseCache:
    return ResponseCache(tagcache_server.url, timeout=60.0)


@pytest.fixture
def app(cache: ResponseCache) -> FastAPI:
    return FastAPI(lifespan=cache.lifespan)


@pytest.fixture
def calls() -> list[Any]:
    return []


def test_all_arguments_are_in_the_key(app: FastAPI, cache: ResponseCache, calls: list[Any]) -> None:
    @app.get("/{kind}")
    @cache.cached()
    async def show(
        kind: str,
        page: Annotated[Page, Query()],
        sorting: Annotated[Sorting, Depends()],
        color: list[str] = Query(default=["red"]),  # noqa: B008 - as users write it
    ) -> str:
        calls.append((kind, page.skip, sorting.by, color))
        return repr(calls[-1])

    queries = ["", "skip=1", "skip=1&limit=5", "by=name", "color=red", "color=a&color=b"]
    expected = [get(app, f"/posts?{query}").json() for query in queries]
    assert [get(app, f"/posts?{query}&unknown=1").json() for query in queries] == expected
    # The default color is the same as one that is named.
    assert len(calls) == len(queries) - 1
    assert get(app, "/pages").json() == "('pages', 0, 'date', ['red'])"


def test_an_argument_that_cannot_be_in_the_key(
    app: FastAPI, cache: ResponseCache, caplog: pytest.LogCaptureFixture
) -> None:
    @cache.cached()
    async def show(session: Annotated[Session, Depends(Session)]) -> str:
        return "page"

    app.get("/")(show)
    assert get(app).status_code == 500
    with pytest.raises(BadArgument, match=r"'session' of .*show, which is of type Session: name"):
        asyncio.run(_called(app))


async def _called(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
        await client.get("/")


def test_an_argument_with_the_name_of_a_part_of_the_path(
    app: FastAPI, cache: ResponseCache, tagcache_client: Client
) -> None:
    def visitor(user: str, token: str = "") -> str:
        return f"{user} with {token}"

    @app.get("/users/{user}/{number}")
    @cache.cached(tags=["users"])
    async def show(number: int, user: str = Depends(visitor)) -> str:
        return f"{number} {user}"

    for _ in range(2):
        for token in ("a", "b"):
            assert get(app, f"/users/ann/7?token={token}").json() == f"7 ann with {token}"
    assert len(tagcache_client.keys_by_tag("users")) == 2


def test_a_key_of_your_own(
    app: FastAPI, cache: ResponseCache, tagcache_client: Client, calls: list[Any]
) -> None:
    @app.get("/template/{number}")
    @cache.cached(key="post:{number}:{page.skip}")
    async def template(number: int, page: Annotated[Page, Query()]) -> int:
        calls.append(number)
        return number

    @app.get("/callable/{number}")
    @cache.cached(key=lambda number, session: f"page:{number}")
    async def computed(number: int, session: Annotated[Session, Depends(Session)]) -> int:
        calls.append(number)
        return number

    for _ in range(2):
        assert get(app, "/template/1?limit=4").json() == 1
        assert get(app, "/callable/2").json() == 2
    assert calls == [1, 2]
    assert tagcache_client.delete_many(["post:1:0", "page:2"]) == 2


def test_long_paths(app: FastAPI, cache: ResponseCache) -> None:
    @app.get("/{path:path}")
    @cache.cached()
    async def show(path: str) -> str:
        return path

    paths = ["a" * 5000, "a" * 5001, "\N{GREEK SMALL LETTER PI}" * 100]
    for _ in range(2):
        responses = [get(app, f"/{path}") for path in paths]
        assert [response.json() for response in responses] == paths
    assert [status(response) for response in responses] == [HIT] * 3
