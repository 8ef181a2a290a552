"""A FastAPI site for uvicorn, with cached pages."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from tagcache.client import AsyncClient

cache = AsyncClient.from_url(os.environ["TAGCACHE_URL"])
posts = {number: f"Post {number}" for number in range(10)}
renderings = 0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with cache:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/loop")
async def loop() -> str:
    return type(asyncio.get_running_loop()).__module__


@app.get("/posts/{number}")
async def show(number: int) -> dict[str, object]:
    def render() -> str:
        global renderings
        renderings += 1
        return f"<p>{posts[number]}</p>"

    page = await cache.get_or_set(f"post:{number}", render, tags=[f"post:{number}"], ttl=60)
    return {"page": page, "renderings": renderings}


@app.put("/posts/{number}")
async def change(number: int, title: str) -> int:
    posts[number] = title
    return await cache.invalidate_tag(f"post:{number}")
