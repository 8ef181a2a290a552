"""Elect the server that does the upkeep, and pass on what it sees to the others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tagcache.model.statistics import Counters, EngineTotals
from tagcache.redis.cache import RedisCache
from tagcache.redis.deferreds import as_deferred
from tagcache.redis.servers import ServerState


@dataclass(frozen=True, slots=True)
class Seen:
    """What a round of upkeep saw in a database: the totals, leases that are out, stale entries."""

    totals: EngineTotals
    leases: int
    stale: int

    @classmethod
    def of(cls, cache: RedisCache) -> Seen:
        """Return what the last round saw."""
        return cls(cache.seen, cache.fresh.out, cache.fresh.stale)

    def apply(self, cache: RedisCache) -> None:
        """Let a cache report these figures."""
        cache.seen = self.totals
        cache.fresh.out, cache.fresh.stale = self.leases, self.stale


@dataclass(frozen=True, slots=True)
class Report:
    """What the elected server saw in its last round: the Redis servers, and the databases."""

    servers: list[ServerState]
    databases: dict[int, Seen]

    @classmethod
    def of(cls, servers: list[ServerState], caches: Iterable[tuple[int, RedisCache]]) -> Report:
        """Return the report of this server."""
        return cls(servers, {number: Seen.of(cache) for number, cache in caches})

    def encode(self) -> bytes:
        """Return the report as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, text: bytes) -> Report | None:
        """Read a report; None if another version wrote it."""
        try:
            told = json.loads(text)
            servers = [ServerState(**each) for each in told["servers"]]
            return cls(servers, {int(n): _seen(each) for n, each in told["databases"].items()})
        except (ValueError, TypeError, LookupError):
            return None


def _seen(told: dict[str, Any]) -> Seen:
    totals = told.pop("totals")
    counters = Counters(**totals.pop("counters"))
    return Seen(EngineTotals(**totals, counters=counters), **told)


class Election:
    """Elects one of the servers by a lease in Redis, which is in the first partition of ``cache``.

    It only saves work: several elected servers do no harm. ``is_elected`` says whether this server
    won the last election. ``token`` is different for each server, and not 0.
    """

    def __init__(self, cache: RedisCache, token: int) -> None:
        self.is_elected = False
        self._cache = cache
        self._token = token

    @as_deferred
    async def stand(self, seconds: float, report: Report) -> Report | None:
        """Try to be elected for so long; returns the report of another server that is elected.

        Without one that can be read, returns None. Fails with CommandError.
        """
        self.is_elected = False
        milliseconds = max(int(seconds * 1000), 1)
        won, told = await self._cache.elect(self._token, milliseconds, report.encode())
        self.is_elected = bool(won)
        return None if won else Report.decode(told)

    @as_deferred
    async def resign(self) -> None:
        """Let another server be elected. Fails with CommandError."""
        if self.is_elected:
            self.is_elected = False
            await self._cache.elect(self._token, 0, b"")
