"""What a Redis server may evict: never that by which an invalidation holds."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError, ResponseError

# Either tells the policy. CONFIG is forbidden on many managed servers, and Redis notes a refusal in
# its ACL log: it comes last.
_QUESTIONS = (("INFO", "memory"), ("CONFIG", "GET", "maxmemory-policy"))


class EvictingPolicy(ConnectionError):
    """A server may evict what has no time to live, and so the record of an invalidation.

    It is an error of the connection: no command may be sent on one.
    """

    def __init__(self, address: str, policy: str) -> None:
        super().__init__(
            f"{address} has maxmemory-policy {policy}, which may evict the record of an "
            "invalidation: set noeviction or a volatile policy there, or "
            "engine.allow_evicting_policies = true here"
        )


class PolicyCheck:
    """Refuses servers with such a policy, unless ``allows_evicting``."""

    def __init__(self, allows_evicting: bool) -> None:
        self.allows_evicting = allows_evicting

    def check(self, address: str, policy: str) -> None:
        """Raise EvictingPolicy if the policy must not be; an unknown one ("") may."""
        if not self.allows_evicting and is_evicting(policy):
            raise EvictingPolicy(address, policy)

    async def ask(self, connection: Any) -> None:
        """Ask a server, on a connection to it. Raises EvictingPolicy, RedisError."""
        policy = ""
        for question in _QUESTIONS:
            if not policy:
                await connection.send_command(*question)
                with suppress(ResponseError):
                    policy = _policy_in(await connection.read_response())
        host, port = getattr(connection, "host", None), getattr(connection, "port", None)
        self.check(f"{host}:{port}" if host else str(getattr(connection, "path", "?")), policy)


def is_evicting(policy: str) -> bool:
    """Say whether everything may be evicted, with a time to live or without."""
    return policy.startswith("allkeys")


def _policy_in(answer: Any) -> str:
    """Return the policy that INFO or CONFIG GET told; empty if neither did."""
    if isinstance(answer, bytes):
        _, _, rest = answer.partition(b"maxmemory_policy:")
        return rest.split(b"\r\n", 1)[0].decode()
    pairs = answer.items() if isinstance(answer, dict) else [answer] if answer else []
    return "".join(bytes(policy).decode() for _, policy in pairs)
