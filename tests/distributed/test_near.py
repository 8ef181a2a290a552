"""The near cache: hits without Redis, and never staler than documented."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tagcache.redis.near import STALENESS_SECONDS
from tests.distributed.redis_server import RedisCluster, RedisServer
from tests.integration.running import Client, RunningServer, eventually

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
Front = Callable[..., RunningServer]


@pytest.fixture
def near(front: Front) -> Front:
    """Start a server with a near cache of 8 MiB, and wait until it tracks changes."""

    def start_one(url: str, **engine: Any) -> RunningServer:
        server = front(url, {"near_cache_mb": 8, **engine})
        eventually(lambda: told(server)["fresh"])
        return server

    return start_one


@pytest.fixture(params=["redis", "cluster"])
def nodes(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A single server or a cluster of three; ``url`` names it."""
    if request.param == "redis":
        yield request.getfixturevalue("empty_redis")
    else:
        cluster: RedisCluster = request.getfixturevalue("cluster")
        for node in cluster.nodes:
            node.cli("flushall")
        yield cluster


def state(redis: RedisServer) -> str:
    """Return the state of a process as a letter: T if it is stopped."""
    return Path(f"/proc/{redis.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def told(server: RunningServer) -> dict[str, Any]:
    with server.connect() as client:
        described: dict[str, Any] = client.json(b"INFO")["engine"]["near_cache"]
        return described


def wait_until_gone(client: Client, key: bytes, old: bytes) -> None:
    """Ask until the old value is not found any more; the first answers may still have it."""
    changed = asked = time.monotonic()
    while client.ask(b"GET\t" + key) == b"VALUE\t" + old + b"\n":
        # The duration of the reply depends on the machine.
        assert asked - changed < STALENESS_SECONDS
        asked = time.monotonic()


def test_what_is_read_often_is_near_and_what_changes_is_not(nodes: Any, near: Front) -> None:
    one, two = near(nodes.url), near(nodes.url)
    with one.connect() as a, two.connect() as b:
        assert a.ask(b"PUT\tk\t-\tt,u\t1") == b"OK\n"

        def all_from_near() -> bool:
            before = told(two)["hits"]
            for _ in range(10):
                assert b.ask(b"GET\tk") == b"VALUE\t1\n"
            return bool(told(two)["hits"] == before + 10)

        # The PUT may be reported after the first look-up.
        eventually(all_from_near)
        assert (told(two)["items"], told(one)["items"]) == (1, 0)
        # Clients of this server see its own changes at once.
        for change, value in (
            (b"PUT\tk\t-\tt,u\t2", b"VALUE\t2\n"),
            (b"INCR\tk\t5\t-\tt,u", b"VALUE\t7\n"),
            (b"TOUCH\tk\t60000", b"VALUE\t7\n"),
            (b"INV_TAG\tt", b"NF\n"),
            (b"ADD\tk\t-\tt,u\t3", b"VALUE\t3\n"),
            (b"INV_TAGS_ALL\tt,u", b"NF\n"),
            (b"ADD\tk\t-\tt,u\t3", b"VALUE\t3\n"),
            (b"DEL\tk", b"NF\n"),
            (b"ADD\tk\t-\tt,u\t3", b"VALUE\t3\n"),
            (b"INV_KEYS\tk,x", b"NF\n"),
            (b"ADD\tk\t-\tt,u\t3", b"VALUE\t3\n"),
            (b"INV_TAGS_ANY\tx,u", b"NF\n"),
            (b"ADD\tk\t-\tt,u\t3", b"VALUE\t3\n"),
            (b"FLUSH", b"NF\n"),
        ):
            b.ask(change)
            assert b.ask(b"GET\tk") == value
            assert b.ask(b"GET\tk") == value
        # They see changes of another server very soon.
        for change in (
            b"PUT\tk\t-\tt\t4",
            b"INV_TAG\tt",
            b"INV_TAGS_ALL\tt,u",
            b"DEL\tk",
            b"FLUSH",
        ):
            assert b.ask(b"PUT\tk\t-\tt,u\tv") == b"OK\n"
            while not told(two)["items"]:
                assert b.ask(b"GET\tk") == b"VALUE\tv\n"
            a.ask(change)
            wait_until_gone(b, b"k", b"v")
        # A pipeline sees its own writes.
        b.send(b"PUT\tp\t-\t-\t1\nGET\tp\nGET\tp\nPUT\tp\t-\t-\t2\nGET\tp\nDEL\tp\nGET\tp\n")
        replies = b"".join(b.line() for _ in range(7))
        assert replies == b"OK\nVALUE\t1\nVALUE\t1\nOK\nVALUE\t2\nDEL ok\nNF\n"


def test_a_time_to_live_holds_near(empty_redis: RedisServer, near: Front) -> None:
    server = near(empty_redis.url)
    with server.connect() as client:
        start = time.monotonic()
        assert client.ask(b"PUT\tk\t2000\t-\tv") == b"OK\n"
        stored = asked = time.monotonic()
        while client.ask(b"GET\tk") != b"NF\n":
            assert asked - stored < 2.01
            asked = time.monotonic()
        assert time.monotonic() - start > 1.99
        assert told(server)["hits"] > 10


def test_there_is_no_more_near_than_is_allowed(empty_redis: RedisServer, near: Front) -> None:
    server = near(empty_redis.url, near_cache_mb=1)
    with server.connect() as client:
        for number in range(60):
            assert client.ask(b"PUT\tk%d\t-\t-\t" % number + bytes(48) * 1000) == b"OK\n"
            assert client.ask(b"GET\tk%d" % number).startswith(b"VALUE\t")
    described = told(server)
    assert described["memory_used_bytes"] <= described["max_memory_bytes"] == 1024 * 1024
    assert 10 < described["items"] < 22
    assert described["evictions"] >= 38


def test_a_channel_that_is_lost_empties_it_at_once(empty_redis: RedisServer, near: Front) -> None:
    server = near(empty_redis.url)
    with server.connect() as client:
        client.ask(b"PUT\tk\t-\t-\tv")
        eventually(lambda: client.ask(b"GET\tk") == b"VALUE\tv\n" and told(server)["hits"])
        before = told(server)
        assert before["items"] == 1
        listed = empty_redis.cli("client", "list")
        channel = re.search(r"^id=(\d+) .* flags=tB? ", listed, re.MULTILINE)
        assert channel is not None, listed
        empty_redis.cli("client", "kill", "id", channel[1])
        eventually(lambda: told(server)["cleared"] > before["cleared"])
        eventually(lambda: told(server)["fresh"])
        assert client.ask(b"GET\tk") == b"VALUE\tv\n"
        assert client.ask(b"GET\tk") == b"VALUE\tv\n"
        assert told(server)["hits"] == before["hits"] + 1
    # FLUSHALL: Redis reports no keys then.
    empty_redis.cli("flushall")
    eventually(lambda: told(server)["items"] == 0)


def test_nothing_near_is_answered_once_redis_is_silent(
    redis: Callable[..., RedisServer], near: Front
) -> None:
    there = redis()
    server = near(there.url)
    with server.connect() as client:
        client.ask(b"PUT\tk\t-\t-\tv")
        client.ask(b"GET\tk")
        server.reload(engine={"timeout_ms": 300})
        there.process.send_signal(signal.SIGSTOP)
        eventually(lambda: state(there) == "T")
        wait_until_gone(client, b"k", b"v")
        assert client.ask(b"GET\tk") == b"ERR backend_unavailable\n"
        there.process.send_signal(signal.SIGCONT)
        eventually(lambda: client.ask(b"GET\tk") == b"VALUE\tv\n")
        eventually(lambda: told(server)["fresh"])


@pytest.mark.slow
def test_nobody_finds_what_was_changed_a_second_ago(nodes: Any, near: Front) -> None:
    """Two writers and two readers race at two servers; a read at the writing server is exact."""
    one, two = near(nodes.url), near(nodes.url)
    over = threading.Event()
    # For each key and server: the number of the last write that was answered, and when it was.
    certain: dict[tuple[bytes, int], tuple[int, float]] = {}
    all_writes: dict[bytes, list[tuple[int, float]]] = {b"k0": [(0, 0.0)], b"k1": [(0, 0.0)]}
    faults: list[str] = []
    oldest = [0.0]
    reads = [0]

    def write(server: RunningServer, place: int, key: bytes) -> None:
        number = 0
        with server.connect() as client:
            while not over.is_set():
                number += 1
                client.ask(b"PUT\t%b\t-\tt%b\t%d" % (key, key, number))
                all_writes[key].append((number, time.monotonic()))
                certain[key, place] = number, time.monotonic()
                time.sleep(0.002)
                if not number % 7:
                    client.ask(b"INV_TAG\tt" + key)
                    number += 1
                    all_writes[key].append((number, time.monotonic()))
                    certain[key, place] = number, time.monotonic()

    def read(server: RunningServer, place: int) -> None:
        with server.connect() as client:
            while not over.is_set():
                for key in (b"k0", b"k1"):
                    known, _ = certain.get((key, place), (0, 0.0))
                    asked = time.monotonic()
                    reply = client.ask(b"GET\t" + key)
                    reads[0] += 1
                    if reply == b"NF\n":
                        continue
                    found = int(reply[6:])
                    if found < known:
                        faults.append(f"{key!r} at {place}: {found}, and {known} was answered here")
                    # When the next write was answered: from then on this one was old.
                    since = [when for number, when in all_writes[key] if number > found]
                    if since:
                        oldest[0] = max(oldest[0], asked - since[0])

    threads = [
        threading.Thread(target=write, args=(one, 0, b"k0")),
        threading.Thread(target=write, args=(two, 1, b"k1")),
        threading.Thread(target=read, args=(one, 0)),
        threading.Thread(target=read, args=(two, 1)),
    ]
    for thread in threads:
        thread.start()
    time.sleep(4)
    eventually(lambda: reads[0] > 500 and min(told(one)["hits"], told(two)["hits"]) > 20)
    over.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert oldest[0] < STALENESS_SECONDS


@pytest.mark.slow
def test_a_replica_that_takes_over_is_heard(tmp_path: Path, near: Front) -> None:
    nodes = RedisCluster(tmp_path / "cluster", replicas=1)
    try:
        one, two = near(nodes.url), near(nodes.url)
        keys = [b"k%d" % number for number in range(30)]
        with one.connect() as a, two.connect() as b:
            for key in keys:
                assert a.ask(b"PUT\t" + key + b"\t-\tt\told") == b"OK\n"
                assert b.ask(b"GET\t" + key) == b"VALUE\told\n"
            primary = next(n for n in nodes.nodes if "role:master" in n.cli("info", "replication"))
            primary.stop()
            # Until the other server serves everything again as well.
            eventually(
                lambda: all(a.ask(b"PUT\t" + key + b"\t-\tt\tnew") == b"OK\n" for key in keys)
            )
            eventually(lambda: all(b.ask(b"GET\t" + key) == b"VALUE\tnew\n" for key in keys))
            eventually(lambda: told(two)["fresh"])
            for key in keys:
                assert b.ask(b"GET\t" + key) == b"VALUE\tnew\n"
            assert a.ask(b"INV_TAG\tt") == b"INV_TAG\t30\n"
            for key in keys:
                wait_until_gone(b, key, b"new")
    finally:
        nodes.stop()
