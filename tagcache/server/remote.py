"""Puts a remote engine together."""

from __future__ import annotations

import time
from random import Random
from typing import Any

from tagcache.config.settings import Settings
from tagcache.engine.activity import Activity
from tagcache.remote.cache import RedisCache
from tagcache.remote.connection import connect, is_cluster, without_password
from tagcache.remote.lanes import Lane
from tagcache.server.backend import Backend
from tagcache.server.factory import limits_of

# A cluster can not spread the entries over more shards than there are partitions.
_PARTITIONS = 64


def open_backend(settings: Settings, reactor: Any) -> tuple[Backend, RedisCache]:
    """Return the engine of ``[engine]``, and the service that looks after it."""
    engine = settings.engine
    timeout = engine.timeout_ms / 1000
    client = connect(engine.url, timeout, engine.connections)
    loop = reactor._asyncioEventloop
    backends: list[Backend] = []

    def trouble(error: str) -> None:
        backends[0].note(error)

    lanes = [Lane(client, loop, timeout, trouble) for _ in range(engine.connections)]
    cache = RedisCache(
        lanes,
        engine.key_prefix,
        _PARTITIONS if is_cluster(engine.url) else 1,
        limits_of(settings),
        Activity(Random()),  # noqa: S311 - it only picks samples
        time.monotonic,
    )
    backends.append(Backend(cache, lanes, client, without_password(engine.url), reactor))
    backends[0].configure(settings)
    return backends[0], cache
