"""Where Redis is, and a client of it."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from tagcache.remote import scripts
from tagcache.remote.lanes import Client

_CLUSTER = re.compile(r"(rediss?)\+cluster://(.*)", re.DOTALL)


class BadUrl(ValueError):
    """``engine.url`` can not be used; ``str(error)`` says why, without its password."""


def is_cluster(url: str) -> bool:
    """Say whether the URL names a cluster."""
    return _CLUSTER.fullmatch(url) is not None


def without_password(url: str) -> str:
    """Return the URL as it may be shown."""
    return re.sub(r"//[^@/]*@", "//***@", url)


def check_url(url: str) -> None:
    """Raise BadUrl if the URL can not be used."""
    cluster = _CLUSTER.fullmatch(url)
    if cluster is not None:
        _nodes(cluster[2])
    else:
        _pool(url, 1.0, 1)


def connect(url: str, timeout: float, connections: int) -> Client:
    """Return a client, which connects when it is used; ``timeout`` is seconds. Raises BadUrl."""
    cluster = _CLUSTER.fullmatch(url)
    if cluster is not None:
        return _cluster(cluster[1], cluster[2], timeout, connections)
    return Redis.from_pool(_pool(url, timeout, connections))


def _pool(url: str, timeout: float, connections: int) -> BlockingConnectionPool:
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise BadUrl(
            "must begin with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://"
        )
    try:
        return BlockingConnectionPool.from_url(
            url,
            max_connections=connections + 1,
            timeout=timeout,
            socket_timeout=None,
            socket_connect_timeout=timeout,
            # A command that is sent again could count twice; the caller is told instead.
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=_prepare,
            protocol=2,
        )
    except ValueError as error:
        raise BadUrl(str(error)) from None


def _cluster(scheme: str, rest: str, timeout: float, connections: int) -> RedisCluster:
    login, nodes = _nodes(rest)
    user, _, password = login.partition(":")
    client = RedisCluster(
        startup_nodes=nodes,
        username=unquote(user) or None,
        password=unquote(password) or None,
        ssl=scheme == "rediss",
        max_connections=max(connections * 2, 16),
        socket_connect_timeout=timeout,
        require_full_coverage=False,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    # It has no parameter for this; the nodes that it finds are given these.
    client.connection_kwargs["redis_connect_func"] = _prepare
    return client


async def _prepare(connection: Any) -> None:
    """Log in, and see that the server knows the scripts.

    Of those that travel together, one that is not known would be carried out after the others.
    """
    await connection.on_connect()
    commands = [("SCRIPT", "LOAD", each.text) for each in scripts.EVERY]
    await connection.send_packed_command(connection.pack_commands(commands))
    for _ in commands:
        # Who may not do this may still run them.
        with suppress(ResponseError):
            await connection.read_response()


def _nodes(rest: str) -> tuple[str, list[ClusterNode]]:
    """Read ``[user:password@]host:port,...``; returns the login and the nodes. Raises BadUrl."""
    place, _, path = rest.partition("/")
    if path:
        raise BadUrl("a cluster has one database: nothing may follow the hosts")
    login, _, hosts = place.rpartition("@")
    nodes = []
    for host in filter(None, hosts.split(",")):
        try:
            parts = urlsplit(f"//{host}")
            port = parts.port or 6379
        except ValueError as error:
            raise BadUrl(str(error)) from None
        if not parts.hostname:
            raise BadUrl(f"{host!r} is not a host")
        nodes.append(ClusterNode(parts.hostname, port))
    if not nodes:
        raise BadUrl("names no host")
    return login, nodes
