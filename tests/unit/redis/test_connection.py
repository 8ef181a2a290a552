"""What a connection asks and says first, over loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import AuthenticationError

from tagcache.redis import scripts
from tagcache.redis.connection import connect
from tagcache.redis.policy import EvictingPolicy, PolicyCheck
from tests.unit.redis.scripted import (
    Error,
    ScriptedServer,
    in_fake_time,
    slots,
)

NO_PERMISSION = Error("NOPERM User x has no permissions to run it")
INFO = (b"INFO", b"memory")
CONFIG = (b"CONFIG", b"GET", b"maxmemory-policy")
LOADS = [(b"SCRIPT", b"LOAD", each.text) for each in scripts.EVERY]


def info(policy: str) -> bytes:
    return b"# Memory\r\nused_memory:1\r\nmaxmemory_policy:%s\r\nx:1\r\n" % policy.encode()


async def ping(url: str, allows_evicting: bool = False) -> None:
    servers = connect(url, 5.0, PolicyCheck(allows_evicting))
    try:
        for address in await servers.known_nodes():
            await servers.ask(address, "PING")
    finally:
        await servers.close()


@in_fake_time
async def test_a_connection_asks_for_the_policy_and_loads_every_script() -> None:
    async with ScriptedServer() as server:
        server.expect(*INFO, answer=info("volatile-lru"))
        for words in LOADS:
            server.expect(*words, answer=b"digest")
        server.expect(b"PING", answer="PONG")
        await ping(server.url)
        assert CONFIG not in server.greeted


@in_fake_time
async def test_a_login_and_a_database_come_first() -> None:
    async with ScriptedServer() as server:
        server.expect(b"AUTH", b"user", b"p@ss", answer="OK")
        server.expect(b"SELECT", 3, answer="OK")
        server.expect(*INFO, answer=info("noeviction"))
        server.expect(b"PING", answer="PONG")
        await ping(f"redis://user:p%40ss@127.0.0.1:{server.port}/3")
    async with ScriptedServer() as server:
        server.expect(b"AUTH", b"no", answer=Error("WRONGPASS invalid username-password pair"))
        with pytest.raises(AuthenticationError, match="invalid username-password pair"):
            await ping(f"redis://:no@127.0.0.1:{server.port}")


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
@in_fake_time
async def test_a_policy_that_may_evict_an_invalidation_is_refused(policy: str) -> None:
    async with ScriptedServer() as server:
        server.expect(*INFO, answer=info(policy))
        with pytest.raises(EvictingPolicy, match=f"127.0.0.1:{server.port} has .*{policy}"):
            await ping(server.url)
        assert not any(words[0] in (b"SCRIPT", b"PING") for words in server.greeted)
        # It may be allowed.
        server.expect(*INFO, answer=info(policy))
        server.expect(b"PING", answer="PONG")
        await ping(server.url, allows_evicting=True)


@pytest.mark.parametrize("answer", [NO_PERMISSION, b"# Memory\r\nused_memory:1\r\n"])
@in_fake_time
async def test_where_info_does_not_tell_the_policy_config_does(answer: Any) -> None:
    async with ScriptedServer() as server:
        server.expect(*INFO, answer=answer)
        server.expect(*CONFIG, answer=[b"maxmemory-policy", b"allkeys-lru"])
        with pytest.raises(EvictingPolicy):
            await ping(server.url)


@pytest.mark.parametrize("answer", [NO_PERMISSION, []])
@in_fake_time
async def test_a_policy_that_nobody_tells_is_allowed(answer: Any) -> None:
    async with ScriptedServer() as server:
        server.expect(*INFO, answer=NO_PERMISSION)
        server.expect(*CONFIG, answer=answer)
        server.expect(b"PING", answer="PONG")
        await ping(server.url)


@in_fake_time
async def test_who_may_not_load_scripts_may_still_run_them() -> None:
    async with ScriptedServer() as server:
        server.replies[b"SCRIPT"] = NO_PERMISSION
        server.expect(b"PING", answer="PONG")
        await ping(server.url)
        assert [words for words in server.greeted if words[0] == b"SCRIPT"] == LOADS


@in_fake_time
async def test_every_node_of_a_cluster_is_asked() -> None:
    async with ScriptedServer() as one, ScriptedServer() as other:
        one.replies[b"CLUSTER SLOTS"] = slots((0, 8191, one), (8192, 16383, other))
        url = f"redis+cluster://user:word@127.0.0.1:{one.port}"
        for server in (one, other):
            server.replies[b"AUTH"] = "OK"
            server.replies[b"PING"] = "PONG"
        await ping(url)
        for server in (one, other):
            assert INFO in server.greeted
            assert (b"AUTH", b"user", b"word") in server.greeted
            assert [words for words in server.greeted if words[0] == b"SCRIPT"] == LOADS


@in_fake_time
async def test_a_node_with_an_evicting_policy_is_refused() -> None:
    async with ScriptedServer() as server:
        server.replies[b"CLUSTER SLOTS"] = slots((0, 16383, server))
        server.replies[b"INFO"] = info("allkeys-lru")
        with pytest.raises(EvictingPolicy):
            await ping(f"redis+cluster://127.0.0.1:{server.port}")


@in_fake_time
async def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    async with ScriptedServer(path) as server:
        server.replies[b"SELECT"] = "OK"
        server.expect(*INFO, answer=info("allkeys-lru"))
        with pytest.raises(EvictingPolicy, match=f"{path} has maxmemory-policy"):
            await ping(f"unix://{path}?db=2")
        assert (b"SELECT", b"2") in server.greeted
