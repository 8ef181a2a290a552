"""What get_or_create adds to dogpile.cache: leases, and tags that only the creator knows.

dogpile looks up the value, calls the creator, and stores what it returned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any, TypeVar

from dogpile.cache.api import NO_VALUE

from tagcache.client._sync.computing import BlockingComputation
from tagcache.client.arguments import Tag, checked_tag
from tagcache.client.collecting import Collected, collecting, is_collecting, note, note_stale

C = TypeVar("C", bound="Creation | None")


class _State(Enum):
    IDLE = "nothing was created"
    CREATED = "the next store of the key uses the lease"
    SKIPPED = "the next store of the key is left out"


class Creation:
    """One call of get_or_create or get_or_create_multi.

    ``own`` are the tags of what it creates. With one ``key``, ``work`` computes its value under a
    lease, and ``find`` looks it up again. With several keys there is no lease.

    Attributes:
        more: the tags that the creator added.
    """

    def __init__(
        self,
        own: Iterable[Tag],
        key: Any = None,
        work: BlockingComputation[bytes] | None = None,
        find: Callable[[], Any] = lambda: NO_VALUE,
    ) -> None:
        self._own = tuple(map(checked_tag, own))
        self._key = key
        self._work = work
        self._find = find
        self._state = _State.IDLE
        self.more: tuple[bytes, ...] = ()

    def wrapped(self, creator: Callable[..., Any]) -> Callable[..., Any]:
        """Return a creator that takes the lease first, and passes its tags on."""

        @functools.wraps(creator)
        def create(*args: Any, **kwargs: Any) -> Any:
            work = self._work
            if work is None or current() is not self:
                # Several keys, or dogpile replaces an old value in the background.
                with self._collecting(collecting()):
                    return creator(*args, **kwargs)
            is_there = work.begin()
            found = self._find() if is_there else NO_VALUE
            if found is not NO_VALUE:
                self._state = _State.SKIPPED
                return found
            with self._collecting(work.inside()) as more:
                created = creator(*args, **kwargs)
            if not is_there:
                self._state = _State.CREATED
            elif more.has_stale:
                self._state = _State.SKIPPED
            return created

        return create

    @contextmanager
    def _collecting(self, tags: AbstractContextManager[Collected]) -> Iterator[Collected]:
        """Keep the collected tags, and add them to what is computed from the created value."""
        with creating(None), tags as more:
            yield more
        self.more = tuple(more)
        note((*self._own, *more))
        if more.has_stale:
            note_stale()

    def store(self, key: Any, value: bytes, tags: Iterable[Tag]) -> bool:
        """Store the created value, unless it is outdated; return False if there is none."""
        state, self._state = self._state, _State.IDLE
        if key != self._key or self._work is None or state is _State.IDLE:
            return False
        if state is _State.CREATED:
            self._work.tags = tuple(dict.fromkeys(map(checked_tag, tags)))
            self._work.end(value)
        return True

    def leave(self) -> None:
        """Release the lease, if nothing was stored."""
        if self._work is not None:
            self._work.give_up()
            self._work.leave()


_creation: ContextVar[Creation | None] = ContextVar("_creation", default=None)


def current() -> Creation | None:
    """Return the get_or_create call in progress, unless its creator is running."""
    return _creation.get()


def is_nested() -> bool:
    """Return whether a get_or_create looks up what another value is computed from."""
    return current() is not None and is_collecting()


@contextmanager
def creating(creation: C) -> Iterator[C]:
    """Make ``creation`` the current one within the block."""
    token = _creation.set(creation)
    try:
        yield creation
    finally:
        _creation.reset(token)
        if creation is not None:
            creation.leave()
