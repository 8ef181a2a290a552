"""What the Redis engine does not have yet: one clear error on every port, and the clients go on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from tagcache.client import Client
from tests.distributed.redis_server import RedisServer
from tests.integration.running import TIMEOUT, RunningServer

pytestmark = pytest.mark.needs("redis-server", "redis-cli")


@pytest.fixture
def server(front: Callable[..., RunningServer], empty_redis: RedisServer) -> RunningServer:
    return front(empty_redis.url)


def test_lines(server: RunningServer) -> None:
    with server.connect() as client:
        for request in (
            b"FETCH\tk\t1000\t1000",
            b"FILL\t1\tk\t-\t-\tv",
            b"RELEASE\t1\tk",
            b"SOFT_TAG\tt",
            b"SOFT_TAGS_ANY\tt,u",
            b"SOFT_TAGS_ALL\tt,u",
            b"SOFT_KEYS\tk",
            b"PUT\tk\t1000+1000\t-\tv",
        ):
            assert client.ask(request) == b"ERR not_supported_by_backend\n", request
        assert client.ask(b"GET\tk") == b"NF\n"


def test_redis_cli(server: RunningServer) -> None:
    def cli(*words: str) -> str:
        command = ["redis-cli", "-p", str(server.port), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
        return done.stdout

    for request in (
        "TAG.FETCH k LEASE 1000",
        "TAG.SET k v LEASE 1 TAGS 0",
        "TAG.SET k v GRACE 1000 TAGS 0",
        "TAG.RELEASE k 1",
        "TAG.INVALIDATE SOFT 1 t",
    ):
        assert cli(*request.split()).startswith("ERR not_supported_by_backend: the Redis engine")
    assert cli("GET", "k") == "\n"


def test_curl(server: RunningServer) -> None:
    for path, body in (
        ("/get/k?lease_ms=1000", None),
        ("/put", {"key": "k", "value": "v", "grace_ms": 1000}),
        ("/put", {"key": "k", "value": "v", "lease": "1"}),
        ("/release", {"key": "k", "lease": "1"}),
        ("/invalidate-tag", {"tag": "t", "soft": True}),
    ):
        options = ["-H", "content-type: application/json", "-d", json.dumps(body)] if body else []
        url = f"http://127.0.0.1:{server.http_port}{path}"
        done = subprocess.run(
            ["curl", "-sS", "-u", "admin:password", "-w", "\n%{http_code}", *options, url],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
        answer, _, status = done.stdout.rpartition("\n")
        assert (status, json.loads(answer)["error"]) == ("422", "not_supported_by_backend")


def test_clients_compute_without_leases(server: RunningServer) -> None:
    with Client(port=server.port, timeout=TIMEOUT) as client:
        for _ in range(2):
            client.flush()
            assert client.get_or_set("k", lambda: "made", tags=["t"], grace=60) == "made"
            assert client.get_or_set("k", lambda: "again", tags=["t"]) == "made"
        assert client.invalidate_tag("t") == 1
        assert client.get("k") is None
        assert client.info()["cache"]["leases_granted"] == 0
