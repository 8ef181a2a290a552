"""The Redis servers behind ``engine.url``: connections to them, and their state."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from twisted.logger import Logger

from tagcache.redis.scripts import ADOPT
from tagcache.redis.topology import Address, ITopology

# How long a server may take to tell of the others.
_ASK_SECONDS = 1.0
# How long another server may take to tell its home.
_HOME_SECONDS = 1.0
# How often it is looked whether another server has taken over, while one is suspect.
WATCH_SECONDS = 0.1

log = Logger(namespace="tagcache.backend")


class Dialer:
    """Makes connections, of ``connection_class`` and with these ``options`` (redis-py's)."""

    def __init__(self, connection_class: type[AbstractConnection], options: dict[str, Any]) -> None:
        self.connection_class = connection_class
        self.options = options

    def dial(self, address: Address, **more: Any) -> Any:
        """Return a connection that is not open yet."""
        where: dict[str, Any] = {"host": address.host, "port": address.port}
        if address.port is None:
            where = {"path": address.host}
        return self.connection_class(**{**self.options, **where, **more})


async def make_ready(connection: Any) -> bool:
    """Open a connection, or anew one that was closed; return whether it is another one now."""
    if connection.is_connected and not await connection.can_read():
        return False
    # What can be read between commands is the end of the stream, or nothing that was asked for.
    await connection.disconnect(nowait=True)
    await connection.connect()
    return True


# The home of a replica, which has no partition: the scripts refuse it.
_OF_A_REPLICA = "a replica"


async def home_on(connection: Any) -> str:
    """Return the home of partitions at the server of a connection; empty if it does not tell.

    It is another one after a restart, and after a replica has taken over. Raises RedisError.
    """
    await connection.send_command("INFO")
    try:
        return _home_in(read_info(await connection.read_response()))
    except ResponseError:
        # A user without permission to run INFO.
        return ""


def _home_in(info: dict[str, str]) -> str:
    if info.get("role") == "slave":
        return _OF_A_REPLICA
    # Not the replication ID: that also changes when a first replica comes.
    return info.get("run_id", "")


class _Line:
    """A connection for questions, one at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    async def ask(self, *words: str) -> Any:
        async with self._lock:
            try:
                await make_ready(self._connection)
                await self._connection.send_command(*words)
                return await self._connection.read_response()
            except ResponseError:
                raise
            except BaseException:
                await self._connection.disconnect(nowait=True)
                raise

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)


class User(Protocol):
    """Who has connections to the servers."""

    def suspects(self) -> list[Address]:
        """Return the servers that fail, or have not answered for some time."""

    def rerouted(self) -> None:
        """Be told that partitions may have another server now."""


class Servers:
    """Connections to the servers of ``topology``.

    ``dialer`` makes those for commands, and ``guides`` those to whom knows where the partitions
    are: nodes of the cluster, or Sentinels. ``generation`` changes when all are to be made anew.
    ``flush_on_failover`` says whether partitions begin empty where they may be old. A change is to
    be confirmed by ``wait_replicas`` replicas within ``wait_ms`` milliseconds.
    """

    def __init__(self, topology: ITopology, dialer: Dialer, guides: Dialer) -> None:
        self.topology = topology
        self.dialer = dialer
        self.generation = 0
        self.flush_on_failover = True
        self.wait_replicas = 0
        self.wait_ms = 0
        # Those that had partitions, unless they failed. One without any may have moved them.
        self._seen: set[Address] = set()
        # By root: the server that moves a partition, its home, and to whom.
        self._moving: dict[str, tuple[Address, str, Address]] = {}
        self._logged: set[tuple[Address, str]] = set()
        self._guides = guides
        self._lines: dict[tuple[Dialer, Address], _Line] = {}
        self._users: list[User] = []
        self._looking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._alarm = asyncio.Event()

    def configure(self, flush_on_failover: bool, wait_replicas: int, wait_ms: int) -> None:
        """Apply the knobs of these names in ``[engine]``."""
        self.flush_on_failover = flush_on_failover
        self.wait_replicas = wait_replicas
        self.wait_ms = wait_ms

    def attach(self, user: User, loop: asyncio.AbstractEventLoop) -> None:
        """Look for the partitions whenever a server is suspect to this user."""
        self._users.append(user)
        if self.topology.may_change and self._watching is None:
            self._watching = loop.create_task(self._watch())

    def alarm(self, address: Address) -> None:
        """Look for the partitions soon: this server has just failed."""
        self._seen.discard(address)
        self._moving = {k: move for k, move in self._moving.items() if move[0] != address}
        self._alarm.set()

    def note_moving(self, root: str, source: Address, home: str | None, target: Address) -> None:
        """Note that the server at ``source``, with this home, is moving a partition to another."""
        if home:
            self._moving[root] = source, home, target

    async def look(self) -> None:
        """Learn where the partitions are. Raises RedisError, OSError."""
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())
        # Several wait for one answer, and each may give up.
        await asyncio.shield(self._looking)

    async def known_nodes(self) -> list[Address]:
        """Return all servers, after looking for them. Raises RedisError, OSError."""
        await self.look()
        return list(self.topology.nodes)

    async def ask(self, address: Address, *words: str) -> Any:
        """Send a command to a server, and return its answer. Raises RedisError, OSError."""
        return await self._line(self.dialer, address).ask(*words)

    async def adopt(self, address: Address, root: str) -> None:
        """Make a server the home of a partition that had another one. Raises RedisError, OSError.

        The entries are kept if a server moved them that still is what it was; otherwise the
        partition begins empty: they may be older than what clients were told.
        """
        info = read_info(await self.ask(address, "INFO"))
        home = _home_in(info)
        if home == _OF_A_REPLICA:
            raise ReadOnlyError(f"{address} is a replica")
        others = {*self._seen, *self.topology.primaries} - {address}
        # The primary that this one was a replica of moved nothing, though it may not know yet that
        # it was replaced.
        replaced = info.get("master_replid2")
        told = await asyncio.gather(*map(self._info_of, others))
        homes = {_home_in(each) for each in told if each.get("master_replid") != replaced}
        move = self._moving.get(root)
        if move is not None and move[2] == address:
            # A node that has given away its last slot becomes a replica, and has another home.
            homes.add(move[1])
        homes -= {"", _OF_A_REPLICA}
        kept = await self.ask(address, "EVAL", ADOPT.text.decode(), "1", root, *homes, home)
        if not kept and (address, home) not in self._logged:
            self._logged.add((address, home))
            log.warn(
                "{address} was restarted or has taken over: its partitions begin empty, as "
                "they may be older than what clients were told",
                address=str(address),
            )

    async def _info_of(self, address: Address) -> dict[str, str]:
        """Return what a server that may have moved partitions tells; empty if it is away."""
        with suppress(RedisError, OSError):
            async with asyncio.timeout(_HOME_SECONDS):
                return read_info(await self.ask(address, "INFO"))
        return {}

    async def drop(self) -> None:
        """Close every connection; the next command opens a new one."""
        self.generation += 1
        for line in self._lines.values():
            await line.close()

    async def close(self) -> None:
        """Stop watching, and close the connections that are not a user's."""
        for task in (self._watching, self._looking):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._watching = None
        await self.drop()

    async def _look(self) -> None:
        try:
            await self.topology.look(self._ask_guide, self._suspects())
        finally:
            self._looking = None
        self._seen.update(self.topology.primaries)
        for user in self._users:
            user.rerouted()

    def _suspects(self) -> set[Address]:
        return {address for user in self._users for address in user.suspects()}

    async def _watch(self) -> None:
        while True:
            if not self._suspects():
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_SECONDS):
                        await self._alarm.wait()
            is_alarmed = self._alarm.is_set()
            self._alarm.clear()
            if is_alarmed or self._suspects():
                # If nobody knows, calls fail and tell why.
                with suppress(RedisError, OSError):
                    await self.look()
                await asyncio.sleep(WATCH_SECONDS)

    async def _ask_guide(self, address: Address, *words: str) -> Any:
        async with asyncio.timeout(_ASK_SECONDS):
            return await self._line(self._guides, address).ask(*words)

    def _line(self, dialer: Dialer, address: Address) -> _Line:
        line = self._lines.get((dialer, address))
        if line is None:
            line = self._lines[dialer, address] = _Line(dialer.dial(address))
        return line


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of a server; ``used_memory`` and ``max_memory`` (0: no limit) are in bytes.

    ``policy`` is its maxmemory-policy, and ``home`` that of partitions there, empty if unknown.
    """

    address: str
    version: str
    used_memory: int
    max_memory: int
    policy: str
    home: str = ""

    def describe(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "address": self.address,
            "version": self.version,
            "used_memory_bytes": self.used_memory,
            "max_memory_bytes": self.max_memory,
            "eviction_policy": self.policy,
        }


async def look_at(servers: Servers) -> list[ServerState]:
    """Return the state of each primary. Raises RedisError, OSError."""
    await servers.look()
    told = {str(address): await _ask(servers, address) for address in servers.topology.primaries}
    return [_state(name, info) for name, info in sorted(told.items())]


def read_info(text: bytes) -> dict[str, str]:
    """Return the fields of an answer to INFO."""
    lines = text.decode("utf-8", "replace").split("\r\n")
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


async def _ask(servers: Servers, address: Address) -> dict[str, str]:
    info = read_info(await servers.ask(address, "INFO"))
    if "maxmemory_policy" not in info:
        with suppress(ResponseError):
            told = await servers.ask(address, "CONFIG", "GET", "maxmemory-policy")
            info["maxmemory_policy"] = told[1].decode() if told else ""
    return info


def _state(name: str, info: dict[str, str]) -> ServerState:
    valkey = info.get("valkey_version")
    return ServerState(
        name,
        f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version', '?')}",
        int(info.get("used_memory", 0)),
        int(info.get("maxmemory", 0)),
        info.get("maxmemory_policy", ""),
        _home_in(info),
    )
