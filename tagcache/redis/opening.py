"""Assembles the Redis engine."""

from __future__ import annotations

import time
from random import Random
from typing import Any

from tagcache.config.limits import limits_of, near_limits
from tagcache.config.settings import Settings
from tagcache.model.activity import Activity
from tagcache.model.interfaces import ICache
from tagcache.redis.availability import Availability
from tagcache.redis.cache import RedisCache
from tagcache.redis.connection import connect, is_cluster, without_password
from tagcache.redis.engine import RedisEngine
from tagcache.redis.near import Near
from tagcache.redis.partitions import Partitions
from tagcache.redis.pipeline import ScriptPipeline
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.tracking import Tracking
from tagcache.redis.upkeep import Upkeep

# A cluster cannot have more useful shards than there are partitions.
_PARTITIONS = 64
# Small batches, so that upkeep does not delay clients.
_FEW_TOGETHER = 2


def open_engine(settings: Settings, near_store: ICache, reactor: Any) -> RedisEngine:
    """Return the engine of section ``[engine]``; ``near_store`` is the store of its near cache."""
    engine = settings.engine
    timeout = engine.timeout_ms / 1000
    policies = PolicyCheck(engine.allow_evicting_policies)
    client = connect(engine.url, timeout, engine.connections, policies)
    loop = reactor._asyncioEventloop
    availability = Availability(without_password(engine.url))
    note = availability.note

    near = tracking = None
    if engine.near_cache_mb:
        near_store.limits = near_limits(settings)
        near = Near(near_store, time.monotonic)
        tracking = Tracking(
            client, engine.key_prefix, near, loop, time.monotonic, availability.note
        )

    def moved() -> None:
        if tracking is not None:
            tracking.begin_anew()

    pipelines = [
        ScriptPipeline(client, loop, timeout, note, moved) for _ in range(engine.connections)
    ]
    background = ScriptPipeline(client, loop, timeout, note, moved, _FEW_TOGETHER)
    partitions = _PARTITIONS if is_cluster(engine.url) else 1
    cache = RedisCache(
        Partitions(pipelines, engine.key_prefix, partitions, background),
        limits_of(settings),
        Activity(Random()),  # noqa: S311 - it only picks samples
        time.monotonic,
        near,
    )
    every = [*pipelines, background]
    upkeep = Upkeep(cache, every, client, availability, reactor, policies, near, tracking)
    upkeep.configure(settings)
    return RedisEngine(cache, upkeep)
