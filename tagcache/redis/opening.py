"""Assemble the Redis engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from tagcache.config.limits import limits_of, near_limits
from tagcache.config.settings import Settings
from tagcache.model.activity import Activity
from tagcache.model.interfaces import ICache
from tagcache.model.limits import Limits
from tagcache.model.numbered import Numbered
from tagcache.redis.availability import Availability
from tagcache.redis.cache import RedisCache
from tagcache.redis.caches import RedisCaches
from tagcache.redis.connection import connect, is_cluster, without_password
from tagcache.redis.databases import RedisDatabases
from tagcache.redis.layout import Layout
from tagcache.redis.lease_ends import LeaseEnds
from tagcache.redis.near import Near
from tagcache.redis.partitions import Partitions
from tagcache.redis.pipeline import ScriptPipeline
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.servers import Servers
from tagcache.redis.tracking import Tracking
from tagcache.redis.upkeep import Upkeep

# Upkeep uses small batches, so that it does not delay clients.
_FEW_TOGETHER = 2


class NearCaches(Protocol):
    """The caches in this process, one for each database, all with the same limits."""

    limits: Limits

    def __getitem__(self, number: int) -> ICache:
        """Return the cache for a database."""


def _track(
    settings: Settings,
    near_caches: NearCaches,
    servers: Servers,
    loop: Any,
    note: Callable[[str], None],
) -> tuple[Numbered[Near] | None, Tracking | None]:
    """Return the near caches and their tracking, if near caches are configured."""
    engine = settings.engine
    if not engine.near_cache_mb:
        return None, None
    near_caches.limits = near_limits(settings)
    count = settings.cache.databases
    nears = Numbered(count, lambda number: Near(near_caches[number], time.monotonic))
    prefix = engine.key_prefix
    return nears, Tracking(servers, prefix, nears, loop, time.monotonic, note)


def open_databases(settings: Settings, near_caches: NearCaches, reactor: Any) -> RedisDatabases:
    """Return the databases of section ``[engine]``; ``near_caches`` are for the near cache."""
    engine = settings.engine
    timeout = engine.timeout_ms / 1000
    policies = PolicyCheck(engine.allow_evicting_policies)
    servers = connect(engine.url, timeout, policies)
    loop = reactor._asyncioEventloop
    availability = Availability(without_password(engine.url))
    note = availability.note
    prefix, count = engine.key_prefix, settings.cache.databases

    nears, tracking = _track(settings, near_caches, servers, loop, note)

    def moved() -> None:
        caches.leases_ended()
        if tracking is not None:
            tracking.begin_anew()

    pipelines = [
        ScriptPipeline(servers, loop, timeout, note, moved) for _ in range(engine.connections)
    ]
    background = ScriptPipeline(servers, loop, timeout, note, moved, _FEW_TOGETHER)
    number = engine.partitions if is_cluster(engine.url) else 1
    layout = Layout(background, prefix, number, note)

    def partitions_of(database: int) -> Partitions:
        return Partitions(pipelines, prefix, number, background, database, layout)

    def make(database: int) -> RedisCache:
        return RedisCache(
            partitions_of(database),
            limits_of(settings),
            Activity(Random()),  # noqa: S311 - it only picks samples
            time.monotonic,
            None if nears is None else nears[database],
            is_heard=lambda: ends.is_heard,
        )

    caches = RedisCaches(count, make, partitions_of)
    heard = caches.lease_ended, caches.leases_ended_in, caches.leases_ended
    ends = LeaseEnds(servers, prefix, loop, *heard)
    every = [*pipelines, background]
    upkeep = Upkeep(caches, every, servers, availability, reactor, policies, nears, tracking, ends)
    upkeep.configure(settings)
    return RedisDatabases(caches, upkeep)
