"""Tests of the service, with a real cache: the fixtures come with TagCache."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from tagcache import Client
from tagcache.contrib.pytest_plugin import Server

HIT = "tagcache; hit"
MISS = "tagcache; fwd=miss"
Visits = Callable[[httpx.AsyncClient], Awaitable[None]]


@pytest.fixture
def visit(
    tagcache_server: Server,
    tagcache_client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Visits], None]:
    """Return a function that runs a coroutine function with a client of the service."""
    monkeypatch.setenv("BOOKS_DATABASE", str(tmp_path / "books.sqlite3"))
    monkeypatch.setenv("TAGCACHE_URL", tagcache_server.url)
    # Imported when the environment is as it should be.
    from examples.fastapi_service.service import app

    async def main(visits: Visits) -> None:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://books") as client,
        ):
            await visits(client)

    return lambda visits: asyncio.run(main(visits))


async def seen(client: httpx.AsyncClient, path: str) -> str:
    """Return what the response says about the cache."""
    response = await client.get(path)
    assert response.status_code == 200
    return str(response.headers["cache-status"])


def test_a_book_is_cached_until_it_changes(visit: Callable[[Visits], None]) -> None:
    async def visits(client: httpx.AsyncClient) -> None:
        assert [await seen(client, "/books/3") for _ in range(2)] == [MISS, HIT]
        assert await seen(client, "/books/4") == MISS
        changed = await client.put("/books/3", json={"title": "Solaris (1961)"})
        assert changed.status_code == 204
        assert (await client.get("/books/3")).json()["title"] == "Solaris (1961)"
        assert await seen(client, "/books/4") == HIT

    visit(visits)


def test_a_list_is_forgotten_with_each_of_its_books(visit: Callable[[Visits], None]) -> None:
    async def visits(client: httpx.AsyncClient) -> None:
        everything, hers = "/books", "/books?author=Ursula K. Le Guin"
        for path in (everything, hers):
            assert [await seen(client, path) for _ in range(2)] == [MISS, HIT]
        # Of another author.
        await client.post("/books/4/reviews", json={"stars": 1})
        assert [await seen(client, path) for path in (everything, hers)] == [MISS, HIT]
        await client.post("/books/1/reviews", json={"stars": 1})
        assert [await seen(client, path) for path in (everything, hers)] == [MISS, MISS]
        books = (await client.get(everything)).json()
        assert [book["reviews"] for book in books] == [3, 1, 1, 3]

    visit(visits)


def test_a_client_that_has_the_list_gets_a_304(visit: Callable[[Visits], None]) -> None:
    async def visits(client: httpx.AsyncClient) -> None:
        known = {"if-none-match": (await client.get("/books")).headers["etag"]}
        assert (await client.get("/books", headers=known)).status_code == 304
        await client.post("/books/1/reviews", json={"stars": 1})
        assert (await client.get("/books", headers=known)).status_code == 200

    visit(visits)


def test_errors_are_not_cached(visit: Callable[[Visits], None], tagcache_client: Client) -> None:
    async def visits(client: httpx.AsyncClient) -> None:
        for _ in range(2):
            assert (await client.get("/books/99")).status_code == 404
        assert (await client.put("/books/99", json={"title": "a"})).status_code == 404
        assert (await client.post("/books/1/reviews", json={"stars": 9})).status_code == 422

    visit(visits)
    assert tagcache_client.flush() == 0
