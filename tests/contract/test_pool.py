"""The pool among threads, after forks, and among event loops and cancelled tasks."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random

import pytest
from twisted.internet.defer import Deferred, gatherResults

from tagcache.client import AsyncClient, Client, DeferredClient, Options
from tagcache.errors import CircuitOpen, ConnectionFailed, PoolExhausted, TimedOut
from tests.contract.conftest import ReactorThread, runner_of
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


def test_the_last_connection_given_back_is_taken_first(running: RunningServer) -> None:
    with Client(port=running.port, timeout=60) as client:
        pool = client._pool
        first, _ = pool.take()
        second, _ = pool.take()
        pool.give_back(first)
        pool.give_back(second)
        assert pool.take() == (second, True)
        pool.give_back(second)


def test_a_waiting_caller_gets_the_next_connection(running: RunningServer) -> None:
    with Client(port=running.port, pool_size=1, pool_timeout=30, timeout=60) as client:
        connection, _ = client._pool.take()
        found: list[bool] = []
        waiting = threading.Thread(target=lambda: found.append(client.ping()))
        waiting.start()
        eventually(lambda: client._pool._waiting == 1)
        assert not found
        client._pool.give_back(connection)
        waiting.join(60)
        assert found == [True]


def test_a_waiting_caller_gets_the_place_of_a_broken_connection(running: RunningServer) -> None:
    with Client(port=running.port, pool_size=1, pool_timeout=30, timeout=60) as client:
        connection, _ = client._pool.take()
        found: list[bool] = []
        waiting = threading.Thread(target=lambda: found.append(client.ping()))
        waiting.start()
        eventually(lambda: client._pool._waiting == 1)
        client._pool.discard(connection)
        waiting.join(60)
        assert found == [True]


def test_waiting_ends_after_pool_timeout(running: RunningServer) -> None:
    with Client(port=running.port, pool_size=1, pool_timeout=0.05, timeout=60) as client:
        connection, _ = client._pool.take()
        begin = time.monotonic()
        with pytest.raises(PoolExhausted, match=r"all 1 connections were in use for 0\.05 s"):
            client.ping()
        assert time.monotonic() - begin >= 0.05
        client._pool.give_back(connection)
        assert client.ping()


def test_closing_ends_the_waiting(running: RunningServer) -> None:
    client = Client(port=running.port, pool_size=1, pool_timeout=30, timeout=60)
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


def test_callers_wait_in_order(running: RunningServer) -> None:
    with Client(port=running.port, pool_size=1, pool_timeout=30, timeout=60) as client:
        pool = client._pool
        connection, _ = pool.take()
        served: list[int] = []

        def wait(number: int) -> None:
            taken, _ = pool.take()
            served.append(number)
            pool.give_back(taken)

        threads = [threading.Thread(target=wait, args=(number,)) for number in range(20)]
        for number, thread in enumerate(threads):
            thread.start()
            eventually(lambda number=number: pool._waiting == number + 1)
        pool.give_back(connection)
        for thread in threads:
            thread.join(60)
        assert served == list(range(20))
        assert pool._waiting == 0


def test_waiting_ends_when_the_server_fails() -> None:
    with (
        ScriptedServer(silent) as server,
        Client(
            port=server.port, pool_size=1, pool_timeout=600, timeout=0.2, breaker_seconds=600
        ) as client,
        ThreadPoolExecutor(10) as threads,
    ):
        errors = [each.exception() for each in [threads.submit(client.ping) for _ in range(10)]]
        assert {type(error) for error in errors} == {TimedOut, CircuitOpen}
        assert server.connections == 1


class Interrupted(Exception):
    """Raised by a signal handler, as a time limit does."""


class Interruptions:
    """Raises an exception from a signal handler, at a random moment."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.count = 0

    def __enter__(self) -> Interruptions:
        self._before = signal.signal(signal.SIGALRM, self._interrupt)
        return self

    def __exit__(self, *details: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    def _interrupt(self, number: int, frame: object) -> None:
        self.count += 1
        raise Interrupted

    def during(self, work: Callable[[], None]) -> None:
        """Repeat the work until it is interrupted."""
        before = self.count
        # Check the count: the interpreter drops an exception that is raised in a finalizer.
        with suppress(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, self._random.uniform(1e-5, 5e-4))
            while self.count == before:
                work()


def interrupting(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that uses Interruptions, as pytest's own timeout uses the same timer."""
    for mark in (
        pytest.mark.timeout(600, method="thread"),
        pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
        pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    ):
        test = mark(test)
    return test


@interrupting
def test_interruptions_lose_no_connection(running: RunningServer) -> None:
    size, rounds = 3, 3000
    with Client(
        port=running.port, pool_size=size, pool_timeout=20.0, timeout=20.0, breaker_seconds=0
    ) as client:
        values = {"a": "a", "b": "b", "c": "c"}
        client.put_many(values)

        def look_up() -> None:
            for name in values:
                assert client.get(name) == name
            assert client.get_many(values) == values

        with Interruptions(7) as interruptions:
            for _ in range(rounds):
                interruptions.during(look_up)
            assert interruptions.count == rounds
        gc.collect()
        pool = client._pool
        taken = [pool.take()[0] for _ in range(size)]
        assert pool.open == size
        for connection in taken:
            pool.give_back(connection)
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(client.get, "abc" * 100)) == list("abc" * 100)


@interrupting
def test_interruptions_among_threads(running: RunningServer) -> None:
    """The main thread, which gets the signals, waits for connections that others use."""
    over = threading.Event()
    with (
        Client(
            port=running.port, pool_size=2, pool_timeout=20.0, timeout=20.0, breaker_seconds=0
        ) as client,
        ThreadPoolExecutor(4) as threads,
        Interruptions(8) as interruptions,
    ):
        client.put("a", "a")

        def look_up() -> None:
            assert client.get("a") == "a"

        def work() -> int:
            turns = 0
            while not over.is_set():
                look_up()
                turns += 1
            return turns

        others = [threads.submit(work) for _ in range(4)]
        try:
            for _ in range(500):
                interruptions.during(look_up)
        finally:
            over.set()
        assert all(each.result(60) > 0 for each in others)
        assert client._pool._waiting == 0
        look_up()


def in_a_child(check: str, client: Client) -> int:
    """Fork, evaluate ``check`` in the child, and return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if eval(check, {"client": client, "ConnectionFailed": ConnectionFailed}) else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_process_has_separate_connections(running: RunningServer) -> None:
    with Client(port=running.port, timeout=60) as client:
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
        # The parent's connection is the same, and still works.
        assert client.get("key") == "parent"
        assert client._pool._idle[-1]._sock.getsockname() == mine
        # A connection that is in use at the time of the fork.
        connection, _ = client._pool.take()
        assert in_a_child("client.ping()", client) == 0
        client._pool.give_back(connection)
        assert client.get("key") == "parent"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_locks_that_are_held_during_a_fork_do_not_block_the_child(running: RunningServer) -> None:
    with Client(port=running.port, timeout=60) as client:
        held, over = threading.Event(), threading.Event()

        def hold() -> None:
            with client._breaker._lock, client._pool._lock:
                held.set()
                over.wait()

        holding = threading.Thread(target=hold)
        holding.start()
        held.wait()
        check = "client._breaker.failed(ConnectionFailed('x')) or client.state.value == 'open'"
        assert in_a_child(check, client) == 0
        assert in_a_child("client.ping()", client) == 0
        over.set()
        holding.join()


def test_each_event_loop_has_separate_connections(running: RunningServer) -> None:
    client = AsyncClient(port=running.port, timeout=60)

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


def test_a_cancelled_task_leaves_no_reply_behind(running: RunningServer) -> None:
    async def main() -> None:
        async with AsyncClient(port=running.port, pool_size=1, timeout=20) as client:
            await client.put_many({"a": "of a", "b": "of b"})
            for _ in range(50):
                task = asyncio.ensure_future(client.get("a"))
                for _ in range(2):
                    await asyncio.sleep(0)
                task.cancel()
                assert await client.get("b") == "of b"
                # It may have ended before it was cancelled.
                with suppress(asyncio.CancelledError):
                    assert await task == "of a"
            assert client._pool_here().open == 1

    asyncio.run(main())


def test_a_cancelled_task_passes_on_its_turn() -> None:
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


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_ten_thousand_tasks_are_served_in_order(running: RunningServer, kind: str) -> None:
    async def main() -> None:
        served: list[int] = []
        async with AsyncClient(port=running.port, pool_timeout=100, timeout=100) as client:
            await client.put("key", 5)

            async def get(number: int) -> None:
                assert await client.get("key") == 5
                served.append(number)

            await asyncio.gather(*map(get, range(10_000)))
            size = client.options.pool_size
            # Replies over concurrent connections may overtake each other.
            assert all(abs(place - number) < 4 * size for place, number in enumerate(served))
            assert client._pool_here().open == size

    with runner_of(kind) as runner:
        runner.run(main())


def test_deferreds_are_served_in_order(
    running: RunningServer, reactor_thread: ReactorThread
) -> None:
    url = f"tagcache://127.0.0.1:{running.port}?pool_timeout=100&timeout=100&pool_size=1"
    client = DeferredClient.from_url(reactor_thread.reactor, url)
    served: list[int] = []

    def all_at_once() -> Deferred[list[None]]:
        getting = [client.get("key") for _ in range(3000)]
        for number, each in enumerate(getting):
            each.addCallback(lambda value, number=number: served.append(number))
        return gatherResults(getting)

    reactor_thread.wait(client.ping)
    reactor_thread.wait(all_at_once)
    assert served == list(range(3000))
    reactor_thread.wait(client.close)


def test_waiting_tasks_fail_when_the_server_fails() -> None:
    async def main(port: int) -> None:
        async with AsyncClient(port=port, timeout=0.2, breaker_seconds=600) as client:
            outcomes = await asyncio.gather(
                *(client.get("key") for _ in range(2000)), return_exceptions=True
            )
            assert {type(error) for error in outcomes} == {TimedOut, CircuitOpen}

    with ScriptedServer(silent) as server:
        asyncio.run(main(server.port))
        assert server.connections == Options().pool_size


def test_cancelled_tasks_do_not_delay_other_waiting_tasks(running: RunningServer) -> None:
    async def main() -> None:
        client = AsyncClient(port=running.port, pool_size=1, pool_timeout=20, timeout=60)
        pool = client._pool_here()
        held, _ = await pool.take()
        waiting = [asyncio.ensure_future(client.ping()) for _ in range(100)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        pool.give_back(held)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert outcomes[1::2] == [True] * 50
        assert all(isinstance(each, asyncio.CancelledError) for each in outcomes[::2])
        assert not pool._turns
        await client.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_cancelling_a_connect_closes_every_descriptor_once(
    running: RunningServer, kind: str
) -> None:
    async def main() -> None:
        async with AsyncClient(port=running.port, timeout=20) as other:
            await other.put("key", 5)
            for number in range(300):
                async with AsyncClient(port=running.port, timeout=60) as client:
                    task = asyncio.ensure_future(client.ping())
                    for _ in range(number % 10):
                        await asyncio.sleep(0)
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
                del task
                # These reuse the closed descriptors, and a second close would hit them.
                files = [socket.socket() for _ in range(4)]
                gc.collect(0)
                assert await other.get("key") == 5
                for each in files:
                    each.close()

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only counted
    with runner_of(kind) as runner:
        runner.run(main())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


def test_many_tasks_share_a_bounded_pool(running: RunningServer) -> None:
    async def main() -> None:
        async with AsyncClient(
            port=running.port, pool_size=3, pool_timeout=20, timeout=60
        ) as client:
            await client.flush()
            sums = await asyncio.gather(*(client.increment("n") for _ in range(300)))
            assert sorted(sums) == list(range(1, 301))
            assert client._pool_here().open <= 3

    asyncio.run(main())
