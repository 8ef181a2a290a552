"""One client in several event loops, one after the other."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings

from tagcache.client import AsyncClient
from tests.integration.running import RunningServer, eventually


def test_connections_of_loops_that_have_ended_are_not_kept(server: RunningServer) -> None:
    client = AsyncClient(port=server.port, timeout=60.0)

    async def last() -> None:
        async with client:
            await client.ping()

    with warnings.catch_warnings():
        # As for any transport, there is a warning that the client was not closed in those loops.
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(10):
            assert asyncio.run(client.put("k", 1))
            assert len(client._pools._by_loop) == 1
        asyncio.run(last())
        gc.collect()
    with server.connect() as plain:
        eventually(lambda: len(json.loads(plain.ask(b"CLIENTS").split(b"\t", 1)[1])) == 1)
