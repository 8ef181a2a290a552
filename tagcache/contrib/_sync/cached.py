# Generated from tagcache/contrib/_async/cached.py by tools/unasync.py: do not edit.
"""Functions whose results are kept in the cache."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Generic, ParamSpec, TypeVar, cast

from tagcache.client._sync.client import BlockingClient
from tagcache.client._sync.computing import BlockingComputation
from tagcache.client.arguments import Tag, collected
from tagcache.client.collecting import is_collecting, note
from tagcache.client.compute_options import ComputeOptions
from tagcache.client.lease_requests import release
from tagcache.contrib._sync.best_effort import log_if_no_room
from tagcache.contrib.keys import KeyMaker
from tagcache.contrib.single_flight import Call, SingleFlight
from tagcache.errors import Refused

P = ParamSpec("P")
T = TypeVar("T")

_ABSENT = object()


class CachedFunction(Generic[P, T]):
    """A function whose results are kept in the cache; see tagcache.contrib.cached.

    When several callers among the threads of one process find nothing in the cache for the same
    arguments, one produces, and the others get its result or exception (single flight). Callers
    elsewhere wait for the value; see BlockingClient.get_or_set. Raises what the function and the
    client raise.
    """

    __wrapped__: Callable[..., Any]

    def __init__(
        self,
        client: BlockingClient,
        function: Callable[..., Any],
        key: str | Callable[..., str] | None,
        tags: Iterable[Tag] | Callable[..., Iterable[Tag]],
        options: ComputeOptions,
    ) -> None:
        functools.update_wrapper(cast(Any, self), function)
        self._client = client
        self._function = function
        self._make_key = KeyMaker(function, key)
        self._tags = tags if callable(tags) else collected(tags)
        self._options = options
        self._single_flight = SingleFlight()
        # The instance that a method is bound to.
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
        """Return the key for these arguments, without the client's ``key_prefix``.

        Raises BadArgument if no key can be made of them.
        """
        return self._make_key(*self._bound, *args, **kwargs)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        given = (*self._bound, *args)
        key = self._make_key(*given, **kwargs)
        if not is_collecting():
            # This is faster, but does not tell the tags of the value.
            found = self._client.get(key, _ABSENT)
            if found is not _ABSENT:
                return cast(T, found)
        found, made_of = self._single_flight.run(
            key, lambda call: self._produce(call, key, given, kwargs)
        )
        note(made_of)
        result: T = found
        return result

    def _produce(
        self, call: Call[Any], key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[T, tuple[bytes, ...]]:
        """Return the result with its tags, if these are needed."""
        # The lease that an inner call would wait for is this caller's own.
        options = replace(self._options, wait=0) if call.is_inner else self._options
        work = BlockingComputation[T](self._client, key, options)
        tags = self._tags_of(args, kwargs)
        if work.look_up():
            return work.value, work.tags
        call.lease = work.token
        found = work.produce(lambda: self._function(*args, **kwargs), tags)
        if call.is_stale():
            work.give_up()
            return found, work.tags
        try:
            work.store(found)
        except Refused as error:
            log_if_no_room(key, error)
        if call.is_stale():
            self._client.delete(key)
        return found, work.tags

    def _tags_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tag, ...]:
        if not callable(self._tags):
            return self._tags
        return collected(self._tags(*args, **kwargs))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result for these arguments; return whether there was one.

        A result that this process is producing at the moment will not be stored.
        """
        key = self.key(*args, **kwargs)
        leases = self._single_flight.forget(key)
        deleted = self._client.delete(key)
        for lease in leases:
            # Later callers need not wait for a result that is outdated.
            self._client._run(release(self._client._requests, key, lease))
        return deleted
