"""TagCache for Flask-Caching, and its decorators with tags.

app.config["CACHE_TYPE"] = "tagcache.contrib.flask_caching.TagCache"
app.config["CACHE_TAGCACHE_URL"] = "tagcache://127.0.0.1:1984"
cache = Cache(app)     # the class of this module, whose decorators take tags

@app.get("/posts/<int:post_id>")
@cache.cached(tags=lambda post_id: [f"post:{post_id}"])
def show(post_id): ...

cache.invalidate_tag("post:7")
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

try:
    import flask_caching
    from flask import Flask
    from flask_caching.backends.base import BaseCache
    from flask_caching.backends.nullcache import NullCache
    from flask_caching.utils import join_generator
except ModuleNotFoundError as error:
    raise ImportError(
        "tagcache.contrib.flask_caching needs: pip install 'tagcache-server[flask]'"
    ) from error

from tagcache.client.arguments import Mode, Tag, collected
from tagcache.contrib import cachelib
from tagcache.errors import BadArgument

if TYPE_CHECKING:
    from flask_caching import _CachedFunction, _MemoizedFunction

P = ParamSpec("P")
R = TypeVar("R")
Tags = Iterable[Tag] | Callable[..., Iterable[Tag]]


class TagCache(cachelib.TagCache, BaseCache):
    """The backend, which Flask-Caching creates from ``app.config``.

    CACHE_TAGCACHE_URL is a URL or several. CACHE_OPTIONS are fields of tagcache.client.Options.
    CACHE_KEY_PREFIX, CACHE_DEFAULT_TIMEOUT and CACHE_SERIALIZER are Flask-Caching's; the prefix
    does not apply to tags.
    """

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> TagCache:
        """Return the backend that ``config`` describes. Raises BadArgument."""
        if args:
            raise BadArgument("CACHE_ARGS cannot take effect: use CACHE_OPTIONS")
        location = config.get("CACHE_TAGCACHE_URL")
        if not location:
            raise BadArgument("CACHE_TAGCACHE_URL names no server")
        return cls(location, **{"key_prefix": config["CACHE_KEY_PREFIX"], **kwargs})


# The result of a function that is to be cached, and its tags. The next store is of that result,
# unless a response_filter declines it.
_noted: ContextVar[tuple[Any, tuple[Tag, ...]] | None] = ContextVar("_noted", default=None)


class Cache(flask_caching.Cache):
    """Flask-Caching's Cache with tags.

    ``cached`` and ``memoize`` take ``tags``: the tags, or a callable that gets the arguments of
    the function (for a view, the variable parts of the URL). ``set``, ``add`` and ``set_many``
    take ``tags`` too. A NullCache ignores tags.
    """

    def cached(
        self, *args: Any, tags: Tags | None = None, **kwargs: Any
    ) -> Callable[[Callable[P, R]], _CachedFunction[P, R]]:
        """See flask_caching.Cache.cached."""
        decorate: Callable[[Callable[P, R]], _CachedFunction[P, R]] = _tagging(
            super().cached(*args, **kwargs), tags
        )
        return decorate

    def memoize(
        self, *args: Any, tags: Tags | None = None, **kwargs: Any
    ) -> Callable[[Callable[P, R]], _MemoizedFunction[P, R]]:
        """See flask_caching.Cache.memoize."""
        decorate: Callable[[Callable[P, R]], _MemoizedFunction[P, R]] = _tagging(
            super().memoize(*args, **kwargs), tags
        )
        return decorate

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> bool | None:
        """Store a value; ``tags`` may be given."""
        noted = _noted.get()
        if noted is not None:
            _noted.set(None)
            if noted[0] is value:
                kwargs.setdefault("tags", noted[1])
        return super().set(key, value, *args, **self._known(kwargs))

    def add(self, *args: Any, **kwargs: Any) -> bool:
        """Store a value if there is none; ``tags`` may be given."""
        return super().add(*args, **self._known(kwargs))

    def set_many(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Store values; ``tags`` may be given."""
        return super().set_many(*args, **self._known(kwargs))

    def _known(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if isinstance(cast(Any, self.cache), NullCache):
            kwargs.pop("tags", None)
        return kwargs

    def invalidate_tag(self, tag: Tag) -> int:
        """Remove all entries with ``tag``; return their number. Raises BadArgument."""
        backend = self._backend()
        return 0 if backend is None else backend.invalidate_tag(tag)

    def invalidate_tags(self, tags: Iterable[Tag], mode: Mode = "any") -> int:
        """Remove all entries with any of ``tags``, or ``all`` of them; return their number."""
        backend = self._backend()
        return 0 if backend is None else backend.invalidate_tags(tags, mode)

    def _backend(self) -> TagCache | None:
        """Return the backend; None for a NullCache. Raises BadArgument for others."""
        backend: Any = self.cache
        if isinstance(backend, NullCache):
            return None
        if not isinstance(backend, TagCache):
            raise BadArgument(f"the backend {type(backend).__name__} has no tags: see CACHE_TYPE")
        return backend


def _tagging(decorate: Any, tags: Tags | None) -> Any:
    """Return a decorator that notes tags before the wrapper of ``decorate`` stores the result."""
    if tags is None:
        return decorate
    given = tags if callable(tags) else collected(tags)
    return lambda function: decorate(_noting(function, given))


def _noting(function: Callable[P, R], tags: Tags) -> Callable[P, R]:
    def note(value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _noted.set((value, tuple(tags(*args, **kwargs) if callable(tags) else tags)))

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def noting(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                value = await function(*args, **kwargs)
            except Exception as error:
                # Flask-Caching caches HTTP errors, such as 404.
                note(error, args, kwargs)
                raise
            note(value, args, kwargs)
            return value
    else:

        @functools.wraps(function)
        def noting(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                value: Any = function(*args, **kwargs)
                if inspect.isgenerator(value):
                    # Flask-Caching would do so too; now it stores this same object.
                    value = join_generator(value)
            except Exception as error:
                note(error, args, kwargs)
                raise
            note(value, args, kwargs)
            return value

    return cast(Callable[P, R], noting)
