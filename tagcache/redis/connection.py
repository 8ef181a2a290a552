"""Parse the URL of Redis, and connect to the servers that it names."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from tagcache.redis import scripts
from tagcache.redis.options import BadUrl, read_query
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.servers import Dialer, Servers
from tagcache.redis.topology import Address, Cluster, ITopology, OneServer, Sentinels

__all__ = ["BadUrl", "check_url", "connect", "is_cluster", "without_password"]

_SEVERAL = re.compile(r"(rediss?)\+(cluster|sentinel)://(.*)", re.DOTALL)
_PORT = 6379
_SENTINEL_PORT = 26379


class _Target(NamedTuple):
    """The contents of a URL: where the partitions are, and how to connect.

    ``guides`` are the options of connections to the servers that know where the partitions are.
    """

    topology: ITopology
    connection_class: type[AbstractConnection]
    options: dict[str, Any]
    guides: dict[str, Any]


def is_cluster(url: str) -> bool:
    """Return whether the URL names a cluster."""
    several = _SEVERAL.fullmatch(url)
    return several is not None and several[2] == "cluster"


def without_password(url: str) -> str:
    """Return the URL without the name and the password of the user."""
    # Up to the last @: a password may contain one.
    return re.sub(r"//.*@", "//***@", url, flags=re.DOTALL)


def check_url(url: str) -> None:
    """Raise BadUrl if the URL cannot be used."""
    _read(url)


def connect(url: str, timeout: float, policies: PolicyCheck) -> Servers:
    """Return servers, to which connections are made when they are used.

    ``timeout`` is that of connecting, in seconds. Raises BadUrl.
    """
    target = _read(url)
    options: dict[str, Any] = {
        # Our calls have their own timeout. redis-py's would interrupt commands regardless of it.
        "socket_timeout": None,
        "socket_connect_timeout": timeout,
        # Do not retry: a command sent twice could count twice. The caller gets an error instead.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    prepare = partial(_prepare, policies)
    return Servers(
        target.topology,
        Dialer(
            target.connection_class,
            {**options, **target.options, "redis_connect_func": prepare},
        ),
        Dialer(target.connection_class, {**options, **target.guides}),
    )


def _read(url: str) -> _Target:
    several = _SEVERAL.fullmatch(url)
    if several is None:
        return _read_single(url)
    return _read_several(several[1], several[2] == "sentinel", several[3])


def _read_single(url: str) -> _Target:
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise BadUrl(
            "must begin with redis://, rediss://, unix://, redis+cluster://, rediss+cluster://, "
            "redis+sentinel:// or rediss+sentinel://"
        )
    place, _, query = url.partition("?")
    if "#" in place:
        raise BadUrl("contains a #; in a password, write %23")
    parts, port = _split(place)
    if parts.scheme == "unix" and not parts.path:
        raise BadUrl("names no socket; write unix:///path")
    if parts.scheme != "unix" and not re.fullmatch(r"/?|/\d+", parts.path):
        raise BadUrl("only the number of a database may follow the host")
    options = read_query(query, parts.scheme == "rediss", database=parts.scheme == "unix")
    options |= _login(parts.username, parts.password)
    if parts.scheme == "unix":
        address = Address(unquote(parts.path), None)
        return _Target(OneServer(address), UnixDomainSocketConnection, options, options)
    options["db"] = int(parts.path.strip("/") or 0)
    address = Address(parts.hostname or "localhost", port or _PORT)
    return _Target(OneServer(address), _class_for(parts.scheme), options, options)


def _class_for(scheme: str) -> type[AbstractConnection]:
    return SSLConnection if scheme == "rediss" else Connection


def _login(user: str | None, password: str | None) -> dict[str, str | None]:
    return {"username": unquote(user or "") or None, "password": unquote(password or "") or None}


async def _prepare(policies: PolicyCheck, connection: Any) -> None:
    """Log in, check the eviction policy, and load the scripts.

    A script that is not loaded fails at first, and so runs after the others in its batch. Raises
    EvictingPolicy.
    """
    await connection.on_connect()
    await policies.ask(connection)
    commands = [("SCRIPT", "LOAD", each.text) for each in scripts.EVERY]
    await connection.send_packed_command(connection.pack_commands(commands))
    for _ in commands:
        # A user without permission to load scripts may still run them.
        with suppress(ResponseError):
            await connection.read_response()


def _read_several(scheme: str, sentinel: bool, rest: str) -> _Target:
    """Parse ``[user:password@]host:port,...[/service[/database]][?query]``. Raises BadUrl."""
    place, _, query = rest.partition("?")
    place, _, path = place.partition("/")
    login, _, hosts = place.rpartition("@")
    user, _, password = login.partition(":")
    options = read_query(query, scheme == "rediss", sentinel=sentinel)
    own = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    login_of = _login(user, password)
    if not sentinel:
        if path:
            raise BadUrl("a cluster has one database: nothing may follow the hosts")
        options |= login_of
        return _Target(Cluster(_addresses(hosts, _PORT)), _class_for(scheme), options, options)
    service = re.fullmatch(r"([^/]+)(?:/(\d+))?", path)
    if service is None:
        raise BadUrl("the name of the service must follow the Sentinels; a database may follow it")
    topology = Sentinels(_addresses(hosts, _SENTINEL_PORT), unquote(service[1]))
    database = {"db": int(service[2] or 0)}
    return _Target(
        topology, _class_for(scheme), {**options, **login_of, **database}, {**options, **own}
    )


def _addresses(hosts: str, default_port: int) -> list[Address]:
    """Parse ``host:port,...``. Raises BadUrl."""
    found = []
    for host in filter(None, hosts.split(",")):
        parts, port = _split(f"//{host}")
        if not parts.hostname:
            raise BadUrl(f"{host!r} is not a host")
        found.append(Address(parts.hostname, port or default_port))
    if not found:
        raise BadUrl("names no host")
    return found


def _split(place: str) -> tuple[SplitResult, int | None]:
    """Return the parts and the port. Raises BadUrl."""
    try:
        parts = urlsplit(place)
        return parts, parts.port
    except ValueError:
        # The text of the ValueError may quote a part of a password that contains a /.
        raise BadUrl("a port is a number up to 65535; in a password, write %2F for /") from None
