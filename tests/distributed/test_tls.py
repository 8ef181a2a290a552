"""TLS to Redis: which servers are trusted, which are not, and what is reported."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.distributed.certificates import Certificates
from tests.distributed.redis_server import RedisCluster, RedisServer, has_tls
from tests.distributed.test_servers import UNAVAILABLE, healthy, http
from tests.integration.running import RunningServer, eventually

pytestmark = [pytest.mark.needs("redis-server", "redis-cli"), pytest.mark.slow]

Redis = Callable[..., RedisServer]
Front = Callable[..., RunningServer]


@pytest.fixture(autouse=True, scope="module")
def with_tls() -> None:
    if not has_tls():
        why = "this redis-server was built without TLS"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of the servers."""
    return Certificates(tmp_path_factory.mktemp("ours"), "localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of another authority."""
    return Certificates(tmp_path_factory.mktemp("strange"), "localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def tls_cluster(
    ours: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisCluster]:
    nodes = RedisCluster(tmp_path_factory.mktemp("cluster"), tls=ours)
    yield nodes
    nodes.stop()


# Long, for a busy machine, where the connection is to succeed.
PATIENT = {"timeout_ms": 10_000}


def trusting(server: RedisServer, certificates: Certificates, more: str = "") -> str:
    return f"rediss://localhost:{server.port}/0?ssl_ca_certs={certificates.authority}{more}"


def one_cache(one: RunningServer, two: RunningServer) -> None:
    """Use all kinds of commands through two servers."""
    eventually(lambda: healthy(one) and healthy(two))
    with one.connect() as a, two.connect() as b:
        # In a cluster they are in many partitions, and so on all nodes.
        for number in range(100):
            assert a.ask(b"PUT\tk%d\t60000\tx\tv" % number) == b"OK\n"
        assert {b.ask(b"GET\tk%d" % number) for number in range(100)} == {b"VALUE\tv\n"}
        assert b.ask(b"INV_TAG\tx") == b"INV_TAG\t100\n"
        assert a.ask(b"GET\tk1") == b"NF\n"
        assert a.ask(b"INCR\tn\t5") == b"VALUE\t5\n"
        assert b.ask(b"FLUSH") == b"FLUSH\t1\n"
    # Larger than a TLS record.
    large = "x" * 200_000
    assert http(one, "POST", "/put", {"key": "h", "value": large})[0] == 200
    assert http(two, "GET", "/get/h") == (200, {"value": large})


def refused(server: RunningServer, *because: str) -> None:
    """Check that the log and ``/health`` say why, and that clients get an error."""
    text = server.wait_for_log("cannot be used: ")
    health = http(server, "GET", "/health")
    assert (health[0], health[1]["status"]) == (200, "degraded")
    for said in (text, health[1]["detail"]):
        assert any(each in said for each in because), said
    assert server.ask(b"GET\tk") == UNAVAILABLE
    assert server.ask(b"PING") == b"PONG\n"


def test_two_servers_are_one_cache(redis: Redis, front: Front, ours: Certificates) -> None:
    server = redis(tls=ours)
    one_cache(front(trusting(server, ours), PATIENT), front(trusting(server, ours), PATIENT))


def test_before_a_cluster(tls_cluster: RedisCluster, front: Front, ours: Certificates) -> None:
    url = f"{tls_cluster.url}?ssl_ca_certs={ours.authority}"
    one_cache(front(url, PATIENT), front(url, PATIENT))


def test_an_unknown_authority(
    redis: Redis, front: Front, ours: Certificates, strange: Certificates
) -> None:
    server = redis(tls=ours)
    refused(front(f"rediss://localhost:{server.port}", PATIENT), "certificate verify failed")
    refused(front(trusting(server, strange), PATIENT), "certificate verify failed")
    anybody = front(f"rediss://localhost:{server.port}?ssl_cert_reqs=none", PATIENT)
    assert anybody.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"


def test_another_host(redis: Redis, front: Front, tmp_path: Path) -> None:
    elsewhere = Certificates(tmp_path / "elsewhere", "redis.example.org")
    server = redis(tls=elsewhere)
    refused(
        front(trusting(server, elsewhere), PATIENT),
        "certificate is not valid for 'localhost'",
    )
    lenient = front(trusting(server, elsewhere, "&ssl_check_hostname=false"), PATIENT)
    assert lenient.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"


def test_another_host_in_a_cluster(front: Front, tmp_path: Path) -> None:
    elsewhere = Certificates(tmp_path / "elsewhere", "redis.example.org")
    nodes = RedisCluster(tmp_path / "cluster", tls=elsewhere)
    try:
        url = f"{nodes.url}?ssl_ca_certs={elsewhere.authority}"
        lenient = f"{url}&ssl_check_hostname=false"
        one_cache(front(lenient, PATIENT), front(lenient, PATIENT))
    finally:
        nodes.stop()


def test_certificates_of_clients(
    redis: Redis, front: Front, ours: Certificates, strange: Certificates
) -> None:
    server = redis("--tls-auth-clients", "yes", tls=ours)

    def showing(whose: Certificates) -> str:
        shown = f"&ssl_certfile={whose.client_certificate}&ssl_keyfile={whose.client_key}"
        return trusting(server, ours, shown)

    one_cache(front(showing(ours), PATIENT), front(showing(ours), PATIENT))
    # With TLS 1.3 a client sees the refusal after the handshake, or only a closed connection.
    hung_up = ("Connection reset by peer", "Connection closed by server", "Connection lost")
    refused(front(trusting(server, ours), PATIENT), "certificate required", *hung_up)
    refused(front(showing(strange), PATIENT), "unknown ca", *hung_up)


def test_the_oldest_version(redis: Redis, front: Front, ours: Certificates) -> None:
    server = redis("--tls-protocols", "TLSv1.2", tls=ours)
    assert front(trusting(server, ours), PATIENT).ask(b"PUT\tk\t-\t-\tv") == b"OK\n"
    refused(
        front(trusting(server, ours, "&ssl_min_version=772"), PATIENT),
        "PROTOCOL_VERSION",
        "version",
    )


def test_tls_on_one_side_only(redis: Redis, front: Front, ours: Certificates) -> None:
    with_it, without = redis(tls=ours), redis()
    refused(
        front(f"redis://localhost:{with_it.port}", PATIENT),
        "Connection closed",
        "reset by peer",
        "Connection lost",
    )
    # A server without TLS takes the ClientHello for the beginning of a command.
    refused(front(trusting(without, ours), {"timeout_ms": 2000}), "no answer in time")


def test_a_redis_that_goes_and_comes_back(redis: Redis, front: Front, ours: Certificates) -> None:
    server = redis(tls=ours)
    before = front(trusting(server, ours), PATIENT)
    assert before.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"
    server.stop()
    assert before.ask(b"GET\tk") == UNAVAILABLE
    server.start()
    eventually(lambda: healthy(before))
    assert before.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("ssl_ca_cert=x", "'ssl_ca_cert' is unknown; options after the ? are: ssl_ca_certs"),
        ("ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs: /nowhere/ca.pem: No such file"),
    ],
)
@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
def test_what_would_not_be_used_stops_the_start(
    scheme: str, query: str, why: str, start: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGCACHE_TEST_REACTOR", "asyncio")
    engine = {"backend": "redis", "url": f"{scheme}://:hush@localhost:1?{query}"}
    server = start({"engine": engine}, wait=False)
    assert server.process.wait(60) == 1
    assert f"engine.url: {why}" in server.text()
    assert "hush" not in server.text()
