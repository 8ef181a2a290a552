"""Every kind of client, behind the same blocking calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from queue import Queue
from threading import Thread
from typing import Any

import pytest
import uvloop
from twisted.internet.defer import maybeDeferred
from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure

from tagcache.client import AsyncClient, AsyncShardedClient, Client, DeferredClient, ShardedClient
from tagcache.client.fake import FakeClient
from tests.integration.conftest import start
from tests.integration.running import RunningServer

__all__ = ["start"]

Make = Callable[..., Any]
KINDS = ("blocking", "asyncio", "uvloop", "twisted", "fake", "sharded", "asyncio sharded")


class Waiting:
    """Wraps a client whose methods return awaitables, and waits for them."""

    def __init__(self, client: Any, wait: Callable[[Callable[[], Any]], Any]) -> None:
        self.client = client
        self._wait = wait

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = self._wait(lambda: getattr(self.client, name)(*args, **kwargs))
            return Waiting(result, self._wait) if hasattr(result, "execute") else result

        return call

    def __len__(self) -> int:
        return len(self.client)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("contract")) as server:
        yield server
        assert "Traceback" not in server.text(), server.text()


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A second server, for sharded clients."""
    with RunningServer(tmp_path_factory.mktemp("second")) as server:
        yield server


class ReactorThread:
    """A separate reactor in a thread; the test waits for results from there."""

    def __init__(self) -> None:
        self.reactor = EPollReactor()
        self._thread = Thread(target=self.reactor.run, args=(False,), daemon=True)
        self._thread.start()

    def wait(self, call: Callable[[], Any]) -> Any:
        outcome: Queue[Any] = Queue()

        def begin() -> None:
            maybeDeferred(call).addBoth(outcome.put)

        self.reactor.callFromThread(begin)
        result = outcome.get(timeout=60)
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def stop(self) -> None:
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join()


@pytest.fixture(scope="session")
def reactor_thread() -> Iterator[ReactorThread]:
    thread = ReactorThread()
    yield thread
    thread.stop()


def runner_of(kind: str) -> asyncio.Runner:
    """Return a runner with the event loop that a kind of client is tested with."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop if kind == "uvloop" else None)


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, running: RunningServer) -> Iterator[Callable[..., Any]]:
    """Creates clients of one kind, of the same servers, which are empty at first."""
    made: list[Any] = []
    url = f"tagcache://127.0.0.1:{running.port}"
    with Client(port=running.port, timeout=60) as client:
        client.flush()
    nodes = [url]
    if "sharded" in request.param:
        second: RunningServer = request.getfixturevalue("second")
        nodes.append(f"tagcache://127.0.0.1:{second.port}")
        with Client(port=second.port, timeout=60) as client:
            client.flush()
    with runner_of(request.param) as runner:

        async def awaited(call: Callable[[], Any]) -> Any:
            result = call()
            return await result if hasattr(result, "__await__") else result

        def run(call: Callable[[], Any]) -> Any:
            return runner.run(awaited(call))

        def build(**changes: Any) -> Any:
            # A busy machine may take long to answer.
            changes = {"timeout": 30.0, **changes}
            match request.param:
                case "blocking":
                    client: Any = Client.from_url(url, **changes)
                case "fake":
                    client = FakeClient(**changes)
                case "sharded":
                    client = ShardedClient(nodes, **changes)
                case "asyncio" | "uvloop":
                    client = Waiting(AsyncClient.from_url(url, **changes), run)
                case "asyncio sharded":
                    client = Waiting(AsyncShardedClient(nodes, **changes), run)
                case "twisted":
                    thread: ReactorThread = request.getfixturevalue("reactor_thread")
                    deferred = DeferredClient.from_url(thread.reactor, url, **changes)
                    client = Waiting(deferred, thread.wait)
            made.append(client)
            return client

        yield build
        for client in made:
            client.close()


@pytest.fixture
def client(make: Make) -> Any:
    return make()
