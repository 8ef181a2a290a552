"""A server that takes over, or comes back from an older state: nothing that is gone comes back."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.redis_server import (
    CLI,
    SERVER,
    RedisCluster,
    RedisServer,
    free_port,
)
from tests.distributed.test_dead_primary import keys_of, let_take_over
from tests.distributed.test_servers import UNAVAILABLE, healthy
from tests.integration.running import Client, RunningServer, eventually

pytestmark = [pytest.mark.needs("redis-server", "redis-cli"), pytest.mark.slow]
Redis = Callable[..., RedisServer]
Front = Callable[..., RunningServer]
KEYS = [b"k%d" % number for number in range(200)]


def put_all(client: Client) -> None:
    for key in KEYS:
        assert client.ask(b"PUT\t%b\t-\tt\told" % key) == b"OK\n"


def found(client: Client) -> int:
    """Return how many of the keys are found, when all can be looked up."""
    eventually(lambda: UNAVAILABLE not in {client.ask(b"GET\t" + key) for key in KEYS})
    return sum(client.ask(b"GET\t" + key) == b"VALUE\told\n" for key in KEYS)


def take(client: Client, number: int) -> bytes:
    word, _, token = client.ask(b"FETCH\tpage%d\t600000" % number).strip().partition(b"\t")
    assert word == b"LEASE"
    return token


@pytest.mark.parametrize("near", [0, 8])
def test_a_restart_from_an_older_state_begins_empty(near: int, redis: Redis, front: Front) -> None:
    server = redis()
    knobs = {"near_cache_mb": near}
    one, two = front(server.url, knobs), front(server.url, knobs)
    with one.connect() as slow, two.connect() as quick:
        put_all(quick)
        server.cli("save")
        # Leases from before an invalidation, whose number comes back with the older state.
        assert slow.ask(b"INV_TAG\tu") == b"INV_TAG\t0\n"
        tokens = [take(slow, number) for number in range(50)]
        assert quick.ask(b"INV_TAG\tt") == b"INV_TAG\t200\n"
        server.stop()
        server.start()
        assert found(quick) == 0
        assert found(slow) == 0
        for number, token in enumerate(tokens):
            fill = b"FILL\t%b\tpage%d\t-\tt\tstale" % (token, number)
            assert slow.ask(fill) == b"REFUSED\n"
            assert quick.ask(b"GET\tpage%d" % number) == b"NF\n"
        put_all(slow)
        assert found(quick) == 200
        assert quick.ask(b"INV_TAG\tt") == b"INV_TAG\t200\n"
        assert quick.json(b"INFO\tcheck")["check"]["faults"] == []
    # The one that met it first.
    told = "was restarted or has taken over"
    eventually(lambda: one.text().count(told) + two.text().count(told) == 1)
    # What was left is given back.
    eventually(lambda: int(server.cli("dbsize")) < 8)


def test_it_may_be_turned_off(redis: Redis, front: Front) -> None:
    server = redis()
    ours = front(server.url, {"flush_on_failover": "false"})
    with ours.connect() as client:
        put_all(client)
        server.cli("save")
        server.stop()
        server.start()
        assert found(client) == 200
        # Nobody knows how old it is, once it is turned on.
        said = ours.reload(engine={"flush_on_failover": "true"})
        assert "engine.flush_on_failover: False -> True" in said
        assert found(client) == 0


def test_servers_that_come_and_go_drop_nothing(redis: Redis, front: Front) -> None:
    server = redis()
    with front(server.url).connect() as client:
        put_all(client)
    with front(server.url).connect() as client:
        assert found(client) == 200


def test_a_first_replica_that_comes_changes_nothing(redis: Redis, front: Front) -> None:
    """The replication ID of its primary changes then."""
    primary = redis()
    with front(primary.url).connect() as client:
        put_all(client)
        replica = redis("--replicaof", f"127.0.0.1 {primary.port}")
        eventually(lambda: "master_link_status:up" in replica.cli("info", "replication"))
        assert found(client) == 200
    with front(primary.url).connect() as client:
        assert found(client) == 200


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[RedisCluster]:
    coverage = ("--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0")
    started = RedisCluster(tmp_path / "cluster", *coverage, replicas=1)
    for node in started.nodes:
        node.cli("config", "set", "cluster-replica-no-failover", "yes")
    yield started
    started.stop()


def replica_of(nodes: RedisCluster, primary: RedisServer) -> RedisServer:
    port = f"master_port:{primary.port}"
    return next(node for node in nodes.nodes if port in node.cli("info", "replication"))


def test_a_replica_that_lags_begins_empty(nodes: RedisCluster, front: Front) -> None:
    one, two = front(nodes.url), front(nodes.url)
    dead = nodes.nodes[0]
    with one.connect() as client, two.connect() as other:
        put_all(client)
        lost = keys_of(dead)
        assert lost
        replica = replica_of(nodes, dead)
        eventually(lambda: keys_of(replica) == lost)
        # From here on it hears of nothing.
        replica.process.send_signal(signal.SIGSTOP)
        dead.cli("client", "kill", "type", "replica")
        assert client.ask(b"INV_TAG\tt") == b"INV_TAG\t200\n"
        dead.stop()
        replica.process.send_signal(signal.SIGCONT)
        let_take_over(nodes, dead)
        assert keys_of(replica) == lost
        assert found(client) == 0
        assert found(other) == 0
        put_all(client)
        assert found(other) == 200
    eventually(lambda: healthy(one))


@pytest.fixture
def sentinel(redis: Redis, tmp_path: Path) -> Iterator[Callable[[RedisServer], int]]:
    """Start a Sentinel for a primary, whose service is ``ours``; returns its port."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one(primary: RedisServer) -> int:
        port = free_port()
        path = tmp_path / "sentinel.conf"
        path.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
            f"sentinel monitor ours 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds ours 500\nsentinel failover-timeout ours 2000\n"
        )
        command = [SERVER, str(path), "--sentinel"]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        return port

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def test_sentinels_name_the_primary(
    redis: Redis, front: Front, sentinel: Callable[[RedisServer], int]
) -> None:
    primary = redis()
    replica = redis("--replicaof", f"127.0.0.1 {primary.port}", "--repl-diskless-sync-delay", "0")
    eventually(lambda: "master_link_status:up" in replica.cli("info", "replication"))
    port = sentinel(primary)
    # The first one is away.
    ours = front(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/ours/0")
    eventually(lambda: healthy(ours))
    with ours.connect() as client:
        put_all(client)
        assert found(client) == 200
        known = [CLI, "-p", str(port), "info", "sentinel"]
        eventually(lambda: b"slaves=1" in subprocess.check_output(known))
        primary.stop()
        eventually(lambda: "role:master" in replica.cli("info", "replication"))
        assert found(client) == 0
        put_all(client)
        assert client.ask(b"INV_TAG\tt") == b"INV_TAG\t200\n"
        eventually(lambda: healthy(ours))
        told: Any = client.json(b"INFO")["engine"]
        assert told["servers"][0]["address"] == f"127.0.0.1:{replica.port}"
    wrong = front(f"redis+sentinel://127.0.0.1:{port}/others")
    assert wrong.ask(b"GET\tk") == UNAVAILABLE
    wrong.wait_for_log("no Sentinel names a primary")


def test_changes_wait_for_replicas(redis: Redis, front: Front) -> None:
    primary = redis()
    ours = front(primary.url, {"wait_replicas": 1, "wait_ms": 200})
    with ours.connect() as client:
        for request in (b"PUT\tk\t-\tt\tv", b"INV_TAG\tt", b"DEL\tk", b"FLUSH", b"INCR\tn"):
            assert client.ask(request) == UNAVAILABLE
        # It was carried out, and look-ups do not wait.
        assert client.ask(b"GET\tn") == b"VALUE\t1\n"
        eventually(lambda: "0 of 1 replicas have confirmed" in ours.text())
        redis("--replicaof", f"127.0.0.1 {primary.port}", "--repl-diskless-sync-delay", "0")
        eventually(lambda: client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n")
        assert client.ask(b"INV_TAG\tt") == b"INV_TAG\t1\n"
