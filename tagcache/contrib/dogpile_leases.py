"""Leases for dogpile.cache, where the creator returns a value, and dogpile stores it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any

from dogpile.cache.api import NO_VALUE

from tagcache.client._sync.computing import BlockingComputation
from tagcache.client.arguments import Tag, checked_tag
from tagcache.client.collecting import apart


class _State(Enum):
    IDLE = "nothing was created"
    CREATED = "the next store of the key uses the lease"
    FOUND = "another process has created the value: it is not stored again"


class Creation:
    """One call of get_or_create: looks up the key, and stores the created value under a lease."""

    def __init__(self, work: BlockingComputation[bytes], key: Any) -> None:
        self._work = work
        self._key = key
        self._state = _State.IDLE
        self._more: dict[bytes, None] = {}

    def wrapped(self, creator: Callable[..., Any], find: Callable[[], Any]) -> Callable[..., Any]:
        """Return a creator that takes the lease first; ``find`` looks up the value."""

        def create(*args: Any, **kwargs: Any) -> Any:
            if current() is not self:
                # dogpile runs the creator in the background, to replace an old value.
                return creator(*args, **kwargs)
            with apart():
                is_there = self._work.begin()
                found = find() if is_there else NO_VALUE
            if found is not NO_VALUE:
                self._state = _State.FOUND
                return found
            with creating(None), self._work.inside() as self._more:
                created = creator(*args, **kwargs)
            if not is_there:
                self._state = _State.CREATED
            return created

        return create

    def store(self, key: Any, value: bytes, tags: Iterable[Tag]) -> bool:
        """Store the created value, unless it is outdated; return False if there is none."""
        state, self._state = self._state, _State.IDLE
        if key != self._key or state is _State.IDLE:
            return False
        if state is _State.CREATED:
            self._work.tags = tuple(dict.fromkeys((*map(checked_tag, tags), *self._more)))
            self._work.end(value)
        return True

    def leave(self) -> None:
        """Release the lease, if nothing was stored."""
        self._work.give_up()
        self._work.leave()


_creation: ContextVar[Creation | None] = ContextVar("_creation", default=None)


def current() -> Creation | None:
    """Return the get_or_create call in progress, unless its creator is running."""
    return _creation.get()


@contextmanager
def creating(creation: Creation | None) -> Iterator[None]:
    """Make ``call`` the current one within the block."""
    token = _creation.set(creation)
    try:
        yield
    finally:
        _creation.reset(token)
        if creation is not None:
            creation.leave()
