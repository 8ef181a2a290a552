"""Keys over several servers, one of which goes down and comes back."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tagcache.client import AsyncShardedClient, Client, ShardedClient
from tagcache.client.nodes import Node, Ring
from tagcache.errors import BadArgument, ConnectionFailed, PoolExhausted, Unavailable
from tests.contract.conftest import Waiting
from tests.contract.scripted import ScriptedServer
from tests.integration.running import RunningServer, eventually

Start = Callable[..., RunningServer]


def ring(*names: str) -> Ring[Client]:
    return Ring([Node(Client.from_url(f"tagcache://{name}"), lambda: 0.0) for name in names])


def test_keys_are_spread_evenly_and_only_few_move() -> None:
    names = ["a", "b", "c", "d"]
    keys = [b"key:%d" % number for number in range(4000)]
    before = {key: ring(*names).node_of(key).name for key in keys[:1]}
    four, five = ring(*names), ring(*names, "e")
    before = {key: four.node_of(key).name for key in keys}
    after = {key: five.node_of(key).name for key in keys}
    assert all(800 < count < 1200 for count in Counter(before.values()).values())
    moved = [key for key in keys if before[key] != after[key]]
    assert all(after[key] == "e:1984" for key in moved)
    assert 600 < len(moved) < 1000
    # The order of the nodes does not matter.
    assert {key: ring(*reversed(names)).node_of(key).name for key in keys[:100]} == {
        key: before[key] for key in keys[:100]
    }


def test_invalid_nodes() -> None:
    with pytest.raises(BadArgument, match="no nodes"):
        ShardedClient([])
    with pytest.raises(BadArgument, match="twice"):
        ShardedClient(["tagcache://a", "tagcache://a:1984"])


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest, clock: Time) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []
    with asyncio.Runner() as runner:

        async def awaited(call: Callable[[], Any]) -> Any:
            result = call()
            return await result if hasattr(result, "__await__") else result

        def build(*ports: int, **more: Any) -> Any:
            nodes = [f"tagcache://127.0.0.1:{port}?timeout=60" for port in ports]
            if request.param == "blocking":
                client: Any = ShardedClient(nodes, monotonic=clock, **more)
            else:
                inner = AsyncShardedClient(nodes, monotonic=clock, **more)
                client = Waiting(inner, lambda call: runner.run(awaited(call)))
            made.append(client)
            return client

        yield build
        for client in made:
            client.close()


def down(client: Any) -> list[str]:
    found: list[str] = client.client.down if isinstance(client, Waiting) else client.down
    return found


def test_a_node_goes_down_and_comes_back(
    connect: Callable[..., Any], start: Start, clock: Time
) -> None:
    told: list[Unavailable] = []
    first, second = start(), start()
    client = connect(first.port, second.port, on_error=told.append)
    values = {f"key {n}": n for n in range(100)}
    client.put_many(values, tags=["t"])
    with Client(port=second.port, timeout=60) as alone:
        theirs = set(alone.keys_by_tag("t"))
    assert 20 < len(theirs) < 80
    port = second.port
    second.stop()
    # Its keys are misses, and everything else works.
    left = {key: number for key, number in values.items() if key not in theirs}
    assert client.get_many(values) == left
    assert down(client) == [f"127.0.0.1:{port}"]
    assert len(told) == 1
    some = min(theirs)
    assert client.put(some, "dropped") is False
    assert client.get(some) is None
    assert client.increment(some) == 1
    assert client.stats().puts >= len(left)
    assert client.invalidate_tag("t") == len(left)
    assert client.ping() is True
    assert len(told) == 1
    # It comes back with an entry that an invalidation should have removed.
    again = start({"server": {"tcp_port": port}})
    with Client(port=again.port, timeout=60) as alone:
        alone.put(some, "stale", tags=["t"])
    assert client.get(some) is None, "it is not tried before the pause has passed"
    clock.now += 1
    assert client.get(some) is None
    assert down(client) == []
    client.put(some, "new")
    assert client.get(some) == "new"
    assert len(told) == 1


def test_without_a_flush_its_entries_are_used_again(
    connect: Callable[..., Any], start: Start, clock: Time
) -> None:
    server = start()
    client = connect(server.port, flush_on_return=False)
    port = server.port
    server.stop()
    assert client.get("key") is None
    again = start({"server": {"tcp_port": port}})
    with Client(port=again.port, timeout=60) as alone:
        alone.put("key", "kept")
    clock.now += 1
    assert client.get("key") == "kept"


def test_pauses_between_attempts_grow(
    connect: Callable[..., Any], start: Start, clock: Time
) -> None:
    told: list[Unavailable] = []
    server = start()
    client = connect(server.port, on_error=told.append)
    server.stop()
    tries = []
    for _ in range(4000):
        before = len(told)
        client.get("key")
        if len(told) > before:
            tries.append(clock.now)
        clock.now += 0.05
    pauses = [b - a for a, b in itertools.pairwise(tries)]
    assert pauses[:4] == pytest.approx([0.5, 1.0, 2.0, 4.0], abs=0.06)
    assert max(pauses) == pytest.approx(30, abs=0.06)
    with pytest.raises(ConnectionFailed, match="no node answers"):
        client.ping()


def test_tags_are_invalidated_on_all_nodes(connect: Callable[..., Any], start: Start) -> None:
    first, second = start(), start()
    client = connect(first.port, second.port)
    client.put_many({f"{n}": n for n in range(50)}, tags=["t"])
    assert sorted(client.search(["t"])) == sorted(f"{n}" for n in range(50))
    assert client.invalidate_tags(["t", "u"]) == 50
    client.put_many({f"{n}": n for n in range(50)})
    assert client.invalidate_keys([f"{n}" for n in range(25)]) == 25
    assert len(client.clients()) == 2
    assert client.flush() == 25
    with pytest.raises(BadArgument, match="one node"):
        client.info()
    eventually(lambda: client.ping())


def test_some_options_cannot_differ_between_nodes() -> None:
    for url in (
        "tagcache://a?key_prefix=x",
        "tagcache://a?serde=text",
        "tagcache://a?ignore_exc=1",
    ):
        with pytest.raises(BadArgument, match="is given for all nodes, not for a:1984"):
            ShardedClient([url])
    ShardedClient(["tagcache://a?pool_size=3"], key_prefix="x").close()


def test_a_node_that_cannot_be_flushed_is_not_used(
    connect: Callable[..., Any], clock: Time
) -> None:
    def stale(sock: socket.socket) -> None:
        # Answers everything but TAG.FLUSH.
        while data := sock.recv(65536):
            if b"TAG.FLUSH" in data:
                return
            sock.sendall(b'$7\r\n"stale"\r\n')

    told: list[Unavailable] = []
    with ScriptedServer(lambda sock: None, stale) as server:
        client = connect(server.port, ignore_exc=True, on_error=told.append)
        assert client.get("key") is None
        clock.now += 1
        assert client.get("key") is None
        assert len(down(client)) == 1
        assert len(told) == 2


def test_an_invalidation_that_found_no_free_connection_is_not_lost(
    start: Start, clock: Time
) -> None:
    server = start()
    node = f"tagcache://127.0.0.1:{server.port}?pool_size=1&pool_timeout=0&timeout=60"
    with ShardedClient([node], monotonic=clock) as client:
        (alone,) = client.nodes.values()
        client.put("key", "old", tags=["t"])
        connection, _ = alone._pool.take()
        with pytest.raises(PoolExhausted):
            client.invalidate_tag("t")
        alone._pool.give_back(connection)
    with ShardedClient([node], monotonic=clock, ignore_exc=True) as client:
        (alone,) = client.nodes.values()
        connection, _ = alone._pool.take()
        assert client.get("key") is None
        assert client.down == []
        assert client.invalidate_tag("t") == 0
        alone._pool.give_back(connection)
        clock.now += 1
        assert client.get("key") is None, "it was flushed"
