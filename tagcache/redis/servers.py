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

# How long a server may take to answer where the partitions are.
_ASK_SECONDS = 1.0
# How long another server may take to answer with its home.
_HOME_SECONDS = 1.0
# How often to look whether another server has taken over, while one is suspect.
WATCH_SECONDS = 0.1

log = Logger(namespace="tagcache.backend")


class Dialer:
    """Creates connections of ``connection_class`` with these ``options`` of redis-py."""

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
    """Open a connection if it is closed, or unusable; return whether it was opened."""
    if connection.is_connected and not await connection.can_read():
        return False
    # Between commands, only the end of the stream or an unrequested reply can arrive.
    await connection.disconnect(nowait=True)
    await connection.connect()
    return True


# The home of a replica, which has no partitions: the scripts refuse it.
_OF_A_REPLICA = "a replica"


async def home_on(connection: Any) -> str:
    """Return the home of partitions at the server of a connection; empty if it is not known.

    It changes after a restart, and when a replica takes over. Raises RedisError.
    """
    await connection.send_command("INFO")
    try:
        return _home_in(read_info(await connection.read_response()))
    except ResponseError:
        # The user has no permission to run INFO.
        return ""


def _home_in(info: dict[str, str]) -> str:
    if info.get("role") == "slave":
        return _OF_A_REPLICA
    # Not the replication ID, which also changes when the first replica connects.
    return info.get("run_id", "")


class _Line:
    """A connection that sends one command at a time."""

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
    """A user of connections to the servers."""

    def suspects(self) -> list[Address]:
        """Return the servers that failed last, or have not answered for some time."""

    def rerouted(self) -> None:
        """Called when partitions may have moved to another server."""


class Servers:
    """Connections to the servers of ``topology``.

    ``dialer`` creates connections for commands, ``guides`` those to servers that know where the
    partitions are: nodes of the cluster, or Sentinels. ``generation`` changes when all connections
    must be opened anew. ``flush_on_failover`` says whether partitions begin empty if they may be
    out of date. ``wait_replicas`` replicas must confirm a change within ``wait_ms`` milliseconds.
    """

    def __init__(self, topology: ITopology, dialer: Dialer, guides: Dialer) -> None:
        self.topology = topology
        self.dialer = dialer
        self.generation = 0
        self.flush_on_failover = True
        self.wait_replicas = 0
        self.wait_ms = 0
        # The servers that had partitions and have not failed since. One that has none now may have
        # moved them elsewhere.
        self._seen: set[Address] = set()
        # By root: the server that is moving a partition, its home, and the target.
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
        """Add a user; look for the partitions whenever it suspects a server."""
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
        # Shielded, because several callers wait for one answer, and each may be cancelled.
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

        The entries are kept if another server, which has not been restarted or replaced since,
        moved them here. Otherwise they may be older than what clients have seen, and the partition
        begins empty.
        """
        info = read_info(await self.ask(address, "INFO"))
        home = _home_in(info)
        if home == _OF_A_REPLICA:
            raise ReadOnlyError(f"{address} is a replica")
        others = {*self._seen, *self.topology.primaries} - {address}
        # Leave out the former primary of this server: it moved nothing, though it may not yet know
        # that it was replaced.
        replaced = info.get("master_replid2")
        told = await asyncio.gather(*map(self._info_of, others))
        homes = {_home_in(each) for each in told if each.get("master_replid") != replaced}
        move = self._moving.get(root)
        if move is not None and move[2] == address:
            # A node that has moved its last slot away becomes a replica, and its home changes.
            homes.add(move[1])
        homes -= {"", _OF_A_REPLICA}
        kept = await self.ask(address, "EVAL", ADOPT.text.decode(), "1", root, *homes, home)
        if not kept and (address, home) not in self._logged:
            self._logged.add((address, home))
            log.warn(
                "{address} was restarted or has taken over: its partitions begin empty, because "
                "they may be older than what clients have seen",
                address=str(address),
            )

    async def _info_of(self, address: Address) -> dict[str, str]:
        """Return the INFO of a server that may have moved partitions; empty if it is away."""
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
        """Stop watching, and close our own connections."""
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
                # If no server knows, calls fail with the reason.
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

    ``policy`` is its maxmemory-policy, ``home`` the home of its partitions; empty if unknown.
    """

    address: str
    version: str
    used_memory: int
    max_memory: int
    policy: str
    home: str = ""

    def describe(self) -> dict[str, Any]:
        """Return the state as a JSON object."""
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
    """Return the fields of a reply to INFO."""
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
