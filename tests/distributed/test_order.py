"""Pipelined commands run in order, also in a Redis without our scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.distributed.redis_server import RedisServer
from tests.integration.running import RunningServer, eventually

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
# Each uses another script.
EXCHANGED = [
    (b"GET\tk", b"NF"),
    (b"ADD\tk\t-\tt\t1", b"ADDED"),
    (b"GET\tk", b"VALUE\t1"),
    (b"INCR\tk", b"VALUE\t2"),
    (b"GET\tk", b"VALUE\t2"),
    (b"PUT\tk\t-\tt\t5", b"OK"),
    (b"GET\tk", b"VALUE\t5"),
    (b"INV_TAG\tt", b"INV_TAG\t1"),
    (b"GET\tk", b"NF"),
]
SENT, TOLD = (b"".join(line + b"\n" for line in lines) for lines in zip(*EXCHANGED, strict=True))


def say(server: RunningServer) -> bytes:
    with server.connect() as client:
        client.send(SENT)
        return b"".join(client.line() for _ in range(TOLD.count(b"\n")))


def test_on_a_redis_that_is_new_or_was_restarted(
    redis: Callable[..., RedisServer], front: Callable[..., RunningServer]
) -> None:
    database = redis()
    server = front(database.url, {"connections": 1})
    assert say(server) == TOLD
    assert say(server) == TOLD
    for _ in range(2):
        database.stop()
        eventually(lambda: server.ask(b"GET\tk") == b"ERR backend_unavailable\n")
        database.start()
        eventually(lambda: server.ask(b"GET\tk") == b"NF\n")
        assert say(server) == TOLD
