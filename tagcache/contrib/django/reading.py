"""Functions whose results are cached, with the tags of the objects that they read."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.db import models

from tagcache.client.arguments import Duration, Tag
from tagcache.contrib.django.caches import tagged_cache
from tagcache.contrib.django.registry import is_uncommitted, model_tag
from tagcache.contrib.keys import KeyMaker, TagMaker

# Also escape the percent sign, so that different keys stay different.
_BLANK = re.compile(r"[\x00-\x20\x7f%]")

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
T = TypeVar("T")


def reads(
    *read: type[models.Model],
    timeout: Any = DEFAULT_TIMEOUT,
    key: str | Callable[..., str] | None = None,
    tags: Iterable[Tag] | Callable[..., Iterable[Tag]] = (),
    grace: Duration | None = None,
    wait: Duration | None = None,
    cache: str = "default",
) -> Callable[[Callable[P, T]], Reading[P, T]]:
    """Return a decorator that caches the results of a function until one of the models changes.

    ``timeout`` is in seconds, ``cache`` an alias in CACHES; ``key`` and ``tags`` are those of
    tagcache.contrib.cached, ``grace`` and ``wait`` those of ``get_or_set``. The results of
    coroutine functions are kept, too. Tags that the function gives with ``cache_tag``, and those of
    the registered objects that it loads, are added. In a transaction that has changed a registered
    model, the function is called, and its result is not kept. Raises BadArgument.

        @reads(Post, timeout=300)
        def latest(number: int) -> list[str]: ...

        latest(10)
        latest.invalidate(10)
    """

    def decorate(function: Callable[P, T]) -> Reading[P, T]:
        made_of = [model_tag(model) for model in read]
        terms = {"grace": grace, "wait": wait}
        make_key = plain_keys(KeyMaker(function)) if key is None else KeyMaker(function, key)
        return Reading(function, make_key, TagMaker(function, tags), made_of, timeout, terms, cache)

    return decorate


def plain_keys(make_key: Callable[..., str]) -> Callable[..., str]:
    """Return a maker of keys without blanks and control characters, for which Django warns."""

    def make(*args: Any, **kwargs: Any) -> str:
        return _BLANK.sub(lambda found: f"%{ord(found[0]):02x}", make_key(*args, **kwargs))

    return make


class Reading(Generic[P, T]):
    """A function, or a coroutine function, whose results are kept; see ``reads``."""

    def __init__(
        self,
        function: Callable[P, T],
        make_key: Callable[..., str],
        make_tags: TagMaker,
        made_of: list[str],
        timeout: Any,
        terms: dict[str, Any],
        cache: str,
    ) -> None:
        functools.update_wrapper(cast(Any, self), function)
        self._function = function
        self._make_key = make_key
        self._make_tags = make_tags
        self._made_of = made_of
        self._timeout = timeout
        self._terms = terms
        self._cache = cache
        # The instance to which a method is bound.
        self._bound: tuple[Any, ...] = ()
        self._awaits = inspect.iscoroutinefunction(function)
        if self._awaits:
            # Frameworks check whether a view is a coroutine function.
            if hasattr(inspect, "markcoroutinefunction"):
                inspect.markcoroutinefunction(self)
            else:
                self._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Reading[P, T]: ...

    @overload
    def __get__(
        self: Reading[Concatenate[S, Q], T], instance: S, owner: type | None = None
    ) -> Reading[Q, T]: ...

    def __get__(self, instance: Any, owner: type | None = None) -> Reading[Any, T]:
        if instance is None:
            return self
        method = copy.copy(self)
        method._bound = (instance,)
        return method

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        cache = tagged_cache(self._cache)
        call: Callable[[], T] = functools.partial(
            cast(Any, self._function), *self._bound, *args, **kwargs
        )
        if cache is None or is_uncommitted():
            return call()
        more = self._make_tags((*self._bound, *args), kwargs)
        compute: Any = cache.aget_or_set if self._awaits else cache.get_or_set
        result: T = compute(
            self.key(*args, **kwargs),
            call,
            self._timeout,
            tags=lambda found: [*self._made_of, *(more(found) if callable(more) else more)],
            **self._terms,
        )
        return result

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of a result, without prefix and version. Raises BadArgument."""
        return self._make_key(*self._bound, *args, **kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result for these arguments; return whether there was one.

        Raises BadArgument, and what ``delete`` of the cache raises.
        """
        cache = tagged_cache(self._cache)
        return cache is not None and cache.delete(self.key(*args, **kwargs))

    async def ainvalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result for these arguments; see ``invalidate``."""
        cache = tagged_cache(self._cache)
        return cache is not None and await cache.adelete(self.key(*args, **kwargs))
