"""A client that requests more than the server may buffer for it, and reads steadily."""

from __future__ import annotations

import tracemalloc

import pytest
from twisted.internet.defer import Deferred

from tagcache.client import AsyncClient, Client, DeferredClient
from tests.contract.conftest import ReactorThread, reactor_thread, runner_of
from tests.integration.running import RunningServer

__all__ = ["reactor_thread"]

KEYS = [f"key {number}" for number in range(100)]
SIZE = 1_000_000
# The time limit of each reply, for busy machines.
OPTIONS = {"serde": "bytes", "timeout": 60.0}


@pytest.fixture
def filled(server: RunningServer) -> RunningServer:
    with Client(port=server.port, **OPTIONS) as client:
        for key in KEYS:
            client.put(key, key.encode().ljust(SIZE, b"."))
    return server


def check(found: dict[str, bytes]) -> None:
    assert list(found) == KEYS
    for key, value in found.items():
        assert len(value) == SIZE
        assert value.startswith(key.encode() + b".")


def test_blocking(filled: RunningServer) -> None:
    with Client(port=filled.port, **OPTIONS) as client:
        tracemalloc.start()
        try:
            check(client.get_many(KEYS))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # The replies, the values, and little else.
        assert peak < 2.5 * SIZE * len(KEYS)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_asyncio(filled: RunningServer, kind: str) -> None:
    async def main() -> None:
        async with AsyncClient(port=filled.port, **OPTIONS) as client:
            check(await client.get_many(KEYS))

    with runner_of(kind) as runner:
        runner.run(main())


def test_twisted(filled: RunningServer, reactor_thread: ReactorThread) -> None:
    url = f"tagcache://127.0.0.1:{filled.port}"
    client = DeferredClient.from_url(reactor_thread.reactor, url, **OPTIONS)

    async def main() -> None:
        check(await client.get_many(KEYS))
        await client.close()

    reactor_thread.wait(lambda: Deferred.fromCoroutine(main()))
