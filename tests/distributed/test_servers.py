"""TagCache servers in front of a real Redis, also when it fails."""

from __future__ import annotations

import base64
import json
import random
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.redis_server import RedisCluster, RedisServer
from tests.integration.running import TIMEOUT, Client, RunningServer, eventually
from tests.integration.sockets import listening
from tests.integration.test_manhole import Shell

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
UNAVAILABLE = b"ERR backend_unavailable\n"


def http(server: RunningServer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http_port}{path}",
        None if body is None else json.dumps(body).encode(),
        {
            "content-type": "application/json",
            "authorization": "Basic " + base64.b64encode(b"admin:password").decode(),
        },
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def healthy(server: RunningServer) -> bool:
    return bool(http(server, "GET", "/health")[1]["status"] == "ok")


def test_two_servers_can_share_a_port(
    empty_redis: RedisServer, front: Callable[..., RunningServer]
) -> None:
    shared = {"performance": {"reuse_port": "true"}}
    one = front(empty_redis.url, **shared)
    two = front(empty_redis.url, **shared, server={"tcp_port": one.port})
    for server in (one, two):
        with listening(server.process.pid, one.port) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
        info = http(server, "GET", "/info")[1]
        assert info["listeners"][0]["socket_options"]["reuse_port"]["effective"] == 1
    # Whichever of the two accepts, it is the same cache.
    assert one.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"
    accepted_by = set()
    for _ in range(100):
        with one.connect() as client:
            assert client.ask(b"GET\tk") == b"VALUE\tv\n"
            accepted_by.add(client.json(b"INFO")["server"]["pid"])
            if len(accepted_by) == 2:
                break
    assert accepted_by == {one.process.pid, two.process.pid}


def test_two_servers_are_one_cache(
    empty_redis: RedisServer, front: Callable[..., RunningServer]
) -> None:
    one, two = front(empty_redis.url), front(empty_redis.url)
    with one.connect() as a, two.connect() as b:
        assert a.ask(b"PUT\tk\t60000\tx,y\tv") == b"OK\n"
        assert b.ask(b"GET\tk") == b"VALUE\tv\n"
        assert b.ask(b"ADD\tk\t-\t-\tv") == b"EXISTS\n"
        assert b.ask(b"INCR\ti\t5\t-\tx") == b"VALUE\t5\n"
        assert a.ask(b"DECR\ti") == b"VALUE\t4\n"
        assert sorted(a.ask(b"KEYS\tx")[5:-1].split(b",")) == [b"i", b"k"]
        assert b.ask(b"INV_TAG\tx") == b"INV_TAG\t2\n"
        assert a.ask(b"GET\tk") == b"NF\n"
        # Each server sends its counts every second.
        eventually(lambda: a.ask(b"STATS") == b"STATS\t1\t1\t3\t2\t0.500000\n")
        assert b.json(b"INFO")["cache"]["invalidations"] == 2
    assert http(one, "POST", "/put", {"key": "h", "value": "1", "tags": ["t"]})[0] == 200
    assert http(two, "GET", "/get/h") == (200, {"value": "1"})
    assert http(two, "GET", "/keys/h")[1]["value"] == 1
    assert [each["key"] for each in http(two, "GET", "/keys")[1]["keys"]] == ["h"]
    assert http(two, "POST", "/search", {"tag_all": ["t"]})[1]["keys"][0]["tags"] == ["t"]
    assert http(two, "GET", "/tags")[1]["tags"][0]["keys"] == 1
    assert http(two, "GET", "/stats")[1]["items"] == 1
    assert http(two, "POST", "/incr", {"key": "n", "by": 2})[1]["value"] == 2
    assert http(one, "POST", "/touch", {"key": "n", "ttl_seconds": 60})[1]["touched"] is True
    assert 0 < http(two, "GET", "/keys/n")[1]["ttl_ms"] <= 60_000
    assert http(one, "POST", "/touch", {"key": "x"}) == (200, {"ok": True, "touched": False})
    assert len(http(two, "POST", "/keys/bulk/get", {"keys": ["h", "x", "n"]})[1]["items"]) == 2
    assert http(two, "POST", "/invalidate/tags", {"tags": ["t"]})[1]["count"] == 1
    assert http(two, "POST", "/flush", {})[1]["count"] == 1


