"""All three clients, doing the same; a server must run on 127.0.0.1:1984, or where argv says."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tagcache import AsyncClient, Client
from tagcache.client import DeferredClient
from tagcache.errors import Refused, Unavailable

URL = sys.argv[1] if len(sys.argv) > 1 else "tagcache://127.0.0.1:1984"


def in_a_thread() -> None:
    with Client.from_url(URL, timeout=0.5, key_prefix="shop:") as client:
        client.put("page:1", {"title": "Hello"}, tags=["post:1", "author:7"], ttl=60)
        client.put(
            "page:2", {"title": "Again"}, tags=["post:2", "author:7"], ttl=timedelta(hours=1)
        )
        print(client.get("page:1"))
        print(client.get_or_set("page:3", lambda: {"title": "Made now"}, tags=["post:3"]))
        with client.pipeline() as pipe:
            views = pipe.increment("views")
            pages = pipe.get("page:2")
        print(views.result(), pages.result())
        removed: int = client.invalidate_tag("author:7")
        print(removed, client.get("page:1", "gone"))
        try:
            client.put("x" * 5000, 1)
        except Refused as error:
            print(error.code)
        client.delete_many(["views", "page:3"])


async def in_a_loop() -> None:
    async with AsyncClient.from_url(URL) as client:
        await asyncio.gather(*(client.put(f"n:{n}", n, tags=["n"]) for n in range(10)))
        async with client.pipeline() as pipe:
            one = pipe.get("n:1")
        print(one.result(), await client.invalidate_tags(["n"], mode="any"))


async def on_a_reactor(reactor: object) -> None:
    client = DeferredClient.from_url(reactor, URL)
    await client.put("greeting", "hello", tags=["t"])
    print(await client.get("greeting"), await client.invalidate_tag("t"))
    await client.close()


if __name__ == "__main__":
    try:
        in_a_thread()
    except Unavailable as error:
        sys.exit(f"there is no server: {error}")
    asyncio.run(in_a_loop())
    react(lambda reactor: Deferred.fromCoroutine(on_a_reactor(reactor)))
