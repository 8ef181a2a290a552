"""TagCache for dogpile.cache, and a region with tags.

region = TagRegion().configure("tagcache", arguments={"url": "tagcache://127.0.0.1:1984"})

@region.cache_on_arguments(tags=lambda post_id: [f"post:{post_id}"])
def post(post_id): ...

region.invalidate_tag("post:7")
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, TypeVar, cast

try:
    from dogpile.cache.api import NO_VALUE, BytesBackend, CacheMutex, CantDeserializeException
    from dogpile.cache.region import CacheRegion
except ModuleNotFoundError as error:
    raise ImportError(
        "tagcache.contrib.dogpile needs: pip install 'tagcache-server[dogpile]'"
    ) from error

from tagcache.client.requests import Mode, Tag, Ttl, ttl_ms
from tagcache.client.serde import named
from tagcache.contrib._sync import best_effort
from tagcache.contrib.connecting import AnyClient, Connecting
from tagcache.errors import BadArgument
from tagcache.model.interfaces import ISerde

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Tags = Iterable[Tag] | Callable[..., Iterable[Tag]]

_tags: ContextVar[tuple[Tag, ...]] = ContextVar("_tags", default=())
# Where a decorated function has its tags.
_NOTED = "_tagcache_tags"
# So often a lock that cannot be had is not there either, until the cache counts as unavailable.
_MOST_MISSES = 5


class CachedOnArguments(Protocol[P, R_co]):
    """What ``cache_on_arguments`` makes of a function."""

    original: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def get(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return what is stored, or NO_VALUE."""

    def set(self, value: Any, *args: P.args, **kwargs: P.kwargs) -> None:
        """Store a value for these arguments, with their tags."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, and store what it returns."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Remove what is stored for these arguments."""


@contextmanager
def tagged(*tags: Tag) -> Iterator[None]:
    """Have what this thread or task stores in any region meanwhile carry ``tags``."""
    token = _tags.set(tags)
    try:
        yield
    finally:
        _tags.reset(token)


class TagCacheBackend(BytesBackend):
    """The backend ``tagcache``.

    ``arguments``: ``url`` is a URL or several; ``ttl`` how long the server keeps entries, in
    seconds (None: as it is configured), which should be more than the region's expiration time;
    ``region_tag`` a tag that every entry of the region carries; ``distributed_lock`` whether one
    process produces for all, with ``lock_timeout`` (30 seconds: how long a lock is kept, and waited
    for, at most) and ``lock_sleep`` (0.1 seconds between tries); and what tagcache.client.Options
    has. ``serde`` is what the region makes bytes of values with, unless it has a ``serializer`` and
    ``deserializer`` of its own; absent: pickle, as dogpile does. Raises BadArgument.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        options = dict(arguments)
        if "serializer" in options or "deserializer" in options:
            raise BadArgument("serializer and deserializer are arguments of make_region")
        if "serde" in options:
            self._use(options.pop("serde"))
        location = options.pop("url", ())
        self._ttl: Ttl | None = options.pop("ttl", None)
        ttl_ms(self._ttl)
        tag = options.pop("region_tag", None)
        self.region_tag: Tag | None = tag
        self._region_tags: tuple[Tag, ...] = () if tag is None else (tag,)
        self._distributed_lock = bool(options.pop("distributed_lock", False))
        self._lock_timeout = float(options.pop("lock_timeout", 30.0))
        self._lock_sleep = float(options.pop("lock_sleep", 0.1))
        if not self._lock_timeout > 0 or not self._lock_sleep > 0:
            raise BadArgument("lock_timeout and lock_sleep must be more than 0 seconds")
        self.client: AnyClient = Connecting(location, {**options, "serde": "bytes"}).client()

    def _use(self, serde: str | ISerde) -> None:
        chosen = named(serde) if isinstance(serde, str) else serde

        def load(data: bytes) -> Any:
            try:
                return chosen.load(data)
            except ValueError as error:
                raise CantDeserializeException(str(error)) from error

        self.serializer, self.deserializer = chosen.dump, load

    def close(self) -> None:
        """Close every connection."""
        self.client.close()

    def has_lock_timeout(self) -> bool:
        return self._distributed_lock

    def get_mutex(self, key: Any) -> CacheMutex | None:
        """Return a lock among processes if ``distributed_lock`` says so; None: the region's own."""
        if not self._distributed_lock:
            return None
        return Mutex(self.client, f"_lock{key}", self._lock_timeout, self._lock_sleep)

    def get_serialized(self, key: Any) -> Any:
        return self.client.get(key, NO_VALUE)

    def get_serialized_multi(self, keys: Iterable[Any]) -> Sequence[Any]:
        keys = list(keys)
        found = self.client.get_many(keys)
        return [found.get(key, NO_VALUE) for key in keys]

    def set_serialized(self, key: Any, value: bytes) -> None:
        best_effort.put(self.client, key, value, (*self._region_tags, *_tags.get()), self._ttl)

    def set_serialized_multi(self, mapping: Mapping[Any, bytes]) -> None:
        best_effort.put_many(self.client, mapping, (*self._region_tags, *_tags.get()), self._ttl)

    def delete(self, key: Any) -> None:
        self.client.delete(key)

    def delete_multi(self, keys: Iterable[Any]) -> None:
        self.client.delete_many(keys)


