"""A cluster without a usable node: the reason is reported, and clients do not wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.distributed.certificates import Certificates
from tests.distributed.redis_server import RedisCluster, has_tls
from tests.distributed.test_servers import UNAVAILABLE, healthy, http
from tests.distributed.test_tls import PATIENT, refused
from tests.integration.running import RunningServer, eventually

pytestmark = [pytest.mark.needs("redis-server", "redis-cli"), pytest.mark.slow]

Front = Callable[..., RunningServer]


def test_a_cluster_that_is_away_and_comes_back(tmp_path: Path, front: Front) -> None:
    nodes = RedisCluster(tmp_path / "cluster")
    try:
        for node in nodes.nodes:
            node.stop()
        ours = front(nodes.url, PATIENT)
        refused(ours, "Redis Cluster cannot be connected")
        for node in nodes.nodes:
            node.start()
        eventually(lambda: healthy(ours))
        assert ours.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"
        for node in nodes.nodes:
            node.stop()
        assert ours.ask(b"GET\tk") == UNAVAILABLE
        assert ours.ask(b"GET\tk") == UNAVAILABLE
        eventually(lambda: http(ours, "GET", "/health")[1]["status"] == "degraded")
        for node in nodes.nodes:
            node.start()
        eventually(lambda: healthy(ours))
    finally:
        nodes.stop()


def test_a_wrong_password_for_a_cluster(tmp_path: Path, front: Front) -> None:
    nodes = RedisCluster(tmp_path / "cluster")
    try:
        for node in nodes.nodes:
            node.cli("config", "set", "requirepass", "right")
        place = nodes.url.removeprefix("redis+cluster://")
        ours = front(f"redis+cluster://:wrong-one@{place}", PATIENT)
        refused(ours, "invalid username-password")
        assert "wrong-one" not in ours.text()
        with_it = front(f"redis+cluster://:right@{place}", PATIENT)
        eventually(lambda: healthy(with_it))
    finally:
        nodes.stop()


def test_a_certificate_that_is_not_trusted(tmp_path: Path, front: Front) -> None:
    if not has_tls():
        pytest.skip("this redis-server was built without TLS")
    theirs = Certificates(tmp_path / "theirs", "redis.example.org")
    strange = Certificates(tmp_path / "strange", "127.0.0.1")
    nodes = RedisCluster(tmp_path / "cluster", tls=theirs)
    try:
        refused(front(nodes.url, PATIENT), "certificate verify failed")
        unknown = f"{nodes.url}?ssl_ca_certs={strange.authority}"
        refused(front(unknown, PATIENT), "certificate verify failed")
        elsewhere = f"{nodes.url}?ssl_ca_certs={theirs.authority}"
        refused(front(elsewhere, PATIENT), "certificate is not valid for '127.0.0.1'")
    finally:
        nodes.stop()
