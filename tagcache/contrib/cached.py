"""A decorator that caches the results of a function with tags.

>>> @cached(client, key="page:{post_id}", tags=["post:{post_id}"], ttl="5m")
... def render(post_id: int) -> str:
...     return f"<p>{post_id}</p>"
>>> render(7), render.key(7), client.keys_by_tag("post:7")  # from the cache, or produced and stored
('<p>7</p>', 'page:7', ['page:7'])
>>> client.invalidate_tag("post:7"), render.invalidate(7)
(1, False)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from tagcache.client import AsyncClient, AsyncShardedClient, cache_tag
from tagcache.client._sync.client import BlockingClient
from tagcache.client.arguments import Duration, Tag
from tagcache.client.compute_options import ComputeOptions, DurationOf
from tagcache.client.early import Early, early_of
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
    ttl: DurationOf | None = None,
    grace: Duration | None = None,
    wait: Duration | None = None,
    early: Early | float | None = None,
    type: Any = None,
) -> _Decorator: ...


@overload
def cached(
    client: AsyncClient | AsyncShardedClient,
    *,
    key: Key = None,
    tags: Tags = (),
    ttl: DurationOf | None = None,
    grace: Duration | None = None,
    wait: Duration | None = None,
    early: Early | float | None = None,
    type: Any = None,
) -> _AsyncDecorator: ...


def cached(
    client: Any,
    *,
    key: Key = None,
    tags: Tags = (),
    ttl: DurationOf | None = None,
    grace: Duration | None = None,
    wait: Duration | None = None,
    early: Early | float | None = None,
    type: Any = None,
) -> Any:
    """Return a decorator that stores the results of a function in the cache of ``client``.

    Functions need a blocking client, coroutine functions a client for asyncio.

    ``key`` is a format string over the parameters (``"post:{post_id}"``), or a callable that gets
    the arguments; without it, the key consists of the function's qualified name and its arguments,
    which must be plain values. ``tags`` are format strings over the parameters and ``result``
    (``"author:{result.author}"``), or a callable that gets the arguments, and ``result=`` if it
    has that parameter; a function's own parameter of that name comes first. ``cache_tag`` in the
    function adds tags to its result, and to those of cached functions around it. ``ttl`` is
    seconds, a timedelta, text like "5m", or a function of the result that returns one of them;
    None: as the server is configured. ``grace``, ``wait`` and ``early`` are those of
    ``get_or_set``. ``type`` is the type of the result, for a client with ``serde=msgspec``; None:
    that of the function's annotation.

    The decorated function has ``invalidate`` and ``key``, which take its arguments.

    Raises BadArgument. If no key can be made from the arguments, the call raises it.
    """
    options = ComputeOptions(ttl, grace, wait, early_of(early))
    awaits = isinstance(client, (AsyncClient, AsyncShardedClient))
    if not awaits and not isinstance(client, BlockingClient):
        raise BadArgument(f"cached needs a blocking client or one for asyncio, not {client!r}")

    def decorate(function: Callable[..., Any]) -> Any:
        if inspect.iscoroutinefunction(function) != awaits:
            kind = "coroutine function" if awaits else "plain function"
            raise BadArgument(f"with {client!r} this must be a {kind}: {function!r}")
        kind_of = CachedCoroutine if awaits else CachedFunction
        return kind_of(client, function, key, tags, options, type)

    return decorate
