"""The requests of the methods of django-redis that other clients do not have. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from tagcache.client.arguments import Tag, Ttl, expiry, tag_list, to_bytes
from tagcache.client.replies import read_integer, read_list
from tagcache.client.requests import Request, Requests, is_one, is_stored
from tagcache.wire.resp import request


def replacement(
    requests: Requests, key: str, value: Any, tags: Iterable[Tag], ttl: Ttl | None
) -> Request[bool]:
    """Store ``value`` if the key has one; return whether it was stored. Raises BadArgument."""
    name = requests._key(key)
    options = (*expiry(ttl), b"XX", *(tag_list(tags) or (b"TAGS", b"0")))
    payload = request(b"TAG.SET", name, requests._dump(value), *options)
    return Request(payload, is_stored, False, False, name)


def time_left(requests: Requests, key: str, verb: bytes) -> Request[int | None]:
    """Return the reply to TTL or PTTL; None: no limit; 0: there is no entry."""
    name = requests._key(key)

    def read(reply: Any) -> int | None:
        left = read_integer(reply)
        return None if left == -1 else max(left, 0)

    return Request(request(verb, name), read, 0, True, name)


def deadline(requests: Requests, key: str, verb: bytes, *when: int) -> Request[bool]:
    """Set or remove a time to live, by PEXPIRE, PEXPIREAT or PERSIST; return whether it was set."""
    name = requests._key(key)
    return Request(request(verb, name, *(b"%d" % each for each in when)), is_one, False, True, name)


def epoch_ms(when: float | datetime, unit_ms: int) -> int:
    """Return a moment in milliseconds since 1970, from ``unit_ms`` milliseconds or a datetime."""
    if isinstance(when, datetime):
        return int(when.timestamp() * 1000)
    return int(when * unit_ms)


def glob_escape(text: str) -> str:
    """Return a pattern that matches ``text`` only."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)


def scan(
    requests: Requests, pattern: str, cursor: bytes, count: int | None
) -> Request[tuple[bytes, list[bytes]]]:
    """Return the next cursor, and some full names of keys that match ``pattern``.

    The pattern is for keys without the client's prefix.
    """
    prefix = requests._prefix.decode("utf-8", "surrogateescape")
    matching = to_bytes(glob_escape(prefix) + pattern, "the pattern")
    options = () if count is None else (b"COUNT", b"%d" % count)

    def read(reply: Any) -> tuple[bytes, list[bytes]]:
        following, names = read_list(reply)
        return following, names

    payload = request(b"SCAN", cursor, b"MATCH", matching, *options)
    return Request(payload, read, (b"0", []), True)