class Mutex(CacheMutex):
    """A lock among processes, which ends after ``timeout`` seconds.

    It keeps several from producing the same, and no more than that: who has waited for
    ``timeout`` seconds, or finds no cache, goes on without it.
    """

    def __init__(self, client: AnyClient, key: str, timeout: float, sleep: float) -> None:
        self._client = client
        self._key = key
        self._timeout = timeout
        self._sleep = sleep
        self._mine: bytes | None = None

    def acquire(self, wait: bool = True) -> bool:
        mine = uuid.uuid4().hex.encode()
        end = time.monotonic() + self._timeout
        misses = 0
        while not self._client.add(self._key, mine, ttl=self._timeout):
            if not wait:
                return False
            misses = 0 if self.locked() else misses + 1
            if misses == _MOST_MISSES or time.monotonic() > end:
                return True
            time.sleep(self._sleep)
        self._mine = mine
        return True

    def release(self) -> None:
        mine, self._mine = self._mine, None
        # After its time it may be another's.
        if mine is not None and self._client.get(self._key) == mine:
            self._client.delete(self._key)

    def locked(self) -> bool:
        return self._client.get(self._key) is not None


class _Tagged:
    """A region whose ``set`` has tags; for what produces values in the background."""

    def __init__(self, region: TagRegion, tags: tuple[Tag, ...]) -> None:
        self._region = region
        self._tags = tags

    def __getattr__(self, name: str) -> Any:
        return getattr(self._region, name)

    def set(self, key: Any, value: Any) -> None:
        self._region.set(key, value, tags=self._tags)


