"""Slots of a cluster that move from node to node while clients go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from tests.distributed.redis_server import RedisCluster, RedisServer
from tests.distributed.test_operational_errors import slots_of
from tests.distributed.test_servers import UNAVAILABLE, healthy
from tests.integration.running import TIMEOUT, Client, RunningServer, eventually

pytestmark = [pytest.mark.needs("redis-server", "redis-cli"), pytest.mark.slow]
Front = Callable[..., RunningServer]
ENTRIES = 60_000
TAGS = 50
HOT = 200


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[RedisCluster]:
    started = RedisCluster(tmp_path / "cluster")
    yield started
    started.stop()


class Load:
    """Two clients: one invalidates at one server, one looks up and fills at another.

    A look-up must not find what was computed before an invalidation that was answered before it
    began. ``refused`` counts the commands that were answered with backend_unavailable.
    """

    def __init__(self, one: RunningServer, two: RunningServer) -> None:
        self.faults: list[str] = []
        self.hits = self.refused = 0
        self._truth = [0] * HOT
        self._settled = [0] * HOT
        self._over = threading.Event()
        work = (self._write, one), (self._read, two)
        self._threads = [threading.Thread(target=run, args=(where,)) for run, where in work]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def _ask(self, client: Client, request: bytes) -> bytes:
        reply = client.ask(request)
        self.refused += reply == UNAVAILABLE
        return reply

    def _write(self, where: RunningServer) -> None:
        with where.connect() as client:
            for number in cycle(range(HOT)):
                if self._over.is_set():
                    break
                self._truth[number] += 1
                if self._ask(client, b"INV_TAG\thot%d" % number) != UNAVAILABLE:
                    self._settled[number] = self._truth[number]

    def _read(self, where: RunningServer) -> None:
        with where.connect() as client:
            # Twice each: in the next round, it has been invalidated again.
            for number in (n for n in cycle(range(HOT)) for _ in range(2)):
                if self._over.is_set():
                    break
                key, at_least = b"hot%d" % number, self._settled[number]
                # A lease that cannot be used, because its partition has moved, ends soon.
                word, _, rest = self._ask(client, b"FETCH\t%b\t1000" % key).partition(b"\t")
                if word == b"LEASE":
                    value = b"%d" % self._truth[number]
                    self._ask(client, b"FILL\t%b\t%b\t-\t%b\t%b" % (rest[:-1], key, key, value))
                elif word == b"HIT":
                    self.hits += 1
                    if int(rest) < at_least:
                        self.faults.append(f"{key!r}: {rest!r}, settled {at_least}")


def fill(where: RunningServer) -> None:
    with where.connect() as client:
        for start in range(0, ENTRIES, 1000):
            numbers = range(start, start + 1000)
            client.send(b"".join(b"PUT\te%d\t-\tg%d\t%d\n" % (n, n % TAGS, n) for n in numbers))
            assert [client.line() for _ in numbers] == [b"OK\n"] * 1000


def all_are_there(where: RunningServer) -> None:
    with where.connect() as client:
        for start in range(0, ENTRIES, 1000):
            numbers = range(start, start + 1000)
            client.send(b"".join(b"GET\te%d\n" % n for n in numbers))
            assert [client.line() for _ in numbers] == [b"VALUE\t%d\n" % n for n in numbers]


def is_whole(nodes: RedisCluster, place: str) -> bool:
    said = nodes.manage("check", place)
    agreed = "All nodes agree about slots configuration" in said
    return agreed and "All 16384 slots covered" in said and "[WARNING]" not in said


@pytest.mark.parametrize("options", [(), ("--cluster-replace",)], ids=["plain", "replace"])
def test_nothing_is_lost_or_comes_back(
    options: tuple[str, ...], nodes: RedisCluster, front: Front
) -> None:
    one, two = front(nodes.url), front(nodes.url)
    places = [f"127.0.0.1:{node.port}" for node in nodes.nodes]
    ids = [node.cli("cluster", "myid").strip() for node in nodes.nodes]
    fill(one)
    with one.connect() as client:
        gone = b"INV_TAG\t%d\n" % (ENTRIES // TAGS)
        assert client.ask(b"INV_TAG\tg7") == gone
        with Load(one, two) as load:
            from_to = ("--cluster-from", ids[0], "--cluster-to", ids[1])
            said = nodes.manage("reshard", places[0], *from_to, "--cluster-slots", "3000", *options)
            assert "Error" not in said, said[-1000:]
            eventually(lambda: load.hits > 0)
        assert load.faults == []
        # There was time enough for each move: everybody waited, and nobody was refused.
        assert load.refused == 0, two.text()[-2000:]
        assert is_whole(nodes, places[0])
        for front_ in (one, two):
            with front_.connect() as other:
                found = [other.ask(b"GET\te%d" % n) for n in range(7, ENTRIES, TAGS)]
            assert set(found) == {b"NF\n"}
        for number in range(7, ENTRIES, TAGS):
            assert client.ask(b"PUT\te%d\t-\tg7\t%d" % (number, number)) == b"OK\n"
        all_are_there(two)
        assert client.ask(b"INV_TAG\tg8") == gone
        assert client.json(b"INFO\tcheck")["check"]["faults"] == []


def test_a_slot_that_stays_open_is_unavailable_and_only_that(
    nodes: RedisCluster, front: Front
) -> None:
    ours = front(nodes.url, {"timeout_ms": 300})
    with ours.connect() as client:
        keys = [b"k%d" % number for number in range(300)]
        for key in keys:
            assert client.ask(b"PUT\t%b\t-\tt\tv" % key) == b"OK\n"
        slot = int(nodes.nodes[0].cli("cluster", "keyslot", "tagcache:{7}:"))
        at = next(
            n
            for n, node in enumerate(nodes.nodes)
            if node.cli("cluster", "countkeysinslot", str(slot)).strip() != "0"
        )
        source, target = nodes.nodes[at], nodes.nodes[at - 1]
        target.cli(
            "cluster", "setslot", str(slot), "importing", source.cli("cluster", "myid").strip()
        )
        source.cli(
            "cluster", "setslot", str(slot), "migrating", target.cli("cluster", "myid").strip()
        )
        refused = [key for key in keys if client.ask(b"GET\t" + key) == UNAVAILABLE]
        assert 0 < len(refused) < 20
        for key in refused:
            assert client.ask(b"PUT\t%b\t-\tt\tw" % key) == UNAVAILABLE
        assert client.ask(b"INV_TAG\tt") == UNAVAILABLE
        # Nothing was written to the other node.
        assert target.cli("cluster", "countkeysinslot", str(slot)).strip() == "0"
        eventually(lambda: "slot is being moved" in ours.text())
        for node in (source, target):
            node.cli("cluster", "setslot", str(slot), "stable")
        eventually(lambda: client.ask(b"INV_TAG\tt") != UNAVAILABLE)
        assert {client.ask(b"GET\t" + key) for key in keys} == {b"NF\n"}


def test_a_node_joins_and_leaves(nodes: RedisCluster, front: Front, tmp_path: Path) -> None:
    """As docs/distributed.md says it is done."""
    ours = front(nodes.url)
    fill(ours)
    place = f"127.0.0.1:{nodes.nodes[0].port}"
    fourth = RedisServer(tmp_path / "fourth", "--cluster-node-timeout", "60000", cluster=True)
    nodes.nodes.append(fourth)
    with Load(ours, ours) as load:
        nodes.manage("add-node", f"127.0.0.1:{fourth.port}", place)

        def has_joined() -> bool:
            told = [node.cli("cluster", "info") for node in nodes.nodes]
            known = all("cluster_known_nodes:4" in each for each in told)
            return known and all("cluster_state:ok" in each for each in told)

        eventually(has_joined)
        eventually(lambda: is_whole(nodes, place))
        said = nodes.manage("rebalance", place, "--cluster-use-empty-masters")
        assert int(fourth.cli("dbsize")) > 0, said
        name = fourth.cli("cluster", "myid").strip()
        eventually(lambda: is_whole(nodes, place))
        said = nodes.manage("rebalance", place, "--cluster-weight", f"{name}=0")
        # It may be a replica by now, which has copies of entries, and no slots.
        assert slots_of(fourth) == set(), said
        nodes.manage("del-node", place, name)
        eventually(lambda: is_whole(nodes, place))
        hits = load.hits
        eventually(lambda: load.hits > hits)
    assert (load.faults, load.refused) == ([], 0), ours.text()[-2000:]
    all_are_there(ours)
    eventually(lambda: healthy(ours))
