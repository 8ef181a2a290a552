"""The state of the Redis servers, as they report it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from tagcache.redis.pipeline import Client


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of a server; ``used_memory`` and ``max_memory`` (0: no limit) are in bytes.

    ``policy`` is its maxmemory-policy, empty if unknown.
    """

    address: str
    version: str
    used_memory: int
    max_memory: int
    policy: str

    def describe(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "address": self.address,
            "version": self.version,
            "used_memory_bytes": self.used_memory,
            "max_memory_bytes": self.max_memory,
            "eviction_policy": self.policy,
        }


async def look_at(client: Client) -> list[ServerState]:
    """Return the state of the server, or each primary of a cluster. Raises RedisError, OSError."""
    if isinstance(client, RedisCluster):
        await client.initialize()
        nodes = client.get_primaries()
        told = {node.name: await _ask(client, target_nodes=node) for node in nodes}
    else:
        place = client.connection_pool.connection_kwargs
        name = place.get("path") or f"{place.get('host', 'localhost')}:{place.get('port', 6379)}"
        told = {name: await _ask(client)}
    return [_state(name, info) for name, info in sorted(told.items())]


async def drop_connections(client: Client) -> None:
    """Close every connection; the next command opens a new one."""
    if isinstance(client, RedisCluster):
        await client.aclose()
    else:
        await client.connection_pool.disconnect()


async def _ask(client: Client, **where: Any) -> dict[str, Any]:
    info: dict[str, Any] = await client.info(**where)
    if "maxmemory_policy" not in info:
        with suppress(ResponseError):
            told = await client.config_get("maxmemory-policy", **where)
            info["maxmemory_policy"] = told.get("maxmemory-policy", "")
    return info


def _state(name: str, info: dict[str, Any]) -> ServerState:
    valkey = info.get("valkey_version")
    return ServerState(
        name,
        f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version', '?')}",
        int(info.get("used_memory", 0)),
        int(info.get("maxmemory", 0)),
        str(info.get("maxmemory_policy", "")),
    )