class TagRegion(CacheRegion):
    """A region whose values carry tags; in all else dogpile's, with the backend ``tagcache``.

    With a ``region_tag`` among the arguments, ``invalidate()`` removes all of the region's values
    for every process, and not only for this one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        runner = self.async_creation_runner
        if runner is not None:
            background: Callable[..., Any] = runner
            self.async_creation_runner = lambda region, *rest: background(
                _Tagged(self, _tags.get()), *rest
            )

    @property
    def _tag_backend(self) -> TagCacheBackend:
        backend = self.actual_backend
        if not isinstance(backend, TagCacheBackend):
            raise BadArgument(f"the backend {type(backend).__name__} has no tags")
        return backend

    def set(self, key: Any, value: Any, *, tags: Iterable[Tag] = ()) -> None:
        """Store a value with ``tags``."""
        with _also(tags):
            super().set(key, value)

    def set_multi(self, mapping: Mapping[Any, Any], *, tags: Iterable[Tag] = ()) -> None:
        """Store values, all with the same ``tags``."""
        with _also(tags):
            super().set_multi(mapping)

    def get_or_create(
        self,
        key: Any,
        creator: Callable[..., Any],
        expiration_time: float | None = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        creator_args: tuple[Any, Mapping[str, Any]] | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> Any:
        """Return what is stored, or what ``creator`` returns, which is stored with ``tags``."""
        decorated, tags_of = getattr(creator, _NOTED, (None, tuple))
        # A wrapper of a decorated function has its attributes too.
        if decorated is creator:
            args, kwargs = creator_args or ((), {})
            tags = (*tags, *_several(tags_of(*args, **kwargs)))
        with _also(tags):
            return super().get_or_create(
                key, _untagged(creator), expiration_time, should_cache_fn, creator_args
            )

    def get_or_create_multi(
        self,
        keys: Iterable[Any],
        creator: Callable[..., Any],
        expiration_time: float | None = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> Sequence[Any]:
        """Return what is stored or made for each key; what is made carries ``tags``."""
        with _also(tags):
            return super().get_or_create_multi(
                keys, _untagged(creator), expiration_time, should_cache_fn
            )

    def cache_on_arguments(
        self, *args: Any, tags: Tags | None = None, **kwargs: Any
    ) -> Callable[[Callable[P, R]], CachedOnArguments[P, R]]:
        """See dogpile's. ``tags`` is given the function's arguments, or the tags themselves."""
        decorate: Any = super().cache_on_arguments(*args, **kwargs)
        if tags is None:
            return cast("Callable[[Callable[P, R]], CachedOnArguments[P, R]]", decorate)
        tags_of: Callable[..., Iterable[Tag]]
        if callable(tags):
            tags_of = tags
        else:
            always = _several(tags)

            def tags_of(*args: Any, **kwargs: Any) -> Iterable[Tag]:
                return always

        def decorator(function: Callable[P, R]) -> CachedOnArguments[P, R]:
            setattr(function, _NOTED, (function, tags_of))
            decorated: Any = decorate(function)
            store = decorated.set

            def set_(value: Any, *args: Any, **kwargs: Any) -> None:
                with _also(tags_of(*args, **kwargs)):
                    store(value, *args, **kwargs)

            def refresh(*args: Any, **kwargs: Any) -> Any:
                value = function(*args, **kwargs)
                set_(value, *args, **kwargs)
                return value

            decorated.set, decorated.refresh = set_, refresh
            return cast("CachedOnArguments[P, R]", decorated)

        return decorator

    def invalidate(self, hard: bool = True) -> None:
        """Invalidate the whole region: with a ``region_tag`` and ``hard``, for every process."""
        tag = self._tag_backend.region_tag
        if hard and tag is not None:
            self.invalidate_tag(tag)
        else:
            super().invalidate(hard)  # type: ignore[no-untyped-call]

    def invalidate_tag(self, tag: Tag) -> int:
        """Remove every entry that carries ``tag``, of any region; return how many."""
        return self._tag_backend.client.invalidate_tag(tag)

    def invalidate_tags(self, tags: Iterable[Tag], mode: Mode = "any") -> int:
        """Remove every entry that carries one of ``tags``, or ``all`` of them; return how many."""
        return self._tag_backend.client.invalidate_tags(tags, mode)


def _several(tags: Iterable[Tag]) -> tuple[Tag, ...]:
    if isinstance(tags, (str, bytes)):
        raise BadArgument(f"tags must be several, not one {type(tags).__name__}")
    return tuple(tags)


@contextmanager
def _also(tags: Iterable[Tag]) -> Iterator[None]:
    with tagged(*_tags.get(), *_several(tags)):
        yield


def _untagged(creator: Callable[..., Any]) -> Callable[..., Any]:
    """What a creator stores on its way does not carry the tags of its result."""

    @functools.wraps(creator)
    def create(*args: Any, **kwargs: Any) -> Any:
        with tagged():
            return creator(*args, **kwargs)

    return create
