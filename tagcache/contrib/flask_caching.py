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
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
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

from tagcache.client._sync.computing import BlockingComputation
from tagcache.client.arguments import Mode, Tag, Ttl, checked_tag, collected
from tagcache.client.collecting import collecting, note, note_stale
from tagcache.client.compute_options import ComputeOptions
from tagcache.contrib import cachelib
from tagcache.contrib._sync import best_effort
from tagcache.contrib.cachelib import EXPIRED
from tagcache.errors import BadArgument, CannotDecode

if TYPE_CHECKING:
    from flask_caching import _CachedFunction, _MemoizedFunction

P = ParamSpec("P")
R = TypeVar("R")
Tags = Iterable[Tag] | Callable[..., Iterable[Tag]]


class TagCache(cachelib.TagCache, BaseCache):
    """The backend that Flask-Caching creates from ``app.config``.

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


_ABSENT = object()


class _Call:
    """One call of a decorated function: Flask-Caching looks up its key, and stores its result.

    ``value`` is the result, with ``tags``. Flask-Caching stores it next, unless a response_filter
    declines it.
    """

    def __init__(self) -> None:
        self._work: BlockingComputation[Any] | None = None
        self._key = ""
        self._ttl: Ttl | None = None
        self.value: Any = _ABSENT
        self.tags: tuple[bytes, ...] = ()

    def look_up(self, backend: TagCache, key: str) -> Any:
        """Return the stored value; None if this caller must compute it, under a lease.

        The key of the result is the last one that is looked up before the function is called:
        callables such as make_cache_key may look up others first.
        """
        if self.value is not _ABSENT:
            return backend.get(key)
        self.leave()
        options = ComputeOptions(ttl=lambda value: self._ttl)
        refused = functools.partial(best_effort.log_if_no_room, key)
        work = BlockingComputation[Any](backend.client, key, options, None, refused)
        self._work, self._key = work, key
        try:
            if not work.begin():
                return None
        except CannotDecode:
            found = None
        else:
            found = work.value
        self._work = None
        work.leave()
        return found

    @contextmanager
    def computing(self, own: Callable[[], Iterable[Tag]]) -> Iterator[list[Any]]:
        """Take the result that the function appends to the list, and its tags.

        They are what ``own`` returns, and what ``cache_tag`` and decorated functions add in the
        function. What is computed from the result gets them, too, even if it is not stored.
        """
        results: list[Any] = []
        token = _call.set(None)
        try:
            with collecting() if self._work is None else self._work.inside() as more:
                try:
                    yield results
                except Exception as error:
                    # Flask-Caching caches HTTP errors, such as 404.
                    results.append(error)
                    raise
                finally:
                    if results:
                        self.value = results[0]
                        self.tags = tuple(dict.fromkeys((*map(checked_tag, own()), *more)))
        finally:
            _call.reset(token)
            note(self.tags)
            if more.has_stale:
                note_stale()

    def store(self, backend: TagCache, key: str, timeout: Any) -> bool:
        """Store the result, unless it is outdated."""
        value, self.value = self.value, _ABSENT
        ttl = backend.ttl(timeout)
        if self._work is None or ttl == EXPIRED or key != self._key:
            self.leave()
            return backend.set(key, value, timeout, tags=self.tags)
        self._ttl = ttl
        self._work.tags = self.tags
        try:
            self._work.end(value)
        finally:
            self.leave()
        return True

    def leave(self) -> None:
        """Release the lease, if the result was not stored."""
        work, self._work = self._work, None
        if work is not None:
            work.give_up()
            work.leave()


# The call of a decorated function that is in progress.
_call: ContextVar[_Call | None] = ContextVar("_call", default=None)


class Cache(flask_caching.Cache):
    """Flask-Caching's Cache with tags.

    ``cached`` and ``memoize`` take ``tags``: the tags, or a callable that gets the arguments of
    the function (for a view, the variable parts of the URL). ``set``, ``add`` and ``set_many``
    take ``tags`` too. A NullCache ignores tags. ``cache_tag`` in a decorated function adds tags to
    its result. A decorated function that calls another one gets the tags of its result.

    Decorated functions compute under a lease: only one caller in all processes computes, the
    others wait for up to 5 seconds, and a result that was outdated meanwhile is not stored.
    """

    def cached(
        self, *args: Any, tags: Tags | None = None, **kwargs: Any
    ) -> Callable[[Callable[P, R]], _CachedFunction[P, R]]:
        """See flask_caching.Cache.cached."""
        decorate: Callable[[Callable[P, R]], _CachedFunction[P, R]] = _tagging(
            super().cached(*args, **kwargs), tags or ()
        )
        return decorate

    def memoize(
        self, *args: Any, tags: Tags | None = None, **kwargs: Any
    ) -> Callable[[Callable[P, R]], _MemoizedFunction[P, R]]:
        """See flask_caching.Cache.memoize."""
        decorate: Callable[[Callable[P, R]], _MemoizedFunction[P, R]] = _tagging(
            super().memoize(*args, **kwargs), tags or ()
        )
        return decorate

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Return a value, or None."""
        call, backend = _call.get(), cast(Any, self.cache)
        if call is None or not isinstance(backend, TagCache):
            return super().get(*args, **kwargs)
        return call.look_up(backend, *args, **kwargs)

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> bool | None:
        """Store a value; ``tags`` may be given."""
        call, backend = _call.get(), cast(Any, self.cache)
        if call is not None and call.value is value and isinstance(backend, TagCache):
            return call.store(backend, key, kwargs.get("timeout"))
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


def _tagging(decorate: Any, tags: Tags) -> Any:
    """Return a decorator whose functions compute under a lease, and store with tags."""
    given = tags if callable(tags) else collected(tags)

    def decorator(function: Callable[P, R]) -> Any:
        decorated = decorate(_noting(function, given))

        def calling(*args: Any, **kwargs: Any) -> Any:
            call = _Call()
            token = _call.set(call)
            try:
                return decorated(*args, **kwargs)
            finally:
                _call.reset(token)
                call.leave()

        functools.update_wrapper(calling, decorated, updated=())
        # Programs set attributes such as cache_timeout, and Flask-Caching reads them.
        calling.__dict__ = decorated.__dict__
        return calling

    return decorator


def _noting(function: Callable[P, R], tags: Tags) -> Callable[P, R]:
    """Return a function that records its result and tags before Flask-Caching stores the result."""

    def computing(*args: Any, **kwargs: Any) -> AbstractContextManager[list[Any]]:
        call = _call.get() or _Call()
        return call.computing(lambda: tags(*args, **kwargs) if callable(tags) else tags)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def noting(*args: P.args, **kwargs: P.kwargs) -> Any:
            with computing(*args, **kwargs) as results:
                results.append(await function(*args, **kwargs))
            return results[0]
    else:

        @functools.wraps(function)
        def noting(*args: P.args, **kwargs: P.kwargs) -> Any:
            with computing(*args, **kwargs) as results:
                value: Any = function(*args, **kwargs)
                if inspect.isgenerator(value):
                    # Flask-Caching would do so too; now it stores this same object.
                    value = join_generator(value)
                results.append(value)
            return value

    return cast(Callable[P, R], noting)
