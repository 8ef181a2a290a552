"""What a server reports about its engine: INFO, streams, metrics."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.distributed.redis_server import RedisServer
from tests.integration.running import RunningServer, eventually
from tests.integration.test_monitoring import get, names_asked, names_told, stream

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
Front = Callable[..., RunningServer]


def engines(sock: socket.socket) -> Iterator[dict[str, Any]]:
    """The engine events of a stream."""
    lines = sock.makefile("rb")
    for line in lines:
        if line == b"event: engine\n":
            yield json.loads(lines.readline().removeprefix(b"data: "))


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["gone", "hanging"])
def test_info_answers_while_the_engine_does_not(
    redis: Callable[..., RedisServer], front: Front, failure: str
) -> None:
    """An operator looks at a server because its engine is away: INFO must answer."""
    database = redis()
    server = front(database.url, {"timeout_ms": 2000})
    assert server.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
    eventually(lambda: b'tagcache_keys{db="0"} 1.0\n' in get(server, "/metrics"))
    eventually(lambda: json.loads(get(server, "/info"))["engine"]["servers"])
    if failure == "gone":
        database.stop()
    else:
        database.process.send_signal(signal.SIGSTOP)
    with server.connect() as client:
        assert client.ask(b"GET\tk") == b"ERR backend_unavailable\n"
        told = client.json(b"INFO")
        assert told["engine"]["status"] == "degraded"
        assert told["engine"]["detail"]
        assert told["engine"]["servers"][0]["address"] == f"127.0.0.1:{database.port}"
        # The last known number.
        assert told["cache"]["items"] == 1
    assert json.loads(get(server, "/info"))["engine"]["status"] == "degraded"
    if failure == "gone":
        database.start()
    else:
        database.process.send_signal(signal.SIGCONT)
    eventually(lambda: json.loads(get(server, "/info"))["engine"]["status"] == "ok")


@pytest.mark.slow
def test_a_stream_tells_that_the_engine_goes_and_comes(
    redis: Callable[..., RedisServer], front: Front
) -> None:
    database = redis()
    server = front(database.url)
    eventually(lambda: json.loads(get(server, "/info"))["engine"]["status"] == "ok")
    with stream(server) as sock:
        sock.settimeout(60)
        heard = engines(sock)
        assert next(heard)["status"] == "ok"
        database.stop()
        assert next(each for each in heard if each["status"] == "degraded")["detail"]
        database.start()
        assert next(each for each in heard if each["status"] == "ok")["detail"] is None


def test_a_full_engine_can_be_looked_at(redis: Callable[..., RedisServer], front: Front) -> None:
    """INFO sends counts to the engine, which must not need memory; upkeep must go on too."""
    server = front(redis("--maxmemory", "4mb").url)
    with server.connect() as client:
        stored = 0
        while client.ask(b"PUT\tk%d\t-\tt\t" % stored + b"v" * 5000) == b"OK\n":
            stored += 1
        assert client.ask(b"PUT\tmore\t-\tt\t" + b"v" * 5000) == b"ERR out_of_memory\n"
        client.ask(b"GET\tk0")
        client.ask(b"GET\tnone")
        assert client.ask(b"STATS").startswith(b"STATS\t1\t1\t%d\t" % stored)
        told = client.json(b"INFO")
        assert (told["cache"]["items"], told["engine"]["status"]) == (stored, "ok")
    assert json.loads(get(server, "/stats"))["items"] == stored
    eventually(lambda: b'tagcache_keys{db="0"} %d.0\n' % stored in get(server, "/metrics"))
    assert "upkeep is postponed" not in server.text()


def test_rules_and_panels_ask_for_metrics_of_what_is_near(
    empty_redis: RedisServer, front: Front
) -> None:
    server = front(empty_redis.url, {"near_cache_mb": 8})
    near = {name for name in names_asked() if name.startswith("tagcache_near_")}
    assert near
    assert near - names_told(server) == set()


def test_passwords_of_the_engine_are_told_to_nobody(
    redis: Callable[..., RedisServer], front: Front
) -> None:
    database = redis("--requirepass", "very-secret")
    server = front(f"redis://:very-secret@127.0.0.1:{database.port}/0")
    eventually(lambda: json.loads(get(server, "/info"))["engine"]["status"] == "ok")
    database.stop()
    eventually(lambda: json.loads(get(server, "/info"))["engine"]["status"] == "degraded")
    for path in ("/info", "/health", "/config", "/metrics", "/events/log"):
        assert b"very-secret" not in get(server, path), path
    assert "very-secret" not in server.text()
