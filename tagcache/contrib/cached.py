"""A decorator that keeps what a function returns in the cache, under tags.

@cached(client, key="post:{post_id}", tags=lambda post_id: [f"post:{post_id}"], ttl=60)
def render(post_id: int) -> str: ...

render(7)              # from the cache, or produced and stored
render.invalidate(7)   # or: client.invalidate_tag("post:7")
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from tagcache.client.asynchronous import AsyncClient
from tagcache.client.awaiting import AwaitedClient
from tagcache.client.binding import BlockingCommands
from tagcache.client.blocking import BlockingClient
from tagcache.client.requests import Tag, Ttl, ttl_ms
from tagcache.client.sharded import AsyncShardedClient
from tagcache.contrib.keys import KeyMaker
from tagcache.contrib.room import check_room
from tagcache.contrib.single_flight import AsyncSingleFlight, Flight, SingleFlight
from tagcache.errors import BadArgument, Refused

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")
Key = str | Callable[..., str] | None
Tags = Iterable[Tag] | Callable[..., Iterable[Tag]]

_ABSENT = object()


class _Cached(Generic[C]):
    """What both kinds of cached function share; ``client`` is of type C."""

    __wrapped__: Callable[..., Any]

    def __init__(
        self, client: C, function: Callable[..., Any], key: Key, tags: Tags, ttl: Ttl | None
    ) -> None:
        functools.update_wrapper(cast(Any, self), function)
        ttl_ms(ttl)
        if isinstance(tags, (str, bytes)):
            raise BadArgument(f"tags must be several, not one {type(tags).__name__}")
        self._client = client
        self._function = function
        self._make_key = KeyMaker(function, key)
        self._tags = tags if callable(tags) else tuple(tags)
        self._ttl = ttl
        # What a method is bound to.
        self._bound: tuple[Any, ...] = ()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        method = copy.copy(self)
        method._bound = (instance,)
        return method

    def __repr__(self) -> str:
        return f"<cached {self._function!r}>"

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of what the function returns for these arguments.

        The client's ``key_prefix`` comes before it. Raises BadArgument where none can be made.
        """
        return self._make_key(*self._bound, *args, **kwargs)

    def _tags_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tag, ...]:
        if not callable(self._tags):
            return self._tags
        found = self._tags(*args, **kwargs)
        if isinstance(found, (str, bytes)):
            raise BadArgument(f"tags must return several, not one {type(found).__name__}")
        return tuple(found)


class CachedFunction(_Cached[BlockingClient], Generic[P, T]):
    """A function whose results are kept in the cache; it is called as before.

    Of several threads that call it with the same arguments while the cache has nothing, one
    produces, and the others get its result or exception. Raises what the function and the client
    raise.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._flights = SingleFlight()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        given = (*self._bound, *args)
        key = self._make_key(*given, **kwargs)
        found = self._client.get(key, _ABSENT)
        if found is _ABSENT:
            found = self._flights.run(key, lambda flight: self._made(flight, key, given, kwargs))
        return cast(T, found)

    def _made(
        self, flight: Flight[Any], key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        # Another may have stored it between the first look and now.
        found = self._client.get(key, _ABSENT)
        if found is not _ABSENT:
            return cast(T, found)
        tags = self._tags_of(args, kwargs)
        found = self._function(*args, **kwargs)
        if not flight.is_stale():
            try:
                self._client.put(key, found, tags=tags, ttl=self._ttl)
            except Refused as error:
                check_room(key, error)
            if flight.is_stale():
                self._client.delete(key)
        return cast(T, found)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove what is stored for these arguments; say whether it was there.

        What is being produced in this process at the moment is not stored then.
        """
        key = self.key(*args, **kwargs)
        self._flights.forget(key)
        return self._client.delete(key)


class CachedCoroutine(_Cached[AwaitedClient], Generic[P, T]):
    """A coroutine function whose results are kept in the cache; see CachedFunction.

    Single-flight is among the tasks of one event loop.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._flights = AsyncSingleFlight()
        # Frameworks ask whether this is a coroutine function.
        if hasattr(inspect, "markcoroutinefunction"):
            inspect.markcoroutinefunction(self)
        else:
            self._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        given = (*self._bound, *args)
        key = self._make_key(*given, **kwargs)
        found = await self._client.get(key, _ABSENT)
        if found is _ABSENT:
            found = await self._flights.run(
                key, lambda flight: self._made(flight, key, given, kwargs)
            )
        return cast(T, found)

    async def _made(
        self, flight: Flight[Any], key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        found = await self._client.get(key, _ABSENT)
        if found is not _ABSENT:
            return cast(T, found)
        tags = self._tags_of(args, kwargs)
        found = await self._function(*args, **kwargs)
        if not flight.is_stale():
            try:
                await self._client.put(key, found, tags=tags, ttl=self._ttl)
            except Refused as error:
                check_room(key, error)
            if flight.is_stale():
                await self._client.delete(key)
        return cast(T, found)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove what is stored for these arguments; see CachedFunction.invalidate."""
        key = self.key(*args, **kwargs)
        self._flights.forget(key)
        return await self._client.delete(key)


class _Decorator(Protocol):
    def __call__(self, function: Callable[P, T]) -> CachedFunction[P, T]: ...


class _AsyncDecorator(Protocol):
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> CachedCoroutine[P, T]: ...


@overload
def cached(
    client: BlockingClient, *, key: Key = None, tags: Tags = (), ttl: Ttl | None = None
) -> _Decorator: ...


@overload
def cached(
    client: AsyncClient | AsyncShardedClient,
    *,
    key: Key = None,
    tags: Tags = (),
    ttl: Ttl | None = None,
) -> _AsyncDecorator: ...


def cached(client: Any, *, key: Key = None, tags: Tags = (), ttl: Ttl | None = None) -> Any:
    """Return a decorator that keeps a function's results in the cache of ``client``.

    A blocking client is for functions, one for asyncio for coroutine functions. ``key`` is a
    format string over the parameters (``"post:{post_id}"``) or a callable that is given the
    arguments; without one, it is made of the function's qualified name and its arguments, and
    those must be plain values. ``tags`` is a callable that is given the arguments, or the tags
    themselves. ``ttl`` is seconds or a timedelta; None: as the server is configured.

    Raises BadArgument; for arguments of which no key can be made, when the function is called.
    """
    awaits = isinstance(client, (AsyncClient, AsyncShardedClient))
    if not awaits and not isinstance(client, BlockingCommands):
        raise BadArgument(f"cached needs a blocking client or one for asyncio, not {client!r}")

    def decorate(function: Callable[..., Any]) -> Any:
        if inspect.iscoroutinefunction(function) != awaits:
            kind = "coroutine function" if awaits else "plain function"
            raise BadArgument(f"with {client!r} this must be a {kind}: {function!r}")
        kind_of = CachedCoroutine if awaits else CachedFunction
        return kind_of(client, function, key, tags, ttl)

    return decorate
