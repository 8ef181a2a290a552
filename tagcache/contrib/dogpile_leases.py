"""Leases for the creators of dogpile.cache: they create, and dogpile stores afterwards."""

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
    CREATED = "the next store of the key is to be under the lease"
    FOUND = "another process has created the value: it is not stored again"


class Creation:
    """One call of get_or_create: the look-up under a lease, and the store of what was created."""

    def __init__(self, work: BlockingComputation[bytes], key: Any) -> None:
        self._work = work
        self._key = key
        self._state = _State.IDLE
        self._more: dict[bytes, None] = {}

    def wrapped(self, creator: Callable[..., Any], find: Callable[[], Any]) -> Callable[..., Any]:
        """Return a creator that takes the lease first; ``find`` looks up the value."""

        def create(*args: Any, **kwargs: Any) -> Any:
            if current() is not self:
                # dogpile runs it in the background, to replace an old value.
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
        """Store what was created, unless it is outdated; return False if that is not to be done."""
        state, self._state = self._state, _State.IDLE
        if key != self._key or state is _State.IDLE:
            return False
        if state is _State.CREATED:
            self._work.tags = tuple(dict.fromkeys((*map(checked_tag, tags), *self._more)))
            self._work.end(value)
        return True

    def leave(self) -> None:
        """Give the lease back, if nothing was stored."""
        self._work.give_up()
        self._work.leave()


_creation: ContextVar[Creation | None] = ContextVar("_creation", default=None)


def current() -> Creation | None:
    """Return the call of get_or_create that is under way, unless its creator runs."""
    return _creation.get()


@contextmanager
def creating(creation: Creation | None) -> Iterator[None]:
    """Make it the current one."""
    token = _creation.set(creation)
    try:
        yield
    finally:
        _creation.reset(token)
        if creation is not None:
            creation.leave()
