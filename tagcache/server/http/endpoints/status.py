"""Endpoints for the state of the server and its cache: counters, configuration, health."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred

from tagcache.config.descriptions import description
from tagcache.config.loading import NEEDS_RESTART, Configuration
from tagcache.model.interfaces import IDatabases
from tagcache.model.statistics import EngineTotals
from tagcache.server.http.application import is_loopback
from tagcache.server.http.databases import DB, engine_of
from tagcache.server.http.messages import Call, EventualResponse, Response, json_response
from tagcache.server.http.routes import Access, route
from tagcache.server.http.schema import ANY, BOOLEAN, INTEGER, NUMBER, STRING, array, nullable, obj
from tagcache.server.observe.host_stats import HostStats
from tagcache.server.then import then

_STATS = obj(
    **dict.fromkeys(("hits", "misses", "puts", "invalidations"), INTEGER),
    hit_ratio=NUMBER,
    **dict.fromkeys(("items", "bytes", "tags", "shard_count"), INTEGER),
    shard_items=array(INTEGER),
    shard_bytes=array(INTEGER),
    expirations=INTEGER,
    evictions=INTEGER,
    memory_used_bytes=nullable(INTEGER),
    max_memory_bytes=INTEGER,
    reclaim_backlog=INTEGER,
    snapshot_age_seconds=nullable(NUMBER),
    snapshot_seconds=nullable(NUMBER),
    snapshot_error=nullable(STRING),
)
_CONFIG = obj(
    file=nullable(STRING),
    knobs=array(
        obj(
            section=STRING,
            key=STRING,
            value=ANY,
            origin={"type": "string", "enum": ["default", "file", "environment"]},
            needs_restart=BOOLEAN,
            description=STRING,
        )
    ),
)
_HEALTH = obj(("detail",), status=STRING, time=STRING, detail=STRING)
_SYSTEM = obj(
    core_count=INTEGER,
    cpu_cores=array(obj(core=INTEGER, frequency=INTEGER, name=STRING, usage=NUMBER)),
    global_cpu_usage=NUMBER,
    timestamp=STRING,
    total_memory=INTEGER,
    used_memory=INTEGER,
)


class Status:
    """Endpoints that describe the server.

    ``snapshots`` describes the persistence; ``info`` returns the reply to INFO.
    """

    def __init__(
        self,
        databases: IDatabases,
        machine: HostStats,
        configuration: Callable[[], Configuration],
        snapshots: Callable[[], dict[str, Any]],
        info: Callable[[], dict[str, Any] | Deferred[dict[str, Any]]],
    ) -> None:
        self._databases = databases
        self._machine = machine
        self._configuration = configuration
        self._snapshots = snapshots
        self._info = info

    @route("GET", "/stats", _STATS, query=(DB,))
    def stats(self, call: Call) -> EventualResponse:
        """Counters, and current totals, of a database."""
        return then(engine_of(self._databases, call).totals(), self._stats)

    def _stats(self, totals: EngineTotals) -> Response:
        snapshots = self._snapshots()
        counters = totals.counters
        return json_response(
            {
                "hits": counters.hits,
                "misses": counters.misses,
                "puts": counters.puts,
                "invalidations": counters.invalidations,
                "hit_ratio": counters.hit_ratio,
                "items": totals.items,
                "bytes": totals.bytes,
                "tags": totals.tags,
                "shard_count": 1,
                "shard_items": [totals.items],
                "shard_bytes": [totals.bytes],
                "expirations": counters.expirations,
                "evictions": counters.evictions,
                "memory_used_bytes": totals.memory,
                "max_memory_bytes": totals.max_memory,
                "reclaim_backlog": totals.backlog,
                "snapshot_age_seconds": snapshots["snapshot_age_seconds"],
                "snapshot_seconds": snapshots["snapshot_seconds"],
                "snapshot_error": snapshots["snapshot_error"],
            }
        )

    @route("GET", "/info", {"type": "object"})
    def info(self, call: Call) -> EventualResponse:
        """The reply to INFO: the server, its listeners, its cache."""
        return then(self._info(), json_response)

    @route("GET", "/config", _CONFIG)
    def config(self, call: Call) -> EventualResponse:
        """Every knob: its value, where the value comes from, what it does; secrets are masked."""
        configuration = self._configuration()
        knobs = [
            {
                "section": section,
                "key": key,
                "value": [str(each) for each in value] if isinstance(value, tuple) else value,
                "origin": origin.value,
                "needs_restart": (section, key) in NEEDS_RESTART,
                "description": description(section, key),
            }
            for section, key, value, origin in configuration.knobs()
        ]
        path = configuration.path
        return json_response({"file": str(path) if path else None, "knobs": knobs})

    @route("GET", "/health", _HEALTH, access=Access.OPEN)
    def health(self, call: Call) -> EventualResponse:
        """Whether the server answers."""
        trouble = self._databases[0].trouble
        if not trouble:
            return json_response({"status": "ok", "time": _now()})
        # The reason contains addresses, which strangers must not see.
        detail = (
            trouble if is_loopback(call.request.peer) else "the engine cannot be reached: see /info"
        )
        return json_response({"status": "degraded", "time": _now(), "detail": detail})

    @route("GET", "/system", _SYSTEM, access=Access.LOOPBACK_OPEN)
    def system(self, call: Call) -> EventualResponse:
        """The processors and memory of the machine."""
        return json_response({**self._machine.usage(), "timestamp": _now()})


def _now() -> str:
    return datetime.now(UTC).isoformat()
