"""What servers tell of their state, over loopback."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ConnectionError

from tagcache.redis.connection import connect
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.servers import Servers, ServerState, look_at
from tagcache.redis.topology import Address
from tests.unit.redis.scripted import CLOSE, Error, ScriptedServer, in_fake_time, slots

TOLD = (
    b"# Server\r\nredis_version:7.0.15\r\n# Memory\r\nused_memory:1000\r\nmaxmemory:5000\r\n"
    b"maxmemory_policy:volatile-lru\r\n"
)
CONFIG = (b"CONFIG", b"GET", b"maxmemory-policy")


def servers_of(url: str) -> Servers:
    return connect(url, 5.0, PolicyCheck(False))


@in_fake_time
async def test_a_single_server() -> None:
    async with ScriptedServer() as server:
        servers = servers_of(server.url)
        server.expect(b"INFO", b"memory", answer=TOLD)
        server.expect(b"INFO", answer=TOLD)
        (state,) = await look_at(servers)
        assert state == ServerState(
            f"127.0.0.1:{server.port}", "Redis 7.0.15", 1000, 5000, "volatile-lru"
        )
        assert state.describe() == {
            "address": f"127.0.0.1:{server.port}",
            "version": "Redis 7.0.15",
            "used_memory_bytes": 1000,
            "max_memory_bytes": 5000,
            "eviction_policy": "volatile-lru",
        }
        await servers.close()


@pytest.mark.parametrize(
    ("answer", "policy"),
    [([b"maxmemory-policy", b"noeviction"], "noeviction"), (Error("NOPERM no permissions"), "")],
)
@in_fake_time
async def test_where_info_says_little(answer: Any, policy: str) -> None:
    async with ScriptedServer() as server:
        servers = servers_of(server.url)
        server.replies[b"INFO"] = b"# Server\r\nvalkey_version:8.0.1\r\nredis_version:7.2.4\r\n"
        # Once for the connection, once for the state.
        server.expect(*CONFIG, answer=answer)
        server.expect(*CONFIG, answer=answer)
        (state,) = await look_at(servers)
        assert state == ServerState(f"127.0.0.1:{server.port}", "Valkey 8.0.1", 0, 0, policy)
        await servers.close()


@in_fake_time
async def test_every_primary_of_a_cluster() -> None:
    async with ScriptedServer() as one, ScriptedServer() as other:
        one.replies[b"CLUSTER SLOTS"] = slots((0, 8191, other), (8192, 16383, one))
        one.replies[b"INFO"] = TOLD
        other.replies[b"INFO"] = TOLD.replace(b"used_memory:1000", b"used_memory:2000")
        servers = servers_of(f"redis+cluster://127.0.0.1:{one.port}")
        states = await look_at(servers)
        assert [state.address for state in states] == sorted(
            f"127.0.0.1:{server.port}" for server in (one, other)
        )
        used = {state.address: state.used_memory for state in states}
        assert used[f"127.0.0.1:{one.port}"] == 1000
        assert used[f"127.0.0.1:{other.port}"] == 2000
        await servers.drop()


@in_fake_time
async def test_a_server_that_closes_the_connection() -> None:
    async with ScriptedServer() as server:
        servers = servers_of(server.url)
        server.expect(b"INFO", b"memory", answer=TOLD)
        server.expect(b"INFO", answer=CLOSE)
        with pytest.raises(ConnectionError):
            await look_at(servers)
        await servers.close()


@in_fake_time
async def test_connections_that_are_dropped_are_made_anew() -> None:
    async with ScriptedServer() as server:
        server.replies[b"PING"] = "PONG"
        address = Address("127.0.0.1", server.port)
        servers = servers_of(server.url)
        await servers.ask(address, "PING")
        await servers.ask(address, "PING")
        assert server.greeted.count((b"INFO", b"memory")) == 1
        await servers.drop()
        await servers.ask(address, "PING")
        assert server.greeted.count((b"INFO", b"memory")) == 2
        await servers.close()
