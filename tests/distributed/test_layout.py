"""The number of partitions is recorded in Redis, and a server with another one says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.distributed.redis_server import RedisCluster
from tests.distributed.test_servers import UNAVAILABLE, healthy, http
from tests.integration.running import RunningServer, eventually

pytestmark = [pytest.mark.needs("redis-server", "redis-cli"), pytest.mark.slow]


@pytest.fixture
def empty(cluster: RedisCluster) -> Iterator[RedisCluster]:
    for node in cluster.nodes:
        node.cli("flushall")
    yield cluster
    # Other tests use another number of partitions.
    for node in cluster.nodes:
        node.cli("flushall")


def cli(cluster: RedisCluster, *words: str) -> str:
    return cluster.nodes[0].cli("-c", *words)


def test_a_server_with_another_number_is_refused(
    empty: RedisCluster, front: Callable[..., RunningServer]
) -> None:
    four = front(empty.url, {"partitions": 4})
    with four.connect() as client:
        assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
        assert cli(empty, "get", "tagcache:{0}:layout") == "1:4\n"
        other = front(empty.url)
        why = "the data has 4 partitions, and engine.partitions is 16"
        other.wait_for_log(why)
        assert other.ask(b"GET\tk") == UNAVAILABLE
        assert other.ask(b"INV_TAG\tt") == UNAVAILABLE
        health = http(other, "GET", "/health")[1]
        assert (health["status"], health["detail"]) == ("degraded", why)
        assert client.ask(b"INV_TAG\tt") == b"INV_TAG\t1\n"
    four.stop()
    # The other one begins in an empty cluster.
    for node in empty.nodes:
        node.cli("flushall")
    eventually(lambda: healthy(other))
    assert other.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
    assert cli(empty, "get", "tagcache:{0}:layout") == "1:16\n"


def test_the_number_before_it_was_recorded(
    empty: RedisCluster, front: Callable[..., RunningServer]
) -> None:
    cli(empty, "set", "tagcache:{40}:seq", "1")
    server = front(empty.url)
    server.wait_for_log("the data has 64 partitions, and engine.partitions is 16")
    server.stop()
    same = front(empty.url, {"partitions": 64})
    eventually(lambda: healthy(same))


def test_servers_notice_that_another_number_is_used(
    empty: RedisCluster, front: Callable[..., RunningServer]
) -> None:
    server = front(empty.url)
    eventually(lambda: healthy(server))
    cli(empty, "set", "tagcache:{0}:layout", "1:4")
    eventually(lambda: server.ask(b"GET\tk") == UNAVAILABLE)
    server.wait_for_log("the data has 4 partitions, and engine.partitions is 16")
