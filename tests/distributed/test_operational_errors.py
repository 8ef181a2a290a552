"""A Redis that answers, and cannot do what it is asked: that is the operator's business."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable

import pytest

from tagcache.client import Client as TagCacheClient
from tagcache.errors import ClientError, Refused
from tests.distributed.redis_server import RedisCluster, RedisServer
from tests.distributed.test_servers import UNAVAILABLE, healthy, http
from tests.integration.running import RunningServer, eventually

pytestmark = [pytest.mark.needs("redis-server", "redis-cli"), pytest.mark.slow]
Redis = Callable[..., RedisServer]
Front = Callable[..., RunningServer]


def need_replicas(server: RedisServer) -> None:
    server.cli("config", "set", "min-replicas-to-write", "1")


def fail_to_save(server: RedisServer) -> None:
    shutil.rmtree(server.directory)
    server.cli("config", "set", "save", "3600 1000000")
    server.cli("bgsave")
    eventually(lambda: "rdb_last_bgsave_status:err" in server.cli("info", "persistence"))


def become_a_replica(server: RedisServer) -> None:
    server.cli("replicaof", "127.0.0.1", "1")


def forbid_stores(server: RedisServer) -> None:
    server.cli("acl", "setuser", "default", "-hset")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (need_replicas, "NOREPLICAS"),
        (fail_to_save, "MISCONF"),
        (become_a_replica, "replica"),
        # As Redis says it, and as Valkey does.
        (forbid_stores, "run this command|no permissions to run"),
    ],
)
def test_stores_are_unavailable_and_the_reason_is_shown(
    spoil: Callable[[RedisServer], None], why: str, redis: Redis, front: Front
) -> None:
    server = redis()
    ours = front(server.url)
    eventually(lambda: healthy(ours))
    with ours.connect() as client:
        assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
        spoil(server)
        begun = time.monotonic()
        for _ in range(200):
            assert client.ask(b"PUT\tk\t-\tt\tw") == UNAVAILABLE
        client.send(b"INCR\tn\nADD\tm\t-\t-\tv\n")
        assert [client.line(), client.line()] == [UNAVAILABLE] * 2
        detail = http(ours, "GET", "/health")[1].get("detail", "")
        # Not only until the next round of upkeep: as long as commands meet it.
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert client.ask(b"PUT\tk\t-\tt\tw") == UNAVAILABLE
            assert re.search(why, http(ours, "GET", "/health")[1].get("detail", ""))
    assert re.search(why, detail)
    with TagCacheClient(port=ours.port, ignore_exc=True) as caller:
        assert caller.put("k", "v") in (None, False)
    assert "Traceback" not in ours.text()
    lines = len(re.findall(why, ours.text()))
    assert 1 <= lines <= time.monotonic() - begun + 1


def test_a_full_redis_is_ignored_like_an_unavailable_one(redis: Redis, front: Front) -> None:
    server = redis("--maxmemory-policy", "noeviction")
    ours = front(server.url)
    met: list[ClientError] = []
    with TagCacheClient(port=ours.port, ignore_exc=True, on_error=met.append) as caller:
        caller.put("k", "v")
        server.cli("config", "set", "maxmemory", "100kb")
        caller.put("k", "w")
        assert caller.get("k") == "v"
    assert [str(error) for error in met] == ["the server said: out_of_memory"]
    with TagCacheClient(port=ours.port) as caller, pytest.raises(Refused, match="out_of_memory"):
        caller.put("k", "w")


def test_a_cluster_that_does_not_serve_a_slot(cluster: RedisCluster, front: Front) -> None:
    node = cluster.nodes[0]
    ours = front(cluster.url)
    eventually(lambda: healthy(ours))
    slot = next(n for n in range(16) if node.cli("cluster", "keyslot", f"tagcache:{{{n}}}:"))
    number = node.cli("cluster", "keyslot", f"tagcache:{{{slot}}}:").strip()
    owner = next(n for n in cluster.nodes if int(number) in slots_of(n))
    with ours.connect() as client:
        owner.cli("cluster", "delslots", number)
        try:
            replies = {client.ask(b"PUT\tk%d\t-\tt\tv" % n) for n in range(300)}
            assert UNAVAILABLE in replies
            eventually(lambda: not healthy(ours))
        finally:
            owner.cli("cluster", "addslots", number)
        eventually(lambda: client.ask(b"INV_TAG\tt").startswith(b"INV_TAG\t"))
    eventually(lambda: healthy(ours))
    assert "Traceback" not in ours.text()


def slots_of(node: RedisServer) -> set[int]:
    mine = next(line for line in node.cli("cluster", "nodes").splitlines() if "myself" in line)
    found: set[int] = set()
    for part in mine.split()[8:]:
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_a_server_that_still_loads(redis: Redis, front: Front) -> None:
    server = redis()
    server.cli("config", "set", "save", "3600 1000000")
    server.cli(
        "eval", "for n = 1, 3000 do redis.call('set', 'k' .. n, string.rep('x', 2000)) end", "0"
    )
    server.cli("save")
    server.stop()
    # A second for every thousand keys.
    server.options += [
        "--key-load-delay",
        "1000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]
    server.start(wait=False)
    ours = front(server.url)
    with ours.connect() as client:
        eventually(lambda: "loading" in http(ours, "GET", "/health")[1].get("detail", ""))
        assert client.ask(b"GET\tk") == UNAVAILABLE
        eventually(lambda: client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n")
        eventually(lambda: healthy(ours))
    assert "Traceback" not in ours.text()
