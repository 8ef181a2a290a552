"""Clients: blocking, for asyncio, for Twisted, and over several servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tagcache.client._async.client import AsyncClient
from tagcache.client._async.sharded import AsyncShardedClient
from tagcache.client._sync.client import Client, Pipeline
from tagcache.client._sync.sharded import ShardedClient
from tagcache.client.breaker import State
from tagcache.client.collecting import cache_tag
from tagcache.client.early import Early
from tagcache.client.options import Options
from tagcache.client.requests import Stats

if TYPE_CHECKING:
    from tagcache.client.deferred import DeferredClient

__all__ = [
    "AsyncClient",
    "AsyncShardedClient",
    "Client",
    "DeferredClient",
    "Early",
    "Options",
    "Pipeline",
    "ShardedClient",
    "State",
    "Stats",
    "cache_tag",
]


def __getattr__(name: str) -> Any:
    # Programs that do not use Twisted do not load it.
    if name == "DeferredClient":
        from tagcache.client.deferred import DeferredClient

        return DeferredClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
