"""The URL of Redis, and a client for it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from tagcache.redis import scripts
from tagcache.redis.options import BadUrl, read_query
from tagcache.redis.pipeline import Client
from tagcache.redis.policy import PolicyCheck

__all__ = ["BadUrl", "check_url", "connect", "is_cluster", "without_password"]

_Prepare = Callable[[Any], Awaitable[None]]
_CLUSTER = re.compile(r"(rediss?)\+cluster://(.*)", re.DOTALL)


def is_cluster(url: str) -> bool:
    """Say whether the URL names a cluster."""
    return _CLUSTER.fullmatch(url) is not None


def without_password(url: str) -> str:
    """Return the URL without the name and the password of the user."""
    # Up to the last @: a password may contain one.
    return re.sub(r"//.*@", "//***@", url, flags=re.DOTALL)


def check_url(url: str) -> None:
    """Raise BadUrl if the URL cannot be used."""
    cluster = _CLUSTER.fullmatch(url)
    if cluster is not None:
        _read_cluster(cluster[1], cluster[2])
    else:
        _pool(url, 1.0, 1)


def connect(url: str, timeout: float, connections: int, policies: PolicyCheck) -> Client:
    """Return a client that connects when it is used; ``timeout`` is in seconds.

    Raises BadUrl.
    """
    cluster = _CLUSTER.fullmatch(url)
    prepare = partial(_prepare, policies)
    if cluster is not None:
        return _cluster(cluster[1], cluster[2], timeout, connections, prepare)
    return Redis.from_pool(_pool(url, timeout, connections, prepare))


def _pool(
    url: str, timeout: float, connections: int, prepare: _Prepare | None = None
) -> BlockingConnectionPool:
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise BadUrl(
            "must begin with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://"
        )
    place, _, query = url.partition("?")
    if "#" in place:
        raise BadUrl("contains a #; in a password, write %23")
    parts, _ = _split(place)
    if parts.scheme == "unix" and not parts.path:
        raise BadUrl("names no socket; write unix:///path")
    if parts.scheme != "unix" and not re.fullmatch(r"/?|/\d+", parts.path):
        raise BadUrl("only the number of a database may follow the host")
    options = read_query(query, parts.scheme == "rediss", database=parts.scheme == "unix")
    try:
        return BlockingConnectionPool.from_url(
            place,
            max_connections=connections + 1,
            timeout=timeout,
            socket_timeout=None,
            socket_connect_timeout=timeout,
            # A command that is sent twice could count twice; the caller gets an error instead.
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=prepare,
            protocol=2,
            **options,
        )
    except ValueError as error:
        raise BadUrl(str(error)) from None


def _cluster(
    scheme: str, rest: str, timeout: float, connections: int, prepare: _Prepare
) -> RedisCluster:
    login, nodes, options = _read_cluster(scheme, rest)
    user, _, password = login.partition(":")
    client = RedisCluster(
        startup_nodes=nodes,
        username=unquote(user) or None,
        password=unquote(password) or None,
        ssl=scheme == "rediss",
        max_connections=max(connections * 2, 16),
        # Otherwise redis-py gives up after 5 s, whatever engine.timeout_ms is.
        socket_timeout=None,
        socket_connect_timeout=timeout,
        require_full_coverage=False,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        **options,
    )
    # The constructor has no parameter for this; the nodes that it discovers get these arguments.
    client.connection_kwargs["redis_connect_func"] = prepare
    return client


async def _prepare(policies: PolicyCheck, connection: Any) -> None:
    """Log in, check the eviction policy, and load the scripts.

    A script that is not loaded would run after the others in its batch. Raises EvictingPolicy.
    """
    await connection.on_connect()
    await policies.ask(connection)
    commands = [("SCRIPT", "LOAD", each.text) for each in scripts.EVERY]
    await connection.send_packed_command(connection.pack_commands(commands))
    for _ in commands:
        # A user without permission to load scripts may still run them.
        with suppress(ResponseError):
            await connection.read_response()


def _read_cluster(scheme: str, rest: str) -> tuple[str, list[ClusterNode], dict[str, Any]]:
    """Parse ``[user:password@]host:port,...[?query]``.

    Returns the login, the nodes, and the query as arguments of redis-py. Raises BadUrl.
    """
    place, _, query = rest.partition("?")
    place, _, path = place.partition("/")
    if path:
        raise BadUrl("a cluster has one database: nothing may follow the hosts")
    login, _, hosts = place.rpartition("@")
    nodes = []
    for host in filter(None, hosts.split(",")):
        parts, port = _split(f"//{host}")
        if not parts.hostname:
            raise BadUrl(f"{host!r} is not a host")
        nodes.append(ClusterNode(parts.hostname, port or 6379))
    if not nodes:
        raise BadUrl("names no host")
    return login, nodes, read_query(query, scheme == "rediss")


def _split(place: str) -> tuple[SplitResult, int | None]:
    """Return the parts and the port. Raises BadUrl."""
    try:
        parts = urlsplit(place)
        return parts, parts.port
    except ValueError:
        # The text of the ValueError may quote a part of a password that contains a /.
        raise BadUrl("a port is a number up to 65535; in a password, write %2F for /") from None
