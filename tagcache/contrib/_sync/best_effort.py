# Generated from tagcache/contrib/_async/best_effort.py by tools/unasync.py: do not edit.
"""Best-effort stores: if the server is full, the value is not cached, and that is logged."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from tagcache.client.arguments import Tag, Ttl
from tagcache.contrib.connecting import AnyClient
from tagcache.errors import Refused

_log = logging.getLogger("tagcache.contrib")
_NO_ROOM = ("value_too_large", "line_too_long", "out_of_memory")


def log_if_no_room(name: str, error: Refused) -> None:
    """Log that an entry is not cached because the server is full; raise any other ``error``."""
    if error.code not in _NO_ROOM:
        raise error
    _log.warning("%s is not cached: %s", name, error)


def put(client: AnyClient, name: str, value: Any, tags: Iterable[Tag], ttl: Ttl | None) -> bool:
    """Store a value. If there is no room, delete the old one and return False."""
    try:
        return client.put(name, value, tags=tags, ttl=ttl)
    except Refused as error:
        log_if_no_room(name, error)
        client.delete(name)
        return False


def add(client: AnyClient, name: str, value: Any, tags: Iterable[Tag], ttl: Ttl | None) -> bool:
    """Store a value if there is none; return False also if there is no room."""
    try:
        return client.add(name, value, tags=tags, ttl=ttl)
    except Refused as error:
        log_if_no_room(name, error)
        return False


def put_many(
    client: AnyClient, values: Mapping[str, Any], tags: Iterable[Tag], ttl: Ttl | None
) -> list[str]:
    """Store values in a pipeline; delete those without room, and return their keys."""
    tags = list(tags)
    pipe = client.pipeline()
    stored = {name: pipe.put(name, value, tags=tags, ttl=ttl) for name, value in values.items()}
    try:
        pipe.execute()
    except Refused:
        refused = []
        for name, pending in stored.items():
            try:
                pending.result()
            except Refused as error:
                log_if_no_room(name, error)
                refused.append(name)
        client.delete_many(refused)
        return refused
    return []
