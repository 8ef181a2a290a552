"""A decorator that keeps the results of a function in the cache, under tags.

@cached(client, key="post:{post_id}", tags=lambda post_id: [f"post:{post_id}"], ttl=60)
def render(post_id: int) -> str: ...

render(7)              # from the cache, or produced and stored
render.invalidate(7)   # or: client.invalidate_tag("post:7")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from tagcache.client import AsyncClient, AsyncShardedClient, cache_tag
from tagcache.client._sync.client import BlockingClient
from tagcache.client.arguments import Tag, Ttl
from tagcache.client.compute_options import ComputeOptions
from tagcache.contrib._async.cached import CachedCoroutine
from tagcache.contrib._sync.cached import CachedFunction
from tagcache.errors import BadArgument

__all__ = ["cache_tag", "cached"]

P = ParamSpec("P")
T = TypeVar("T")
Key = str | Callable[..., str] | None
Tags = Iterable[Tag] | Callable[..., Iterable[Tag]]


class _Decorator(Protocol):
    def __call__(self, function: Callable[P, T]) -> CachedFunction[P, T]: ...


class _AsyncDecorator(Protocol):
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> CachedCoroutine[P, T]: ...


@overload
def cached(
    client: BlockingClient,
    *,
    key: Key = None,
    tags: Tags = (),
    ttl: Ttl | None = None,
    grace: Ttl | None = None,
    wait: Ttl | None = None,
) -> _Decorator: ...


@overload
def cached(
    client: AsyncClient | AsyncShardedClient,
    *,
    key: Key = None,
    tags: Tags = (),
    ttl: Ttl | None = None,
    grace: Ttl | None = None,
    wait: Ttl | None = None,
) -> _AsyncDecorator: ...


def cached(
    client: Any,
    *,
    key: Key = None,
    tags: Tags = (),
    ttl: Ttl | None = None,
    grace: Ttl | None = None,
    wait: Ttl | None = None,
) -> Any:
    """Return a decorator that keeps the results of a function in the cache of ``client``.

    A blocking client is for functions, a client for asyncio is for coroutine functions. ``key`` is
    a format string over the parameters (``"post:{post_id}"``), or a callable that gets the
    arguments; without it, the key consists of the function's qualified name and its arguments,
    which must be plain values. ``tags`` are the tags, or a callable that gets the arguments.
    ``ttl`` is seconds or a timedelta; None: as the server is configured. ``cache_tag`` in the
    function adds tags to its result, and to those of cached functions around it. ``grace`` and
    ``wait`` are those of ``get_or_set``.

    Raises BadArgument. If no key can be made of the arguments, the call raises it.
    """
    options = ComputeOptions(ttl, grace, wait)
    awaits = isinstance(client, (AsyncClient, AsyncShardedClient))
    if not awaits and not isinstance(client, BlockingClient):
        raise BadArgument(f"cached needs a blocking client or one for asyncio, not {client!r}")

    def decorate(function: Callable[..., Any]) -> Any:
        if inspect.iscoroutinefunction(function) != awaits:
            kind = "coroutine function" if awaits else "plain function"
            raise BadArgument(f"with {client!r} this must be a {kind}: {function!r}")
        kind_of = CachedCoroutine if awaits else CachedFunction
        return kind_of(client, function, key, tags, options)

    return decorate
