"""Collect the tags of a value while it is computed, where only the producer knows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tagcache.client.arguments import Tag, checked_tag


class Collected(dict[bytes, None]):
    """The collected tags, as an ordered set: the values of the dict mean nothing.

    ``has_stale`` says whether a stale value was used while they were collected.
    """

    has_stale = False


_collected: ContextVar[Collected | None] = ContextVar("tagcache_tags", default=None)


def cache_tag(*tags: Tag) -> None:
    """Add tags to every value whose producer makes this call.

    Does nothing outside of a producer. Raises BadArgument.
    """
    note(tuple(map(checked_tag, tags)))


def note(tags: Iterable[bytes]) -> None:
    """Add tags, given as they are sent, to every value whose producer makes this call."""
    collected = _collected.get()
    if collected is not None:
        collected.update(dict.fromkeys(tags))


def note_stale() -> None:
    """Note that a stale value was used, so that the values computed from it are not stored."""
    collected = _collected.get()
    if collected is not None:
        collected.has_stale = True


def is_collecting() -> bool:
    """Return whether a producer makes this call."""
    return _collected.get() is not None


@contextmanager
def collecting() -> Iterator[Collected]:
    """Collect the tags that ``cache_tag`` adds within the block."""
    collected = Collected()
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)
