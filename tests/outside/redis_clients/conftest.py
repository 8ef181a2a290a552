"""A server for Redis clients: see server.py on what it is."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.outside.redis_clients.server import AGAINST, Server


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = item.get_closest_marker("tagcache_only")
    if reason is not None and AGAINST == "redis":
        pytest.skip(f"{reason.args[0]}: not of Redis")


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis_clients"))
    yield server
    server.stop()


@pytest.fixture
def redis_server(shared_server: Server) -> Iterator[Server]:
    """A server that tests share, emptied. It may not log a traceback."""
    before = len(shared_server.log())
    with socket.create_connection(("127.0.0.1", shared_server.port), 60) as sock:
        sock.sendall(b"*1\r\n$8\r\nFLUSHALL\r\n")
        assert sock.recv(100) == b"+OK\r\n"
    yield shared_server
    assert "Traceback" not in shared_server.log()[before:]


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    return redis_server.url


@pytest.fixture
def redis_port(redis_server: Server) -> int:
    return redis_server.port


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers of a test's own. None may log a traceback."""
    started: list[Server] = []

    def start_one(password: str | None = None) -> Server:
        started.append(Server(tmp_path / f"server{len(started)}", password))
        return started[-1]

    yield start_one
    for server in started:
        server.stop()
        assert "Traceback" not in server.log(), server.log()


@pytest.fixture
def plain(redis_url: str) -> Iterator[redis.Redis]:
    """A client as most programs make it."""
    with redis.Redis.from_url(redis_url) as made:
        yield made
