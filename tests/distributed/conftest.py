"""Redis servers, and TagCache servers in front of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.engines import Memory, Remote
from tests.distributed.redis_server import RedisCluster, RedisServer
from tests.integration.conftest import start
from tests.integration.running import RunningServer

__all__ = ["cluster", "empty_redis", "engine", "front", "redis", "start"]

NEEDS = pytest.mark.needs("redis-server", "redis-cli")


@pytest.fixture
def front(
    start: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., RunningServer]:
    """Start a TagCache server in front of the Redis at a URL."""

    def start_one(url: str, engine: dict[str, Any] | None = None, **sections: Any) -> RunningServer:
        monkeypatch.setenv("TAGCACHE_TEST_REACTOR", "asyncio")
        # Long, for a busy machine: no test waits for this timeout.
        knobs = {"backend": "redis", "url": url, "timeout_ms": 30_000, **(engine or {})}
        return start({"engine": knobs, **sections})

    return start_one


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def empty_redis(shared_redis: RedisServer) -> RedisServer:
    """A Redis that tests share, emptied."""
    shared_redis.cli("flushall")
    return shared_redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start Redis servers that stop with the test."""
    started: list[RedisServer] = []

    def start_one(*options: str, **more: Any) -> RedisServer:
        started.append(RedisServer(tmp_path / f"redis{len(started)}", *options, **more))
        return started[-1]

    yield start_one
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster of three primaries that tests share."""
    nodes = RedisCluster(tmp_path_factory.mktemp("cluster"))
    yield nodes
    nodes.stop()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("redis", marks=NEEDS),
        pytest.param("partitions", marks=NEEDS),
        pytest.param("near", marks=NEEDS),
        pytest.param("cluster", marks=NEEDS),
        pytest.param("near a cluster", marks=NEEDS),
    ]
)
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each engine in turn."""
    if request.param == "memory":
        engine: Any = Memory()
    elif "cluster" in request.param:
        nodes = request.getfixturevalue("cluster")
        for node in nodes.nodes:
            node.cli("flushall")
        engine = Remote(nodes.url, near="near" in request.param)
    else:
        server = request.getfixturevalue("empty_redis")
        partitions = 5 if request.param == "partitions" else 1
        engine = Remote(server.url, partitions=partitions, near=request.param == "near")
    yield engine
    engine.close()
