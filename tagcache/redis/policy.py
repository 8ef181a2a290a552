"""Check the eviction policy of a Redis server: it must not evict records of invalidations."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError, ResponseError

# Either reply contains the policy. CONFIG is last, because many managed servers forbid it, and
# Redis records each refusal in its ACL log.
_QUESTIONS = (("INFO", "memory"), ("CONFIG", "GET", "maxmemory-policy"))


class EvictingPolicy(ConnectionError):
    """A server may evict keys without a time to live, such as the record of an invalidation.

    This is a ConnectionError, so that redis-py sends no command on the connection.
    """

    def __init__(self, address: str, policy: str) -> None:
        super().__init__(
            f"{address} has maxmemory-policy {policy}, which may evict the record of an "
            "invalidation: set noeviction or a volatile policy there, or "
            "engine.allow_evicting_policies = true here"
        )


class PolicyCheck:
    """Refuses servers that evict keys without a time to live, unless ``allows_evicting``."""

    def __init__(self, allows_evicting: bool) -> None:
        self.allows_evicting = allows_evicting

    def check(self, address: str, policy: str) -> None:
        """Raise EvictingPolicy if the policy is refused; an unknown one ("") is accepted."""
        if not self.allows_evicting and is_evicting(policy):
            raise EvictingPolicy(address, policy)

    async def ask(self, connection: Any) -> None:
        """Check the server of a connection. Raises EvictingPolicy, RedisError."""
        policy = ""
        for question in _QUESTIONS:
            if not policy:
                await connection.send_command(*question)
                with suppress(ResponseError):
                    policy = _policy_in(await connection.read_response())
        host, port = getattr(connection, "host", None), getattr(connection, "port", None)
        self.check(f"{host}:{port}" if host else str(getattr(connection, "path", "?")), policy)


def is_evicting(policy: str) -> bool:
    """Return whether the policy also evicts keys without a time to live."""
    return policy.startswith("allkeys")


def _policy_in(answer: Any) -> str:
    """Return the policy in an answer to INFO or CONFIG GET; empty if there is none."""
    if isinstance(answer, bytes):
        _, _, rest = answer.partition(b"maxmemory_policy:")
        return rest.split(b"\r\n", 1)[0].decode()
    pairs = answer.items() if isinstance(answer, dict) else [answer] if answer else []
    return "".join(bytes(policy).decode() for _, policy in pairs)
