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

from tagcache.client._sync.computing import BlockingComputation
from tagcache.client.arguments import Mode, Tag, Ttl, collected, ttl_ms
from tagcache.client.compute_options import ComputeOptions
from tagcache.client.serde import named
from tagcache.contrib._sync import best_effort
from tagcache.contrib.connecting import AnyClient, Connecting
from tagcache.contrib.dogpile_leases import Creation, creating, current, is_nested
from tagcache.errors import BadArgument
from tagcache.model.interfaces import ISerde

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Tags = Iterable[Tag] | Callable[..., Iterable[Tag]]

_tags: ContextVar[tuple[Tag, ...]] = ContextVar("_tags", default=())
# The attribute that holds the tags of a decorated function.
_TAGS_ATTRIBUTE = "_tagcache_tags"
# If a lock can neither be acquired nor found this many times, the cache is unavailable.
_MAX_MISSES = 5


class CachedOnArguments(Protocol[P, R_co]):
    """A function that ``cache_on_arguments`` has decorated."""

    original: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def get(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the stored value, or NO_VALUE."""

    def set(self, value: Any, *args: P.args, **kwargs: P.kwargs) -> None:
        """Store a value for these arguments, with their tags."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, and store its result."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Remove the value for these arguments."""


@contextmanager
def tagged(*tags: Tag) -> Iterator[None]:
    """Add ``tags`` to everything that this thread or task stores in any region within the block."""
    token = _tags.set(tags)
    try:
        yield
    finally:
        _tags.reset(token)


class TagCacheBackend(BytesBackend):
    """The backend ``tagcache``.

    ``arguments``: ``url`` is a URL or several. ``ttl`` is how long the server keeps entries, in
    seconds (None: as it is configured); it should be more than the region's expiration time.
    ``region_tag`` is a tag of every entry of the region. With ``distributed_lock``, only one
    process at a time replaces an old value; ``lock_timeout`` (30 seconds) limits how long a lock is
    held, and how long others wait, and ``lock_sleep`` (0.1 seconds) is the time between attempts.
    ``serde`` converts values, unless the region has its own ``serializer`` and ``deserializer``;
    default: pickle, as in dogpile. All other arguments are fields of tagcache.client.Options.
    Raises BadArgument.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        options = dict(arguments)
        if "serializer" in options or "deserializer" in options:
            raise BadArgument("serializer and deserializer are arguments of make_region")
        if "serde" in options:
            self._set_serde(options.pop("serde"))
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

    def _set_serde(self, serde: str | ISerde) -> None:
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

    def computation(self, key: Any) -> BlockingComputation[bytes]:
        """Return the computation that looks up a key, and computes its value under a lease."""
        options = ComputeOptions(ttl=self._ttl, wait=self._lock_timeout)
        refused = functools.partial(best_effort.log_if_no_room, key)
        return BlockingComputation(self.client, key, options, None, refused)

    def has_lock_timeout(self) -> bool:
        return self._distributed_lock

    def get_mutex(self, key: Any) -> CacheMutex | None:
        """Return a lock for all processes with ``distributed_lock``; None: use the region's own."""
        if not self._distributed_lock:
            return None
        return Mutex(self.client, f"_lock{key}", self._lock_timeout, self._lock_sleep)

    def get_serialized(self, key: Any) -> Any:
        if is_nested():
            return self._find_with_tags(key)
        return self.client.get(key, NO_VALUE)

    def _find_with_tags(self, key: Any) -> Any:
        """Return the stored value, and add its tags to what is computed from it."""
        work = self.computation(key)
        is_there = work.look_up(waits=False)
        # A lease is taken only when the creator is called.
        work.give_up()
        return work.value if is_there else NO_VALUE

    def get_serialized_multi(self, keys: Iterable[Any]) -> Sequence[Any]:
        keys = list(keys)
        if is_nested():
            return list(map(self._find_with_tags, keys))
        found = self.client.get_many(keys)
        return [found.get(key, NO_VALUE) for key in keys]

    def set_serialized(self, key: Any, value: bytes) -> None:
        creation, tags = current(), self.stored_tags()
        if creation is None or not creation.store(key, value, tags):
            best_effort.put(self.client, key, value, tags, self._ttl)

    def set_serialized_multi(self, mapping: Mapping[Any, bytes]) -> None:
        best_effort.put_many(self.client, mapping, self.stored_tags(), self._ttl)

    def stored_tags(self) -> tuple[Tag, ...]:
        """Return the tags of what is stored now: the region's, and those of the context."""
        creation = current()
        more = () if creation is None else creation.more
        return (*self._region_tags, *_tags.get(), *more)

    def delete(self, key: Any) -> None:
        self.client.delete(key)

    def delete_multi(self, keys: Iterable[Any]) -> None:
        self.client.delete_many(keys)


class Mutex(CacheMutex):
    """A lock for all processes, which expires after ``timeout`` seconds.

    It only avoids duplicate work: a caller that has waited for ``timeout`` seconds, or finds the
    cache unavailable, proceeds without the lock.
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
            if misses == _MAX_MISSES or time.monotonic() > end:
                return True
            time.sleep(self._sleep)
        self._mine = mine
        return True

    def release(self) -> None:
        mine, self._mine = self._mine, None
        # An expired lock may now belong to another process.
        if mine is not None and self._client.get(self._key) == mine:
            self._client.delete(self._key)

    def locked(self) -> bool:
        return self._client.get(self._key) is not None


class _Tagged:
    """A region whose ``set`` adds tags; for a runner that produces values in the background."""

    def __init__(self, region: TagRegion) -> None:
        self._region = region
        self._tags, self._creation = _tags.get(), current()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._region, name)

    def set(self, key: Any, value: Any) -> None:
        more = () if self._creation is None else self._creation.more
        self._region.set(key, value, tags=(*self._tags, *more))


class TagRegion(CacheRegion):
    """dogpile's region with the backend ``tagcache``, whose values can have tags.

    With the argument ``region_tag``, ``invalidate()`` removes all values of the region for every
    process, not only for this one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        runner = self.async_creation_runner
        if runner is not None:
            background: Callable[..., Any] = runner
            self.async_creation_runner = lambda region, *rest: background(_Tagged(self), *rest)

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
        """Return the stored value, or the result of ``creator``, which is stored with ``tags``.

        If there is none, only one process creates it; the others wait for up to
        ``lock_timeout`` seconds. A value whose tags were invalidated meanwhile is not stored. A
        stored value that is older than ``expiration_time`` is replaced without a lease.
        """
        decorated, tags_of = getattr(creator, _TAGS_ATTRIBUTE, (None, tuple))
        # A wrapper around a decorated function has its attributes, too, but must not use its tags.
        if decorated is creator:
            args, kwargs = creator_args or ((), {})
            tags = (*tags, *collected(tags_of(*args, **kwargs)))
        with _also(tags), creating(self._creation(key, expiration_time)) as creation:
            create = creation.wrapped(_untagged(creator))
            return super().get_or_create(
                key, create, expiration_time, should_cache_fn, creator_args
            )

    def _creation(self, key: Any, expiration_time: float | None) -> Creation:
        backend = self.actual_backend
        if not isinstance(backend, TagCacheBackend):
            return Creation(_tags.get())
        name = key if self.key_mangler is None else self.key_mangler(key)
        find = functools.partial(self.get, key, expiration_time)
        return Creation(backend.stored_tags(), name, backend.computation(name), find)

    def get_or_create_multi(
        self,
        keys: Iterable[Any],
        creator: Callable[..., Any],
        expiration_time: float | None = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        *,
        tags: Iterable[Tag] = (),
    ) -> Sequence[Any]:
        """Return the stored or created value of each key; created ones are stored with ``tags``."""
        backend = self.actual_backend
        with _also(tags):
            own = backend.stored_tags() if isinstance(backend, TagCacheBackend) else _tags.get()
            with creating(Creation(own)) as creation:
                create = creation.wrapped(_untagged(creator))
                return super().get_or_create_multi(keys, create, expiration_time, should_cache_fn)

    def cache_on_arguments(
        self, *args: Any, tags: Tags | None = None, **kwargs: Any
    ) -> Callable[[Callable[P, R]], CachedOnArguments[P, R]]:
        """See dogpile's method. ``tags`` are the tags, or a callable that gets the arguments."""
        decorate: Any = super().cache_on_arguments(*args, **kwargs)
        if tags is None:
            return cast("Callable[[Callable[P, R]], CachedOnArguments[P, R]]", decorate)
        tags_of: Callable[..., Iterable[Tag]]
        if callable(tags):
            tags_of = tags
        else:
            always = collected(tags)

            def tags_of(*args: Any, **kwargs: Any) -> Iterable[Tag]:
                return always

        def decorator(function: Callable[P, R]) -> CachedOnArguments[P, R]:
            setattr(function, _TAGS_ATTRIBUTE, (function, tags_of))
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
        """Remove all entries with ``tag``, of any region; return their number."""
        return self._tag_backend.client.invalidate_tag(tag)

    def invalidate_tags(self, tags: Iterable[Tag], mode: Mode = "any") -> int:
        """Remove all entries with any of ``tags``, or ``all`` of them; return their number."""
        return self._tag_backend.client.invalidate_tags(tags, mode)


@contextmanager
def _also(tags: Iterable[Tag]) -> Iterator[None]:
    with tagged(*_tags.get(), *collected(tags)):
        yield


def _untagged(creator: Callable[..., Any]) -> Callable[..., Any]:
    """Return a creator that does not add the tags of its result to what it stores itself."""

    @functools.wraps(creator)
    def create(*args: Any, **kwargs: Any) -> Any:
        with tagged():
            return creator(*args, **kwargs)

    return create
