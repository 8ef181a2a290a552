"""One elected server does the upkeep: another one takes over when it dies or hangs."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.distributed.redis_server import RedisServer
from tests.integration.running import RunningServer, eventually
from tests.integration.test_monitoring import get

pytestmark = [pytest.mark.needs("redis-server", "redis-cli"), pytest.mark.slow]
ROOT = "tagcache:{all}:"
QUICK: dict[str, Any] = {"server": {"cleanup_interval_seconds": 0.05}}


def leave_something(server: RunningServer) -> None:
    """Leave entries to sweep, and some of a flushed epoch."""
    with server.connect() as client:
        for number in range(20):
            assert client.ask(b"PUT\told%d\t-\tt\tv" % number) == b"OK\n"
        assert client.ask(b"FLUSH").startswith(b"FLUSH\t")
        for number in range(20):
            assert client.ask(b"PUT\tk%d\t1\tt\tv" % number) == b"OK\n"


def is_swept(redis: RedisServer) -> bool:
    epoch = redis.cli("get", ROOT + "epoch").partition(":")[0]
    left = redis.cli("exists", ROOT + "old", f"{ROOT}{epoch}:meta", f"{ROOT}{epoch}:due")
    return left.strip() == "0"


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_another_server_takes_over(
    how: signal.Signals, empty_redis: RedisServer, front: Callable[..., RunningServer]
) -> None:
    first = front(empty_redis.url, **QUICK)
    eventually(lambda: empty_redis.cli("exists", ROOT + "elected") == "1\n")
    second = front(empty_redis.url, **QUICK)
    elected = empty_redis.cli("get", ROOT + "elected").split()[0]
    leave_something(second)
    first.process.send_signal(how)
    eventually(lambda: is_swept(empty_redis))
    assert empty_redis.cli("get", ROOT + "elected").split()[0] != elected
    if how == signal.SIGSTOP:
        # Two that are elected at once do no harm, and one of them goes on.
        first.process.send_signal(signal.SIGCONT)
        leave_something(first)
        eventually(lambda: is_swept(empty_redis))
        with first.connect() as client:
            assert client.json(b"INFO\tcheck")["check"]["faults"] == []
        first.stop()
    leave_something(second)
    eventually(lambda: is_swept(empty_redis))


def test_the_others_report_what_the_elected_server_sees(
    empty_redis: RedisServer, front: Callable[..., RunningServer]
) -> None:
    servers = [front(empty_redis.url, **QUICK) for _ in range(2)]
    with servers[0].connect() as client:
        client.ask(b"SELECT\t3")
        assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
    for server in servers:
        eventually(lambda server=server: b'tagcache_keys{db="3"} 1.0\n' in get(server, "/metrics"))
