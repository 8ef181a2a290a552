"""A FastAPI site for several workers, whose pages are made when a file is there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response

from tagcache.contrib.fastapi import ResponseCache

HERE = Path(os.environ["SITE_DIRECTORY"])
cache = ResponseCache(os.environ["TAGCACHE_URL"])
app = FastAPI(lifespan=cache.lifespan)


def note(file: str) -> None:
    """Add the number of this process to a file."""
    with (HERE / file).open("a") as opened:
        opened.write(f"{os.getpid()}\n")


@app.middleware("http")
async def arrived(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    note("arrived")
    return await call_next(request)


@app.get("/pages/{name}")
@cache.cached(ttl=60, wait=60, tags=["page:{name}"])
async def show(name: str) -> dict[str, object]:
    note(f"made-{name}")
    while not (HERE / "go").exists():
        await asyncio.sleep(0.01)
    return {"name": name, "by": os.getpid()}


@app.put("/pages/{name}")
async def change(name: str) -> int:
    return await cache.invalidate_tag(f"page:{name}")