def test_replies_keep_the_order_of_a_pipeline(
    empty_redis: RedisServer, front: Callable[..., RunningServer]
) -> None:
    server = front(empty_redis.url)
    requests, replies = [], []
    for number in range(3000):
        requests += [b"PUT\tk\t-\tt\t%d" % number, b"GET\tk", b"PING"]
        replies += [b"OK", b"VALUE\t%d" % number, b"PONG"]
        if not number % 100:
            requests += [b"INV_TAG\tt", b"GET\tk", b"nonsense"]
            replies += [b"INV_TAG\t1", b"NF", b"ERR unknown_command"]
    with server.connect() as client:
        client.send(b"\n".join([*requests, b"QUIT", b""]))
        assert client.rest().split(b"\n") == [*replies, b"OK", b""]


@pytest.fixture(params=["redis", "cluster"])
def anywhere(request: pytest.FixtureRequest) -> str:
    """The URL of an empty Redis or cluster."""
    if request.param == "redis":
        url: str = request.getfixturevalue("empty_redis").url
        return url
    nodes: RedisCluster = request.getfixturevalue("cluster")
    for node in nodes.nodes:
        node.cli("flushall")
    return nodes.url


def take(client: Client, key: bytes) -> bytes:
    """Take the lease for a key; return the beginning of a fill."""
    word, _, token = client.ask(b"FETCH\t%b\t60000" % key).strip().partition(b"\t")
    assert word == b"LEASE"
    return b"FILL\t%b\t%b" % (token, key)


@pytest.mark.parametrize(
    "verb",
    [
        *(b"INV_TAG\tt", b"INV_TAGS_ANY\tx,t", b"INV_TAGS_ALL\tt,u"),
        *(b"INV_KEYS\tpage", b"DEL\tpage", b"FLUSH"),
    ],
)
def test_nothing_outlives_what_came_between_its_look_up_and_its_store(
    verb: bytes, anywhere: str, front: Callable[..., RunningServer]
) -> None:
    one, two = front(anywhere), front(anywhere)
    with one.connect() as slow, two.connect() as quick:
        for entries in (b"", b"PUT\tother\t-\tt,u\tv", b"PUT\tpage\t-\tt,u\told"):
            quick.ask(b"INV_KEYS\tpage,other")
            fill = take(slow, b"page")
            if entries:
                assert quick.ask(entries) == b"OK\n"
            quick.ask(verb)
            assert slow.ask(fill + b"\t-\tt,u\tstale") == b"REFUSED\n"
            assert quick.ask(b"GET\tpage") == b"NF\n"
        # Changes of other entries do not matter.
        fill = take(slow, b"page")
        for other in (b"INV_TAG\tx", b"INV_TAGS_ALL\tt,x", b"INV_KEYS\tx", b"DEL\tx"):
            quick.ask(other)
        assert slow.ask(fill + b"\t-\tt,u\tfresh") == b"OK\n"
        assert quick.ask(b"GET\tpage") == b"VALUE\tfresh\n"


def test_a_store_without_a_lease_is_accepted(
    empty_redis: RedisServer, front: Callable[..., RunningServer]
) -> None:
    one, two = front(empty_redis.url), front(empty_redis.url)
    with one.connect() as slow, two.connect() as quick:
        assert slow.ask(b"GET\tpage") == b"NF\n"
        assert quick.ask(b"INV_TAG\tt") == b"INV_TAG\t0\n"
        assert slow.ask(b"PUT\tpage\t-\tt\tv") == b"OK\n"
        assert quick.ask(b"GET\tpage") == b"VALUE\tv\n"


