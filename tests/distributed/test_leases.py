"""Leases of look-ups that are answered after later commands of the same connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.distributed.redis_server import RedisServer
from tests.integration.running import RunningServer

pytestmark = pytest.mark.needs("redis-server", "redis-cli")


@pytest.fixture
def server(empty_redis: RedisServer, front: Callable[..., RunningServer]) -> RunningServer:
    return front(empty_redis.url)


def test_a_deletion_ends_the_lease_of_a_look_up_under_way(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(b"GET\tk\nDEL\tk\n")
        assert (client.line(), client.line()) == (b"NF\n", b"DEL nf\n")
        assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
        assert client.ask(b"GET\tk") == b"VALUE\tv\n"


def test_a_store_uses_the_lease_of_a_look_up_under_way(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(b"GET\tk\nPUT\tk\t-\tt\told\n")
        assert (client.line(), client.line()) == (b"NF\n", b"OK\n")
        assert server.ask(b"INV_TAG\tt") == b"INV_TAG\t1\n"
        assert client.ask(b"PUT\tk\t-\tt\tnew") == b"OK\n"
        assert client.ask(b"GET\tk") == b"VALUE\tnew\n"


def test_a_look_up_after_a_deletion_has_a_lease_of_its_own(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(b"GET\tk\nDEL\tk\nGET\tk\n")
        assert [client.line() for _ in range(3)] == [b"NF\n", b"DEL nf\n", b"NF\n"]
        assert server.ask(b"INV_TAG\tt") == b"INV_TAG\t0\n"
        assert client.ask(b"PUT\tk\t-\tt\told") == b"OK\n"
        assert client.ask(b"GET\tk") == b"NF\n"


def test_a_store_is_refused_whose_tags_by_a_rule_were_invalidated(
    empty_redis: RedisServer, front: Callable[..., RunningServer]
) -> None:
    server = front(empty_redis.url, tag_rules={"posts": ["post:{id}:*", "post:{id}"]})
    with server.connect() as client:
        assert client.ask(b"GET\tpost:1:body") == b"NF\n"
        assert server.ask(b"PUT\tpost:1:title\t-\t-\tv") == b"OK\n"
        assert server.ask(b"INV_TAG\tpost:1") == b"INV_TAG\t1\n"
        assert client.ask(b"PUT\tpost:1:body\t-\t-\told") == b"OK\n"
        assert client.ask(b"GET\tpost:1:body") == b"NF\n"
