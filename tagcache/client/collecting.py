"""Tags that only the code knows which computes a value: they are collected around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tagcache.client.arguments import Tag, checked_tag


class Collected(dict[bytes, None]):
    """The tags that were collected; the values mean nothing.

    ``has_stale`` says whether a stale value was used meanwhile.
    """

    has_stale = False


_collected: ContextVar[Collected | None] = ContextVar("tagcache_tags", default=None)


def cache_tag(*tags: Tag) -> None:
    """Give tags to every value that is being computed around this call, and cached then.

    Outside of that it does nothing. Raises BadArgument.
    """
    note(tuple(map(checked_tag, tags)))


def note(tags: Iterable[bytes]) -> None:
    """Do the same with tags as they are sent."""
    collected = _collected.get()
    if collected is not None:
        collected.update(dict.fromkeys(tags))


def note_stale() -> None:
    """Note that a stale value was used: what is computed around this call is not stored."""
    collected = _collected.get()
    if collected is not None:
        collected.has_stale = True


def is_collecting() -> bool:
    """Return whether a value is being computed around this call."""
    return _collected.get() is not None


@contextmanager
def collecting() -> Iterator[Collected]:
    """Collect the tags that ``cache_tag`` gives meanwhile."""
    collected = Collected()
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)


@contextmanager
def apart() -> Iterator[None]:
    """Keep the tags of what is looked up meanwhile from what is being computed around it."""
    token = _collected.set(None)
    try:
        yield
    finally:
        _collected.reset(token)
