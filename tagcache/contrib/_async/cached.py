"""Functions whose results are cached."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from tagcache.client._async.client import AwaitedClient
from tagcache.client._async.computing import AwaitedComputation
from tagcache.client.arguments import Tag
from tagcache.client.collecting import is_collecting
from tagcache.client.compute_options import ComputeOptions
from tagcache.client.lease_requests import release
from tagcache.contrib._async.best_effort import log_if_no_room
from tagcache.contrib.keys import KeyMaker, TagMaker
from tagcache.contrib.result_types import typed_requests
from tagcache.errors import CannotDecode

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
T = TypeVar("T")

_ABSENT = object()


class CachedCoroutine(Generic[P, T]):
    """A coroutine function whose results are cached; see tagcache.contrib.cached.

    A call computes as the client's get_or_set does. Raises what the function and the client raise.
    """

    __wrapped__: Callable[..., Any]

    def __init__(
        self,
        client: AwaitedClient,
        function: Callable[..., Any],
        key: str | Callable[..., str] | None,
        tags: Iterable[Tag] | Callable[..., Iterable[Tag]],
        options: ComputeOptions,
        expected: Any = None,
    ) -> None:
        functools.update_wrapper(cast(Any, self), function)
        self._client = client
        self._function = function
        self._make_key = KeyMaker(function, key)
        self._make_tags = TagMaker(function, tags)
        self._options = options
        # Done at the first call, because an annotation may name what is defined later.
        self._requests = functools.cache(
            lambda: typed_requests(client._requests, function, expected)
        )
        # The instance to which a method is bound.
        self._bound: tuple[Any, ...] = ()
        if hasattr(inspect, "markcoroutinefunction"):  # async only
            # Frameworks check whether a view is a coroutine function.
            inspect.markcoroutinefunction(self)
        else:
            self._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> CachedCoroutine[P, T]: ...

    @overload
    def __get__(
        self: CachedCoroutine[Concatenate[S, Q], T], instance: S, owner: type | None = None
    ) -> CachedCoroutine[Q, T]: ...

    def __get__(self, instance: Any, owner: type | None = None) -> CachedCoroutine[Any, T]:
        if instance is None:
            return self
        method = copy.copy(self)
        method._bound = (instance,)
        return method

    def __repr__(self) -> str:
        return f"<cached {self._function!r}>"

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key for these arguments, without the client's ``key_prefix``.

        Raises BadArgument if no key can be made from them.
        """
        return self._make_key(*self._bound, *args, **kwargs)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        given = (*self._bound, *args)
        key = self._make_key(*given, **kwargs)
        if not is_collecting() and self._options.early is None:
            # This is faster, but returns neither the tags of the value, nor when it expires.
            found = await self._find(key)
            if found is not _ABSENT:
                return cast(T, found)
        refused = functools.partial(log_if_no_room, key)
        requests = self._requests()
        work = AwaitedComputation[T](self._client, key, self._options, requests, refused)
        return await work.result(
            lambda: self._function(*given, **kwargs), self._make_tags(given, kwargs)
        )

    async def _find(self, key: str) -> Any:
        requests = self._requests()
        if not requests.is_typed:
            return await self._client.get(key, _ABSENT)
        try:
            return await self._client._run(requests.get(key, _ABSENT))
        except CannotDecode:
            return _ABSENT

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result for these arguments; return whether there was one.

        A result that this process is computing now will not be stored.
        """
        key = self.key(*args, **kwargs)
        client = self._client
        leases = client._flights.forget(client._requests._key(key))
        deleted = await client.delete(key)
        for lease in leases:
            # Release the lease, so that later callers do not wait for an outdated result.
            await client._run(release(client._requests, key, lease))
        return deleted
