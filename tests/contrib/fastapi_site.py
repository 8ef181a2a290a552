"""Visits to an ASGI application in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx

T = TypeVar("T")


def visit(app: Any, visits: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
    """Return what ``visits`` returns, which gets a client of the application."""

    async def main() -> T:
        # An error in the application is a response, as it is on a server.
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
            return await visits(client)

    return asyncio.run(main())


def get(app: Any, path: str = "/", **options: Any) -> httpx.Response:
    """Return the response to one GET."""
    return visit(app, lambda client: client.get(path, **options))


def status(response: httpx.Response) -> str | None:
    """Return what the response says about the cache."""
    found: str | None = response.headers.get("cache-status")
    return found


HIT = "tagcache; hit"
MISS = "tagcache; fwd=miss"
