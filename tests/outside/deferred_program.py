"""A Twisted program: python -m tests.outside.deferred_program PORT put|get.

It reads a JSON object from standard input. ``put`` stores its values, ``get`` prints the stored
values of its keys. Values are in base64.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from tagcache.client import DeferredClient


async def run(reactor: Any, port: str, what: str) -> None:
    given: dict[str, str] = json.load(sys.stdin)
    url = f"tagcache://127.0.0.1:{port}?serde=bytes&compress_over=1000&timeout=60"
    client = DeferredClient.from_url(reactor, url)
    if what == "put":
        await client.put_many({key: base64.b64decode(each) for key, each in given.items()})
    else:
        found = await client.get_many(given)
        print(json.dumps({key: base64.b64encode(each).decode() for key, each in found.items()}))
    await client.close()


if __name__ == "__main__":
    react(lambda reactor, *arguments: ensureDeferred(run(reactor, *arguments)), sys.argv[1:])
