"""Check the arguments of the clients' methods, and convert them for the wire."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Literal, TypeAlias

from tagcache.errors import BadArgument
from tagcache.model import durations

Key: TypeAlias = "str | bytes"
Tag: TypeAlias = "str | bytes"
# Seconds, or a timedelta.
Ttl: TypeAlias = "float | timedelta"
# Seconds, a timedelta, or text such as "5m".
Duration: TypeAlias = "Ttl | str"
Mode: TypeAlias = Literal["any", "all"]

# The largest time to live, in milliseconds.
_MAX_TTL_MS = 2**64 - 1
# The largest one on the wire: the server adds its clock to it, and the sum must fit 64 bits.
_MAX_SENT_TTL_MS = 2**62


def ttl_ms(ttl: Ttl | None) -> int | None:
    """Return a time to live in milliseconds, at least 1. Raises BadArgument."""
    if ttl is None:
        return None
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise BadArgument(f"ttl must be seconds or a timedelta, not {type(ttl).__name__}")
    if not 0 < ttl < math.inf or (milliseconds := round(ttl * 1000)) > _MAX_TTL_MS:
        raise BadArgument(f"ttl must be more than 0 seconds, and finite: {ttl}")
    return milliseconds or 1


def seconds_of(duration: Duration | None) -> Ttl | None:
    """Return a duration as seconds, or the timedelta unchanged. Raises BadArgument.

    >>> seconds_of("1.5h"), seconds_of("250ms"), seconds_of(60)
    (5400.0, 0.25, 60)
    """
    if not isinstance(duration, str):
        return duration
    if duration[-1:].isdigit():
        raise BadArgument(f"{duration!r} has no unit: ms, s, m, h or d, like 5m")
    try:
        return durations.milliseconds(duration) / 1000
    except ValueError as error:
        raise BadArgument(str(error)) from None


def expiry(ttl: Ttl | None) -> tuple[bytes, ...]:
    """Return the arguments for a time to live. Raises BadArgument."""
    milliseconds = ttl_ms(ttl)
    return () if milliseconds is None else (b"PX", b"%d" % min(milliseconds, _MAX_SENT_TTL_MS))


def collected(tags: Iterable[Tag]) -> tuple[Tag, ...]:
    """Return tags as a tuple. Raises BadArgument for a single str or bytes."""
    if isinstance(tags, (str, bytes)):
        raise BadArgument(f"tags must be a collection, not a single {type(tags).__name__}")
    return tuple(tags)


def tag_list(tags: Iterable[Tag]) -> tuple[bytes, ...]:
    """Return the arguments for tags, which end a request. Raises BadArgument."""
    names = tuple(map(checked_tag, collected(tags)))
    return (b"TAGS", b"%d" % len(names), *names) if names else ()


def to_bytes(text: str | bytes, name: str) -> bytes:
    """Return text as UTF-8, bytes unchanged. Raises BadArgument, with the name of the argument."""
    if isinstance(text, str):
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise BadArgument(f"{name} cannot be written as UTF-8: {error}") from None
    if isinstance(text, bytes):
        return text
    raise BadArgument(f"{name} must be str or bytes, not {type(text).__name__}")


def checked_key(key: Key) -> bytes:
    """Return a key as it is sent, without a prefix. Raises BadArgument."""
    name = key.encode() if type(key) is str and key.isascii() else to_bytes(key, "the key")
    if not name:
        raise BadArgument("a key must not be empty")
    return name


def checked_tag(tag: Tag) -> bytes:
    """Return a tag as it is sent. Raises BadArgument."""
    name = to_bytes(tag, "a tag")
    if not name:
        raise BadArgument("a tag must not be empty")
    return name


def some(names: Iterable[bytes], what: str) -> list[bytes]:
    """Return the names as a list. Raises BadArgument if there is none."""
    found = list(names)
    if not found:
        raise BadArgument(f"{what} must not be empty")
    return found


def checked_mode(mode: Mode) -> bytes:
    """Return ``mode`` ("any" or "all") as it is sent. Raises BadArgument."""
    if mode not in ("any", "all"):
        raise BadArgument(f'mode must be "any" or "all", not {mode!r}')
    return mode.upper().encode()
