"""The pool among threads, after forks, and among event loops and cancelled tasks."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tagcache.client import AsyncClient, Client
from tagcache.errors import ConnectionFailed, PoolExhausted
from tests.contract.scripted import ScriptedServer, silent
from tests.integration.running import RunningServer, eventually


def test_threads_share_a_bounded_pool(running: RunningServer) -> None:
    with Client(port=running.port, pool_size=3, pool_timeout=30, timeout=30) as client:
        client.flush()

        def work(number: int) -> None:
            for turn in range(50):
                client.put(f"{number}", [number, turn])
                assert client.get(f"{number}") == [number, turn]
                client.increment("all")

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(work, range(16)))
        assert client.get("all") == 16 * 50
        assert client._pool.open <= 3


def test_the_last_one_given_back_is_taken_first(running: RunningServer) -> None:
    with Client(port=running.port) as client:
        pool = client._pool
        first, _ = pool.take()
        second, _ = pool.take()
        pool.give_back(first)
        pool.give_back(second)
        assert pool.take() == (second, True)
        pool.give_back(second)


def test_who_waits_gets_the_next_one(running: RunningServer) -> None:
    with Client(port=running.port, pool_size=1, pool_timeout=30) as client:
        connection, _ = client._pool.take()
        found: list[bool] = []
        waiting = threading.Thread(target=lambda: found.append(client.ping()))
        waiting.start()
        eventually(lambda: client._pool._waiting == 1)
        assert not found
        client._pool.give_back(connection)
        waiting.join(60)
        assert found == [True]


def test_who_waits_gets_the_place_of_a_broken_one(running: RunningServer) -> None:
    with Client(port=running.port, pool_size=1, pool_timeout=30) as client:
        connection, _ = client._pool.take()
        found: list[bool] = []
        waiting = threading.Thread(target=lambda: found.append(client.ping()))
        waiting.start()
        eventually(lambda: client._pool._waiting == 1)
        client._pool.discard(connection)
        waiting.join(60)
        assert found == [True]


def test_waiting_has_an_end(running: RunningServer) -> None:
    with Client(port=running.port, pool_size=1, pool_timeout=0.05) as client:
        connection, _ = client._pool.take()
        begin = time.monotonic()
        with pytest.raises(PoolExhausted, match=r"all 1 connections are in use, for 0\.05 s"):
            client.ping()
        assert time.monotonic() - begin >= 0.05
        client._pool.give_back(connection)
        assert client.ping()


def test_who_waits_learns_that_it_is_closed(running: RunningServer) -> None:
    client = Client(port=running.port, pool_size=1, pool_timeout=30)
    connection, _ = client._pool.take()
    found: list[BaseException] = []

    def ping() -> None:
        try:
            client.ping()
        except ConnectionFailed as error:
            found.append(error)

    waiting = threading.Thread(target=ping)
    waiting.start()
    eventually(lambda: client._pool._waiting == 1)
    client.close()
    waiting.join(60)
    assert "closed" in str(found[0])
    client._pool.give_back(connection)
    assert client._pool.open == 0


def in_a_child(check: str, client: Client) -> int:
    """Fork, evaluate ``check`` there, and return how the child ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if eval(check, {"client": client}) else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_process_has_connections_of_its_own(running: RunningServer) -> None:
    with Client(port=running.port) as client:
        client.put("key", "parent")
        mine = client._pool._idle[-1]._sock.getsockname()
        assert in_a_child("client._pool.open == 0 and client.get('key') == 'parent'", client) == 0
        assert (
            in_a_child(
                f"client.ping() and {mine} not in [c._sock.getsockname() "
                "for c in client._pool._idle]",
                client,
            )
            == 0
        )
        # The parent's still works, and is the same.
        assert client.get("key") == "parent"
        assert client._pool._idle[-1]._sock.getsockname() == mine
        # One that a thread of the parent was using at the time of the fork.
        connection, _ = client._pool.take()
        assert in_a_child("client.ping()", client) == 0
        client._pool.give_back(connection)
        assert client.get("key") == "parent"


def test_each_event_loop_has_connections_of_its_own(running: RunningServer) -> None:
    client = AsyncClient(port=running.port)

    async def use(number: int) -> int:
        await client.put("key", number)
        value: int = await client.get("key")
        assert client._pool_here().open == 1
        client._pool_here().close()
        await asyncio.sleep(0)
        return value

    assert [asyncio.run(use(number)) for number in range(3)] == [0, 1, 2]
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: asyncio.run(use(3))).result() == 3


def test_a_cancelled_task_leaves_no_answer_behind(running: RunningServer) -> None:
    async def main() -> None:
        async with AsyncClient(port=running.port, pool_size=1, timeout=20) as client:
            await client.put_many({"a": "of a", "b": "of b"})
            for _ in range(50):
                task = asyncio.ensure_future(client.get("a"))
                for _ in range(2):
                    await asyncio.sleep(0)
                task.cancel()
                assert await client.get("b") == "of b"
                # It may have been quicker than that.
                with suppress(asyncio.CancelledError):
                    assert await task == "of a"
            assert client._pool_here().open == 1

    asyncio.run(main())


def test_a_cancelled_task_passes_its_turn_on() -> None:
    async def main(port: int) -> None:
        client = AsyncClient(port=port, pool_size=1, pool_timeout=20, timeout=20)
        pool = client._pool_here()
        held, _ = await pool.take()
        waiting = [asyncio.ensure_future(pool.take()) for _ in range(2)]
        await asyncio.sleep(0)
        pool.give_back(held)
        waiting[0].cancel()
        connection, used = await waiting[1]
        assert (connection, used) == (held, True)
        pool.give_back(connection)
        await client.close()

    with ScriptedServer(silent) as server:
        asyncio.run(main(server.port))


def test_many_tasks_share_a_bounded_pool(running: RunningServer) -> None:
    async def main() -> None:
        async with AsyncClient(port=running.port, pool_size=3, pool_timeout=20) as client:
            await client.flush()
            sums = await asyncio.gather(*(client.increment("n") for _ in range(300)))
            assert sorted(sums) == list(range(1, 301))
            assert client._pool_here().open <= 3

    asyncio.run(main())
