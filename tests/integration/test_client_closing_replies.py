"""Requests that are refused for their size, and what is sent after them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tagcache.client import AsyncClient, Client
from tagcache.errors import Refused
from tests.integration.running import RunningServer

LARGE = "x" * 3_000_000


@pytest.fixture
def client_of(server: RunningServer) -> Callable[[], Client]:
    return lambda: Client(port=server.port, timeout=60.0)


def test_a_command_after_a_value_that_was_too_large(client_of: Callable[[], Client]) -> None:
    with client_of() as client:
        client.put("n", 1)
        for number in range(3):
            with pytest.raises(Refused, match="value_too_large"):
                client.put("k", LARGE)
            assert client.increment("n") == number + 2


def test_the_rest_of_a_pipeline(client_of: Callable[[], Client]) -> None:
    with client_of() as client:
        pipe = client.pipeline()
        pending = [pipe.put("a", 1), pipe.put("b", LARGE), pipe.increment("a"), pipe.get("a")]
        pending.append(pipe.put("c", LARGE))
        with pytest.raises(Refused, match="value_too_large"):
            pipe.execute()
        assert [each.result() for each in (pending[0], pending[2], pending[3])] == [True, 2, 2]
        for refused in (pending[1], pending[4]):
            with pytest.raises(Refused, match="value_too_large"):
                refused.result()
        assert client.increment("a") == 3


def test_a_connection_that_the_server_closes_is_not_used_again(
    client_of: Callable[[], Client],
) -> None:
    with client_of() as client:
        client.put("n", 1)
        for number in range(3):
            with pytest.raises(Refused, match="Protocol error: invalid bulk length"):
                client.put("k", "x" * 17_000_000)
            # The client does not repeat it if the connection is closed.
            assert client.increment("n") == number + 2


def test_in_asyncio(server: RunningServer) -> None:
    async def run() -> None:
        async with AsyncClient(port=server.port, timeout=60.0) as client:
            pipe = client.pipeline()
            pending = [pipe.put("a", 1), pipe.put("b", LARGE), pipe.increment("a")]
            with pytest.raises(Refused, match="value_too_large"):
                await pipe.execute()
            assert pending[2].result() == 2
            for number in range(3):
                with pytest.raises(Refused, match="value_too_large"):
                    await client.put("k", LARGE)
                assert await client.increment("a") == number + 3

    asyncio.run(run())
