"""Cache the responses of an application."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar, Unpack, cast

from starlette.responses import Response

from tagcache.client.arguments import Duration, Mode, Tag
from tagcache.client.compute_options import ComputeOptions, DurationOf
from tagcache.client.early import Early, early_of
from tagcache.client.options import OptionFields
from tagcache.contrib.connecting import ClientPerLoop, Connecting
from tagcache.contrib.fastapi.answering import Attempt, NotStored, Policy
from tagcache.contrib.fastapi.path_function import Call, Key, PathFunction, Tags
from tagcache.contrib.fastapi.rendering import Renderer
from tagcache.contrib.fastapi.responses import ResponseSerde, StoredResponse, asks_for_new
from tagcache.errors import BadArgument, CircuitOpen, ClientError

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("tagcache.contrib")


class ResponseCache:
    """Caches the responses of path functions with tags.

    ``location`` is the URL of a server, or several; ``options`` are fields of
    tagcache.client.Options except ``serde``. Nothing is connected before the first request; each
    event loop has its own connections. Raises BadArgument.

    >>> cache = ResponseCache("tagcache://127.0.0.1:1984", timeout=0.5)
    >>> app = FastAPI(lifespan=cache.lifespan)
    >>> @app.get("/posts/{post_id}")
    ... @cache.cached(ttl=60, tags=["post:{post_id}"])
    ... async def show(post_id: int) -> dict[str, str]:
    ...     return {"title": titles[post_id]}
    >>> @app.put("/posts/{post_id}")
    ... async def change(post_id: int, title: str) -> int:
    ...     titles[post_id] = title
    ...     return await cache.invalidate_tag(f"post:{post_id}")
    """

    def __init__(
        self,
        location: str | Iterable[str] = "tagcache://127.0.0.1:1984",
        **options: Unpack[OptionFields],
    ) -> None:
        if "serde" in options:
            raise BadArgument("serde cannot be chosen: responses are stored as they are sent")
        connecting = Connecting(location, {**options, "serde": ResponseSerde()})
        self._clients = ClientPerLoop(connecting.async_client)
        self._on_error = options.get("on_error")

    async def __aenter__(self) -> ResponseCache:
        """Connect. If the server is away, log a warning; the application works without it."""
        try:
            await (await self._clients.here()).ping()
        except ClientError as error:
            self._ignore(error)
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.close()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """Open and close the cache with the application: ``FastAPI(lifespan=cache.lifespan)``.

        In a lifespan of your own, write ``async with cache:`` around the ``yield``.
        """
        async with self:
            yield

    async def close(self) -> None:
        """Close the connections of the running event loop. A later request opens new ones."""
        await self._clients.close()

    async def invalidate_tag(self, tag: Tag, *, soft: bool = False) -> int:
        """Remove the entries with a tag, and return their number; see AsyncClient.invalidate_tag.

        With ``soft``, those that were stored with a ``grace`` become stale instead. Raises
        BadArgument, and Unavailable: the entries may still be there.
        """
        return await (await self._clients.here()).invalidate_tag(tag, soft=soft)

    async def invalidate_tags(
        self, tags: Iterable[Tag], mode: Mode = "any", *, soft: bool = False
    ) -> int:
        """Remove the entries with ``any`` of the tags, or ``all`` of them; see invalidate_tag."""
        return await (await self._clients.here()).invalidate_tags(tags, mode, soft=soft)

    def cached(
        self,
        *,
        ttl: DurationOf | None = None,
        tags: Tags = (),
        key: Key = None,
        ignore: Collection[str] = (),
        vary: Iterable[str] = (),
        cache_control: str | None = "no-cache",
        grace: Duration | None = None,
        wait: Duration | None = None,
        early: Early | float | None = None,
        authenticated: bool = False,
        refresh: bool = False,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Return a decorator for a path function; write it below the decorator of the route.

        ``ttl``, ``tags``, ``grace``, ``wait`` and ``early`` are those of ``cached`` in
        tagcache.contrib.cached: tags are format strings over the parameters and ``result``, or a
        callable that gets the arguments, and ``result`` if it has that parameter. ``cache_tag`` in
        the function adds tags, too.

        The key consists of the function's name, the path and the other arguments: plain values,
        models of pydantic, dataclasses. ``ignore`` names parameters that the response does not
        depend on. ``key`` is a format string over the parameters, or a callable that gets the
        arguments. ``vary`` names request headers that the response depends on.

        ``cache_control`` (None: no header) is for browsers and proxies. With ``authenticated``,
        requests of logged-in users use the cache, too. With ``refresh``, a request may ask for a
        new response with Cache-Control.

        Raises BadArgument; a request raises it if no key can be made from its arguments.
        """
        options = ComputeOptions(ttl, grace, wait, early_of(early))
        names = tuple(sorted(name.lower() for name in vary))
        policy = Policy(options, names, cache_control, authenticated, refresh)
        return lambda function: self._wrapper(
            function, PathFunction(function, key, tags, ignore), policy
        )

    def _wrapper(
        self, function: Callable[P, R], path_function: PathFunction, policy: Policy
    ) -> Callable[P, R]:
        renderer = Renderer(path_function.name, path_function.is_coroutine)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
            call = path_function.call_of(args, kwargs)
            if call is None:
                return function(*args, **kwargs)
            return self._respond(path_function, renderer, policy, call)

        wrapper.__dict__["__signature__"] = path_function.signature
        _mark_as_coroutine_function(wrapper)
        return cast("Callable[P, R]", wrapper)

    async def _respond(
        self, function: PathFunction, renderer: Renderer, policy: Policy, call: Call
    ) -> Any:
        why = policy.why_bypassed(call)
        if why is not None:
            result = await function.run(call)
            return _with_status(result, call, f'tagcache; fwd=bypass; detail="{why}"')
        attempt = Attempt(function, renderer, policy, call)
        found = await self._found(function, attempt, policy, call)
        if found is None and not attempt.began:
            # The cache is unavailable, or the awaited response is only for another request.
            found = await attempt.produce_or_none()
        return attempt.answer(found)

    async def _found(
        self, function: PathFunction, attempt: Attempt, policy: Policy, call: Call
    ) -> StoredResponse | None:
        """Return the cached response, or the one that the attempt makes; None if there is none."""
        key, options = function.key(call, policy.vary), policy.options
        client = await self._clients.here()
        try:
            if policy.refresh and asks_for_new(call.request):
                await client.delete(key)
            found: StoredResponse = await client.get_or_set(
                *(key, attempt.produce),
                tags=lambda _: function.tags(call, attempt.result),
                ttl=lambda _: options.ttl_of(attempt.result),
                grace=options.grace,
                wait=options.wait,
                early=options.early,
            )
        except NotStored:
            return None
        except BadArgument:
            raise
        except ClientError as error:
            if attempt.began and attempt.stored is None:
                # The path function raised it.
                raise
            self._ignore(error)
            return attempt.stored
        return found

    def _ignore(self, error: ClientError) -> None:
        if not isinstance(error, CircuitOpen):
            # The error that opened the circuit breaker was logged.
            _log.warning("responses are not cached: %s", error)
        if self._on_error is not None:
            self._on_error(error)


def _with_status(result: Any, call: Call, status: str) -> Any:
    """Add a Cache-Status to the response that the result is, or that FastAPI makes from it."""
    response = result if isinstance(result, Response) else call.injected
    if response is not None:
        response.headers.append("cache-status", status)
    return result


def _mark_as_coroutine_function(function: Callable[..., Any]) -> None:
    """Mark a plain function as a coroutine function, so that frameworks await its result."""
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is None:  # Python 3.11
        function.__dict__["_is_coroutine"] = getattr(asyncio.coroutines, "_is_coroutine", None)
    else:
        mark(function)
