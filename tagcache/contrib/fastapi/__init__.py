"""Cache responses of FastAPI and Starlette with tags.

cache = ResponseCache("tagcache://127.0.0.1:1984")
app = FastAPI(lifespan=cache.lifespan)

@app.get("/posts/{post_id}")
@cache.cached(ttl=60, tags=["post:{post_id}"])
async def show(post_id: int) -> Post: ...

await cache.invalidate_tag("post:7")
"""

from __future__ import annotations

try:
    import starlette.requests  # noqa: F401 - for a clear error
except ModuleNotFoundError as error:
    raise ImportError(
        "tagcache.contrib.fastapi needs: pip install 'tagcache-server[fastapi]'"
    ) from error

from tagcache.client import cache_tag
from tagcache.contrib.fastapi.cache import ResponseCache

__all__ = ["ResponseCache", "cache_tag"]
