"""A Redis with an allkeys policy is refused: it could evict the record of an invalidation."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tagcache.redis import upkeep
from tagcache.redis.policy import EvictingPolicy, PolicyCheck
from tests.distributed.redis_server import RedisCluster, RedisServer
from tests.distributed.test_servers import UNAVAILABLE, healthy, http
from tests.integration.running import RunningServer, eventually

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
Redis = Callable[..., RedisServer]
Front = Callable[..., RunningServer]
WHY = "has maxmemory-policy allkeys-lru, which may evict the record of an invalidation"


def curl_health(server: RunningServer) -> Any:
    url = f"http://127.0.0.1:{server.http_port}/health"
    done = subprocess.run(["curl", "--silent", url], check=True, capture_output=True)
    return json.loads(done.stdout)


@pytest.mark.needs("curl")
def test_such_a_server_is_refused_from_the_first_command_on(redis: Redis, front: Front) -> None:
    server = redis("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
    ours = front(server.url)
    with ours.connect() as client:
        for request in (b"PUT\tk\t-\tt\tv", b"GET\tk", b"INV_TAGS_ALL\tt", b"FLUSH", b"INCR\tn"):
            assert client.ask(request) == UNAVAILABLE
        assert server.cli("dbsize").strip() == "0"
        eventually(lambda: WHY in curl_health(ours).get("detail", ""))
        assert curl_health(ours)["status"] == "degraded"
        engine = client.json(b"INFO")["engine"]
        assert engine["status"] == "degraded"
        assert f"127.0.0.1:{server.port} {WHY}" in engine["detail"]
        assert http(ours, "GET", "/get/k")[0] == 503
        # The policy is checked again without a restart of either server.
        server.cli("config", "set", "maxmemory-policy", "volatile-lru")
        eventually(lambda: curl_health(ours)["status"] == "ok")
        assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
    assert ours.text().count(WHY) == 1


def test_a_policy_that_changes_is_noticed(redis: Redis, front: Front) -> None:
    server = redis("--maxmemory-policy", "noeviction")
    ours = front(server.url, {"near_cache_mb": 8}, server={"cleanup_interval_seconds": 1})
    # Until then it has not looked at the policy, and is not healthy either.
    eventually(lambda: healthy(ours))
    with ours.connect() as client:
        assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
        eventually(lambda: client.json(b"INFO")["engine"]["near_cache"]["fresh"])
        assert client.ask(b"GET\tk") == b"VALUE\tv\n"
        server.cli("config", "set", "maxmemory-policy", "allkeys-lru")
        eventually(lambda: not healthy(ours))
        # The near cache does not answer either.
        eventually(lambda: client.ask(b"GET\tk") == UNAVAILABLE)
        assert client.ask(b"INV_TAG\tt") == UNAVAILABLE
        said = ours.reload(engine={"allow_evicting_policies": "true"})
        assert "engine.allow_evicting_policies: False -> True" in said
        eventually(lambda: healthy(ours))
        assert client.ask(b"INV_TAG\tt") == b"INV_TAG\t1\n"
        ours.wait_for_log("clients may read invalidated entries again")
        ours.reload(engine={"allow_evicting_policies": "false"})
        eventually(lambda: client.ask(b"GET\tk") == UNAVAILABLE)


def test_it_may_be_allowed_by_name(redis: Redis, front: Front) -> None:
    server = redis("--maxmemory-policy", "allkeys-random")
    ours = front(server.url, {"allow_evicting_policies": "true"})
    assert ours.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
    ours.wait_for_log("has maxmemory-policy allkeys-random")
    assert healthy(ours)


def test_where_only_config_tells_it_is_asked_for(redis: Redis, front: Front) -> None:
    """A user without permission to run INFO."""
    server = redis("--maxmemory-policy", "allkeys-lru")
    server.cli("acl", "setuser", "ours", "on", ">pw", "~*", "&*", "+@all", "-info")
    ours = front(f"redis://ours:pw@127.0.0.1:{server.port}/0")
    assert ours.ask(b"GET\tk") == UNAVAILABLE
    ours.wait_for_log(WHY)


def test_one_node_of_a_cluster(tmp_path_factory: pytest.TempPathFactory, front: Front) -> None:
    nodes = RedisCluster(tmp_path_factory.mktemp("policies"))
    try:
        ours = front(nodes.url, server={"cleanup_interval_seconds": 1})
        eventually(lambda: healthy(ours))
        with ours.connect() as client:
            assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
            nodes.nodes[2].cli("config", "set", "maxmemory-policy", "allkeys-lru")
            eventually(lambda: not healthy(ours))
            ours.wait_for_log(WHY)
            assert client.ask(b"INV_TAG\tt") == UNAVAILABLE
            nodes.nodes[2].cli("config", "set", "maxmemory-policy", "noeviction")
            eventually(lambda: healthy(ours))
            assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
            assert client.ask(b"INV_TAG\tt") == b"INV_TAG\t1\n"
    finally:
        nodes.stop()


class Telling:
    """A connection to a server that gives these answers in turn."""

    host, port = "h", 1

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, ...]] = []

    async def send_command(self, *question: str) -> None:
        self.asked.append(question)

    async def read_response(self) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


FORBIDDEN = ResponseError("unknown command")


@pytest.mark.parametrize(
    ("answers", "refused"),
    [
        ([b"# Memory\r\nmaxmemory_policy:noeviction\r\nx:y\r\n"], False),
        ([b"# Memory\r\nmaxmemory_policy:volatile-ttl\r\n"], False),
        ([b"# Memory\r\nmaxmemory_policy:allkeys-lfu\r\n"], True),
        ([b"# Memory\r\n", [b"maxmemory-policy", b"allkeys-lru"]], True),
        ([FORBIDDEN, {b"maxmemory-policy": b"allkeys-lru"}], True),
        ([FORBIDDEN, [b"maxmemory-policy", b"noeviction"]], False),
        ([b"", []], False),
        ([FORBIDDEN, FORBIDDEN], False),
    ],
)
def test_how_a_server_tells_its_policy(answers: list[Any], refused: bool) -> None:
    connection = Telling(*answers)
    if refused:
        with pytest.raises(EvictingPolicy, match="^h:1 has maxmemory-policy allkeys"):
            asyncio.run(PolicyCheck(False).ask(connection))
    else:
        asyncio.run(PolicyCheck(False).ask(connection))
    asyncio.run(PolicyCheck(True).ask(Telling(*answers)))
    assert [question[0] for question in connection.asked] == ["INFO", "CONFIG"][: len(answers)]
    assert not connection.answers


def test_servers_are_looked_at_once_a_minute_at_least() -> None:
    assert upkeep._LOOK_AGAIN_SECONDS <= 60
