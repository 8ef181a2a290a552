"""Puts a remote engine together."""

from __future__ import annotations

import time
from dataclasses import replace
from random import Random
from typing import Any

from tagcache.config.settings import Settings
from tagcache.model.activity import Activity
from tagcache.model.interfaces import ICache
from tagcache.model.limits import Limits
from tagcache.redis.cache import RedisCache
from tagcache.redis.connection import connect, is_cluster, without_password
from tagcache.redis.near import Near
from tagcache.redis.partitions import Partitions
from tagcache.redis.pipeline import Lane
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.tracking import Tracking
from tagcache.server.backend import Backend
from tagcache.server.line.factory import limits_of

# A cluster cannot spread the entries over more shards than there are partitions.
_PARTITIONS = 64
# So that upkeep takes turns with what clients wait for.
_FEW_TOGETHER = 2


def near_limits(settings: Settings) -> Limits:
    """Return the limits of a cache that keeps entries near."""
    most = settings.engine.near_cache_mb * 1024 * 1024
    # The time to live of each was decided where it comes from.
    return replace(limits_of(settings), default_ttl_ms=0, max_memory=most)


def open_backend(settings: Settings, here: ICache, reactor: Any) -> tuple[Backend, RedisCache]:
    """Return the engine of ``[engine]``, and the service that looks after it.

    ``here`` is a cache in memory, for what is kept near.
    """
    engine = settings.engine
    timeout = engine.timeout_ms / 1000
    policies = PolicyCheck(engine.allow_evicting_policies)
    client = connect(engine.url, timeout, engine.connections, policies)
    loop = reactor._asyncioEventloop
    backends: list[Backend] = []

    def trouble(error: str) -> None:
        backends[0].note(error)

    near = tracking = None
    if engine.near_cache_mb:
        near = Near(here, time.monotonic)
        tracking = Tracking(client, engine.key_prefix, near, loop, time.monotonic, trouble)

    def moved() -> None:
        if tracking is not None:
            tracking.begin_anew()

    lanes = [Lane(client, loop, timeout, trouble, moved) for _ in range(engine.connections)]
    background = Lane(client, loop, timeout, trouble, moved, _FEW_TOGETHER)
    cache = RedisCache(
        Partitions(
            lanes, engine.key_prefix, _PARTITIONS if is_cluster(engine.url) else 1, background
        ),
        limits_of(settings),
        Activity(Random()),  # noqa: S311 - it only picks samples
        time.monotonic,
        near,
    )
    place = without_password(engine.url)
    every = [*lanes, background]
    backends.append(Backend(cache, every, client, place, reactor, policies, near, tracking))
    backends[0].configure(settings)
    return backends[0], cache
