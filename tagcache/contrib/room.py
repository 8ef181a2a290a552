"""Values that the server has no room for: a page can do without being cached."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from tagcache.client.binding import Pending
from tagcache.client.requests import Tag, Ttl
from tagcache.contrib.connecting import AnyClient
from tagcache.errors import Refused

_log = logging.getLogger(__name__)
_NO_ROOM = ("value_too_large", "line_too_long", "out_of_memory")


def check_room(name: str, error: Refused) -> None:
    """Raise ``error`` unless it says that there is no room; that is logged."""
    if error.code not in _NO_ROOM:
        raise error
    _log.warning("%s is not cached: %s", name, error)


def refused(put: Mapping[str, Pending[bool]]) -> list[str]:
    """Return which of these were not stored, for want of room. Raises Refused."""
    found = []
    for name, pending in put.items():
        try:
            pending.result()
        except Refused as error:
            check_room(name, error)
            found.append(name)
    return found


def put(client: AnyClient, name: str, value: Any, tags: Iterable[Tag], ttl: Ttl | None) -> bool:
    """Store a value; False if there is no room, and then the old one is gone too."""
    try:
        return client.put(name, value, tags=tags, ttl=ttl)
    except Refused as error:
        check_room(name, error)
        client.delete(name)
        return False


def add(client: AnyClient, name: str, value: Any, tags: Iterable[Tag], ttl: Ttl | None) -> bool:
    """Store a value if there is none; False also if there is no room."""
    try:
        return client.add(name, value, tags=tags, ttl=ttl)
    except Refused as error:
        check_room(name, error)
        return False


def put_many(
    client: AnyClient, values: Mapping[str, Any], tags: Iterable[Tag], ttl: Ttl | None
) -> list[str]:
    """Store values in one go; return which were not, for want of room: those are gone."""
    tags = list(tags)
    pipe = client.pipeline()
    stored = {name: pipe.put(name, value, tags=tags, ttl=ttl) for name, value in values.items()}
    try:
        pipe.execute()
    except Refused:
        names = refused(stored)
        client.delete_many(names)
        return names
    return []
