"""A cluster of which one primary is dead: what it does not have goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.distributed.redis_server import RedisCluster, RedisServer
from tests.distributed.test_servers import UNAVAILABLE, healthy
from tests.integration.running import RunningServer, eventually

pytestmark = [pytest.mark.needs("redis-server", "redis-cli"), pytest.mark.slow]
Front = Callable[..., RunningServer]
KEYS = [b"k%d" % number for number in range(600)]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[RedisCluster]:
    """Three primaries with a replica each, which do not take over before they are allowed to."""
    coverage = ("--cluster-require-full-coverage", "no")
    started = RedisCluster(tmp_path / "cluster", *coverage, replicas=1)
    for node in started.nodes:
        node.cli("config", "set", "cluster-replica-no-failover", "yes")
    yield started
    started.stop()


def keys_of(node: RedisServer) -> set[bytes]:
    names = node.cli("--scan", "--pattern", "tagcache:v:*").split()
    return {name.rpartition(":")[2].encode() for name in names}


def is_primary(node: RedisServer) -> bool:
    return node.process.poll() is None and "role:master" in node.cli("info", "replication")


def let_take_over(nodes: RedisCluster, dead: RedisServer) -> None:
    """Wait until one of the replicas has taken over."""
    living = [node for node in nodes.nodes if node is not dead]
    for node in living:
        node.cli("config", "set", "cluster-replica-no-failover", "no")
    eventually(lambda: sum(map(is_primary, living)) == 3)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
# The first is the one that a client asks first for the others.
@pytest.mark.parametrize("which", [0, 1])
def test_healthy_partitions_go_on(
    which: int, how: signal.Signals, nodes: RedisCluster, front: Front
) -> None:
    dead = nodes.nodes[which]
    ours = front(nodes.url, {"timeout_ms": 1000})
    with ours.connect() as client, ours.connect() as other:
        for key in KEYS:
            assert client.ask(b"PUT\t%b\t-\tt\tv" % key) == b"OK\n"
        gone = keys_of(dead)
        rest = [key for key in KEYS if key not in gone]
        assert gone
        assert rest
        dead.process.send_signal(how)
        try:
            # Somebody asks for what is gone, all the time.
            other.send(b"".join(b"GET\t%b\n" % key for key in gone))
            found = [client.ask(b"GET\t" + key) for key in rest for _ in range(2)]
            assert set(found) == {b"VALUE\tv\n"}
            assert {other.line() for _ in gone} == {UNAVAILABLE}
            # In one pipeline, too.
            client.send(b"".join(b"GET\t%b\n" % key for key in KEYS))
            for key in KEYS:
                assert client.line() == (UNAVAILABLE if key in gone else b"VALUE\tv\n")
            for key in rest:
                assert client.ask(b"PUT\t%b\t-\tt\tw" % key) == b"OK\n"
            eventually(lambda: not healthy(ours))
            let_take_over(nodes, dead)
            eventually(lambda: UNAVAILABLE not in {client.ask(b"GET\t" + key) for key in KEYS})
            eventually(lambda: healthy(ours))
            assert client.ask(b"INV_TAG\tt").startswith(b"INV_TAG\t")
        finally:
            dead.process.send_signal(signal.SIGCONT)
