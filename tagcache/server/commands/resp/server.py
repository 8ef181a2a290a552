"""The commands of Redis clients that concern the server."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Generator, Mapping
from functools import cache
from struct import calcsize
from typing import TYPE_CHECKING, Any

import tagcache
from tagcache.config.settings import Settings
from tagcache.server.commands.resp.arguments import integer
from tagcache.server.commands.resp.connection import REDIS_VERSION
from tagcache.server.commands.resp.glob import matcher
from tagcache.server.commands.resp.syntax import arguments_of, encode
from tagcache.server.commands.resp.table import NO_KEYS, Caller, RedisError, RespCommand, shown
from tagcache.server.commands.table import Reply
from tagcache.server.observe.traffic import Slow, Traffic
from tagcache.server.then import then
from tagcache.wire import resp

if TYPE_CHECKING:
    from tagcache.server.resp.caller import RespCaller

_SLOW_SHOWN = 10
# The most arguments of COMMAND INFO and COMMAND DOCS.
_MOST_NAMES = 128
# The Redis policy that is closest to each of ours.
_POLICIES = {
    "sieve": "allkeys-lru",
    "lru": "allkeys-lru",
    "noeviction": "noeviction",
    None: "noeviction",
}
_UNITS = "KMGT"
_SECTIONS = (
    *("server", "clients", "memory", "persistence", "stats", "replication", "cluster"),
    "keyspace",
)


class ServerCommands:
    """The commands, bound to their collaborators.

    ``info`` returns the reply to the line protocol's INFO, or a Deferred of it.
    """

    def __init__(
        self,
        info: Callable[[], Any],
        settings: Callable[[], Settings],
        traffic: Traffic,
        wall: Callable[[], float],
    ) -> None:
        self._info = info
        self._settings = settings
        self._traffic = traffic
        self._wall = wall

    def rows(self) -> tuple[RespCommand, ...]:
        """Return these commands for the table."""
        return (
            RespCommand(b"INFO", -1, self.info, transaction=False, summary="figures"),
            RespCommand(b"CONFIG", -2, self.config, transaction=False, summary="a few settings"),
            RespCommand(
                b"COMMAND",
                -1,
                self.command,
                transaction=False,
                summary="the commands of this server",
                most=_MOST_NAMES,
            ),
            RespCommand(b"SLOWLOG", -2, self.slowlog, summary="slow commands"),
            RespCommand(b"TIME", 1, self.time, summary="seconds since 1970, and microseconds"),
            RespCommand(b"ROLE", 1, role, summary="master: there are no replicas"),
        )

    def info(self, caller: Caller, arguments: list[bytes]) -> Reply:
        asked = {shown(each).lower() for each in arguments[1:]}
        everything = not asked or not asked.isdisjoint({"all", "default", "everything"})

        def write(described: dict[str, Any]) -> bytes:
            sections = self._sections(described)
            text = "\r\n".join(
                f"# {name.capitalize()}\r\n"
                + "".join(f"{field}:{value}\r\n" for field, value in sections[name].items())
                for name in _SECTIONS
                if everything or name in asked
            )
            return resp.verbatim(text, caller.resp)

        return then(self._info(), write)

    def _sections(self, described: dict[str, Any]) -> dict[str, Mapping[str, Any]]:
        settings = self._settings()
        server, cache = described["server"], described["cache"]
        connections = described["connections"]
        memory = cache["memory_used_bytes"]
        return {
            "server": {
                "redis_version": REDIS_VERSION,
                "redis_mode": "standalone",
                "tagcache_version": tagcache.__version__,
                "os": f"{platform.system()} {platform.release()} {platform.machine()}",
                "arch_bits": calcsize("P") * 8,
                "multiplexing_api": server["event_loop"],
                "native_core": server["native_core"],
                "process_id": os.getpid(),
                "tcp_port": settings.server.tcp_port,
                "uptime_in_seconds": int(server["uptime_seconds"]),
                "uptime_in_days": int(server["uptime_seconds"]) // 86400,
            },
            "clients": {
                "connected_clients": connections["clients"],
                "maxclients": connections["max_connections"],
                "blocked_clients": 0,
            },
            "memory": {
                "used_memory": memory,
                "used_memory_human": _human(memory),
                "maxmemory": cache["max_memory_bytes"],
                "maxmemory_human": _human(cache["max_memory_bytes"]),
                "maxmemory_policy": _POLICIES[cache["eviction_policy"]],
            },
            "persistence": {"loading": 0, "rdb_bgsave_in_progress": 0, "aof_enabled": 0},
            "stats": {
                "total_connections_received": connections["total"],
                "total_commands_processed": sum(self._traffic.commands().values()),
                "rejected_connections": connections["refused"],
                "keyspace_hits": cache["hits"],
                "keyspace_misses": cache["misses"],
                "expired_keys": cache["expirations"],
                "evicted_keys": cache["evictions"],
            },
            "replication": {"role": "master", "connected_slaves": 0},
            "cluster": {"cluster_enabled": 0},
            "keyspace": _keyspace(described["databases"]),
        }

    def config(self, caller: Caller, arguments: list[bytes]) -> Reply:
        what = arguments[1].upper()
        if what == b"GET" and len(arguments) > 2:
            values = self._values(caller)

            def work() -> Generator[None, None, bytes]:
                found: set[str] = set()
                for pattern in arguments[2:]:
                    test = matcher(pattern.lower())
                    found.update(name for name in values if test is None or test(name.encode()))
                    yield
                named = {name: value for name, value in values.items() if name in found}
                return resp.dump(named, caller.resp)

            return caller.run_work(work())
        if what == b"RESETSTAT":
            raise RedisError("ERR counts start at the start of the server, and are not reset")
        raise RedisError(
            "ERR only CONFIG GET is supported; change the configuration file, and reload it with "
            "SIGHUP"
        )

    def _values(self, caller: Caller) -> dict[str, str]:
        return {
            "maxmemory": str(caller.engine.max_memory),
            "maxmemory-policy": _POLICIES[caller.engine.eviction_policy],
            "save": "",
            "appendonly": "no",
            "databases": str(self._settings().cache.databases),
            "timeout": str(int(self._settings().performance.idle_timeout_seconds)),
        }

    def command(self, caller: RespCaller, arguments: list[bytes]) -> Reply:
        rows = {row.verb: row for row in caller.commands}
        asked = [name.upper() for name in arguments[2:]]
        match arguments[1].upper() if len(arguments) > 1 else b"":
            case b"":
                return resp.dump([_described(row) for row in rows.values()], caller.resp)
            case b"COUNT":
                return resp.integer(len(rows))
            case b"LIST":
                return resp.dump([verb.lower() for verb in rows], caller.resp)
            case b"INFO":
                named = [rows.get(name) for name in asked or rows]
                return resp.dump([row and _described(row) for row in named], caller.resp)
            case b"DOCS":
                docs: list[bytes] = []
                for name in asked or rows:
                    if name in rows:
                        docs += _documented(name, rows[name].summary, caller.resp)
                return resp.mapping(docs, caller.resp)
        raise RedisError("ERR there are COMMAND COUNT, COMMAND INFO, COMMAND DOCS, COMMAND LIST")

    def slowlog(self, caller: Caller, arguments: list[bytes]) -> Reply:
        match arguments[1].upper(), len(arguments):
            case b"GET", 2 | 3:
                count = integer(arguments[2]) if len(arguments) == 3 else _SLOW_SHOWN
                slow = self._traffic.slow() if count < 0 else self._traffic.slow(count)
                return resp.dump([_slow(each) for each in slow], caller.resp)
            case b"LEN", 2:
                return resp.integer(len(self._traffic.slow()))
            case b"RESET", 2:
                self._traffic.forget_slow()
                return resp.OK
        raise RedisError("ERR there are SLOWLOG GET [count], SLOWLOG LEN and SLOWLOG RESET")

    def time(self, caller: Caller, arguments: list[bytes]) -> Reply:
        seconds, rest = divmod(int(self._wall() * 1_000_000), 1_000_000)
        return resp.dump([b"%d" % seconds, b"%d" % rest], caller.resp)


def _keyspace(databases: list[dict[str, Any]]) -> dict[str, str]:
    return {
        f"db{each['db']}": f"keys={each['items']},expires=0,avg_ttl=0"
        for each in databases
        if each["items"]
    }


def role(caller: Caller, arguments: list[bytes]) -> Reply:
    return resp.dump([b"master", 0, []], caller.resp)


def _slow(slow: Slow) -> list[Any]:
    argument = [] if slow.argument is None else [slow.argument]
    return [
        slow.id,
        int(slow.time),
        int(slow.duration_ms * 1000),
        [slow.command, *argument],
        slow.peer,
        "",
    ]


@cache
def _documented(verb: bytes, summary: str, protocol: int) -> tuple[bytes, bytes]:
    """Return what COMMAND DOCS replies for a command: its name, and its documentation."""
    docs = [resp.bulk(word) for word in (b"summary", summary.encode(), b"group", b"generic")]
    docs += resp.bulk(b"arguments"), encode(arguments_of(verb), protocol)
    return resp.bulk(verb.lower()), resp.mapping(docs, protocol)


def _described(row: RespCommand) -> list[Any]:
    """Return what COMMAND INFO replies for a command."""
    flags = ["write" if row.writes else "readonly"] if row.keys != NO_KEYS else ["loading"]
    return [row.verb.lower(), row.arity, flags, *row.keys, [], [], [], []]


def _human(size: int) -> str:
    """Return a number of bytes as Redis shows it to people."""
    if size < 1024:
        return f"{size}B"
    power = min((size.bit_length() - 1) // 10, len(_UNITS))
    return f"{size / 1024**power:.2f}{_UNITS[power - 1]}"