def test_nobody_reads_what_was_invalidated_before(
    anywhere: str, front: Callable[..., RunningServer]
) -> None:
    """Two clients race at two servers: one changes and invalidates, one reads and fills.

    ``truth`` stands for the source. A reader may see a value that has just changed, but never one
    whose invalidation was answered before the read began.
    """
    one, two = front(anywhere), front(anywhere)
    truth = [0]
    settled = [0]
    keys = [b"k%d" % number for number in range(8)]
    over = threading.Event()
    faults: list[str] = []
    hits = [0]
    pauses = random.Random(1)

    def write() -> None:
        with one.connect() as client:
            while not over.is_set():
                truth[0] += 1
                assert client.ask(b"INV_TAG\tt").startswith(b"INV_TAG\t")
                settled[0] = truth[0]
                time.sleep(0.004)

    def read() -> None:
        with two.connect() as client:
            while not over.is_set():
                for key in keys:
                    at_least = settled[0]
                    word, _, rest = client.ask(b"FETCH\t%b\t5000" % key).partition(b"\t")
                    if word == b"LEASE":
                        computed = truth[0]
                        # About as long as until the next invalidation.
                        time.sleep(pauses.uniform(0, 0.006))
                        fill = (b"FILL", rest.strip(), key, b"-", b"t", b"%d" % computed)
                        client.ask(b"\t".join(fill))
                    elif word == b"HIT":
                        hits[0] += 1
                        if int(rest) < at_least:
                            faults.append(f"{key!r}: {rest!r}, settled {at_least}")

    threads = [threading.Thread(target=each) for each in (write, read, read)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    eventually(lambda: hits[0] > 10 and settled[0] > 10)
    over.set()
    for thread in threads:
        thread.join(TIMEOUT)
    assert faults == []


def test_a_redis_that_stops_and_comes_back(
    redis: Callable[..., RedisServer], front: Callable[..., RunningServer]
) -> None:
    server = redis()
    # Nobody waits: a refused connection is known at once.
    ours = front(server.url, {"timeout_ms": 600_000})
    eventually(lambda: healthy(ours))
    with ours.connect() as client:
        assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
        server.stop()
        client.send(b"GET\tk\nPUT\tk\t-\t-\tv\nINV_TAG\tt\nPING\n")
        assert [client.line() for _ in range(4)] == [UNAVAILABLE] * 3 + [b"PONG\n"]
        assert http(ours, "GET", "/get/k")[0] == 503
        assert http(ours, "GET", "/health")[1]["status"] == "degraded"
        server.start()
        eventually(lambda: healthy(ours))
        assert client.ask(b"GET\tk") == b"NF\n"
        assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
    assert ours.text().count("cannot be used: ") == 1


def test_a_redis_that_does_not_answer(
    redis: Callable[..., RedisServer], front: Callable[..., RunningServer]
) -> None:
    server = redis()
    ours = front(server.url, {"timeout_ms": 1000})
    with ours.connect() as client:
        assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
        server.process.send_signal(signal.SIGSTOP)
        try:
            begun = time.monotonic()
            client.send(b"GET\tk\n" * 500)
            assert [client.line() for _ in range(500)] == [UNAVAILABLE] * 500
            # Not one after the other: that would take 500 s.
            assert 0.9 < time.monotonic() - begun < 250
        finally:
            server.process.send_signal(signal.SIGCONT)
        eventually(lambda: client.ask(b"GET\tk") == b"VALUE\tv\n")


def test_a_start_without_redis(
    redis: Callable[..., RedisServer], front: Callable[..., RunningServer]
) -> None:
    server = redis()
    server.stop()
    ours = front(server.url)
    ours.wait_for_log("cannot be used: ")
    assert ours.ask(b"GET\tk") == UNAVAILABLE
    assert http(ours, "GET", "/health")[1]["status"] == "degraded"
    server.start()
    eventually(lambda: healthy(ours))
    assert ours.ask(b"GET\tk") == b"NF\n"


def test_a_wrong_password(
    redis: Callable[..., RedisServer], front: Callable[..., RunningServer]
) -> None:
    server = redis("--requirepass", "right")
    ours = front(f"redis://:wrong-one@127.0.0.1:{server.port}/0")
    text = ours.wait_for_log("cannot be used: ")
    assert "invalid username-password" in text
    assert "wrong-one" not in text
    assert ours.ask(b"GET\tk") == UNAVAILABLE
    with_it = front(f"redis://:right@127.0.0.1:{server.port}/0")
    assert with_it.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"


def test_a_full_redis(
    redis: Callable[..., RedisServer], front: Callable[..., RunningServer]
) -> None:
    server = redis("--maxmemory-policy", "noeviction")
    ours = front(server.url)
    with ours.connect() as client:
        assert client.ask(b"PUT\tk\t-\tt\t1") == b"OK\n"
        server.cli("config", "set", "maxmemory", "100kb")
        assert client.ask(b"PUT\tk\t-\tt\t2") == b"ERR out_of_memory\n"
        assert client.ask(b"INCR\tk") == b"ERR out_of_memory\n"
        assert http(ours, "POST", "/put", {"key": "k", "value": "v"})[0] == 507
        # Commands that free memory still work, and nothing was half done.
        assert client.ask(b"GET\tk") == b"VALUE\t1\n"
        assert client.ask(b"INV_TAG\tt") == b"INV_TAG\t1\n"
        server.cli("config", "set", "maxmemory", "0")
        assert client.ask(b"PUT\tk\t-\tt\t2") == b"OK\n"


def test_what_others_keep_there_is_not_touched(
    redis: Callable[..., RedisServer], front: Callable[..., RunningServer]
) -> None:
    server = redis()
    server.cli("set", "theirs", "1")
    ours = front(server.url, {"key_prefix": "mine:"})
    with ours.connect() as client:
        for number in range(1200):
            client.send(b"PUT\tk%d\t-\ta,b\tv\n" % number)
        assert [client.line() for _ in range(1200)] == [b"OK\n"] * 1200
        names = server.cli("keys", "*").split()
        assert all(name.startswith("mine:") for name in names if name != "theirs")
        assert client.ask(b"FLUSH") == b"FLUSH\t1200\n"
        assert client.ask(b"KEYS\ta") == b"KEYS\t\n"
    # The memory is freed; only a handful of counters is left.
    eventually(lambda: int(server.cli("dbsize")) < 8)
    assert server.cli("get", "theirs").strip() == "1"


def test_nothing_is_left_of_what_expired(
    redis: Callable[..., RedisServer], front: Callable[..., RunningServer]
) -> None:
    server = redis()
    ours = front(server.url, server={"cleanup_interval_seconds": 0.1})
    with ours.connect() as client:
        for number in range(1200):
            client.send(b"PUT\tk%d\t300\ta,b%d\tv\n" % (number, number))
        assert [client.line() for _ in range(1200)] == [b"OK\n"] * 1200
    eventually(lambda: int(server.cli("dbsize")) < 8)
    assert http(ours, "GET", "/stats")[1]["expirations"] == 1200


def test_the_wrong_reactor_is_refused(
    start: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAGCACHE_TEST_REACTOR", "epoll")
    server = start({"engine": {"backend": "redis"}}, wait=False)
    assert server.process.wait(60) == 1
    assert "needs twistd --reactor=asyncio" in server.text()


def test_knobs_without_effect_are_told(
    empty_redis: RedisServer,
    front: Callable[..., RunningServer],
    start: Callable[..., RunningServer],
) -> None:
    ours = front(empty_redis.url, cache={"max_memory": "5mb"})
    assert "cache.max_memory has no effect with engine.backend = redis" in ours.text()
    other = start({"engine": {"timeout_ms": 5}})
    assert "engine.timeout_ms has no effect with engine.backend = memory" in other.text()


@pytest.mark.needs("ssh", "ssh-keygen")
def test_the_shell_waits_for_the_engine(
    empty_redis: RedisServer,
    start: Callable[..., RunningServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAGCACHE_TEST_REACTOR", "asyncio")
    shell = Shell(start, tmp_path, engine={"backend": "redis", "url": empty_redis.url})
    shell.server.ask(b"PUT\tk\t-\tsome,tags\tvalue")
    assert "items" in shell.ssh("stats()").stdout
    assert "some" in shell.ssh("top_tags()").stdout
    assert shell.ssh("invalidate('some')").stdout.strip().endswith("1")
    assert shell.server.ask(b"GET\tk") == b"NF\n"


@pytest.mark.slow
def test_a_primary_of_a_cluster_that_fails(
    tmp_path: Path, front: Callable[..., RunningServer]
) -> None:
    """Its replica takes over, and the TagCache server finds it by itself."""
    nodes = RedisCluster(tmp_path / "cluster", replicas=1)
    try:
        ours = front(nodes.url)
        eventually(lambda: healthy(ours))
        with ours.connect() as client:
            for number in range(200):
                assert client.ask(b"PUT\tk%d\t-\tt\tv" % number) == b"OK\n"
            eventually(lambda: client.ask(b"GET\tk7") == b"VALUE\tv\n")
            nodes.nodes[2].process.kill()
            eventually(lambda: UNAVAILABLE not in {client.ask(b"GET\tk%d" % n) for n in range(200)})
            for number in range(200):
                assert client.ask(b"PUT\tk%d\t-\tt\tw" % number) == b"OK\n"
            assert client.ask(b"INV_TAG\tt") == b"INV_TAG\t200\n"
            eventually(lambda: healthy(ours))
    finally:
        nodes.stop()
