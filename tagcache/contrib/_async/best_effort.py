"""Best-effort stores: if the server is full, the value is not cached, and that is logged."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from tagcache.client.arguments import Tag, Ttl
from tagcache.contrib.connecting import AnyAsyncClient
from tagcache.errors import Refused

_log = logging.getLogger("tagcache.contrib")
_NO_ROOM = ("value_too_large", "line_too_long", "out_of_memory")


def log_if_no_room(name: str, error: Refused) -> None:
    """Log that an entry is not cached because the server is full; raise any other ``error``."""
    if error.code not in _NO_ROOM:
        raise error
    _log.warning("%s is not cached: %s", name, error)


async def put(
    client: AnyAsyncClient, name: str, value: Any, tags: Iterable[Tag], ttl: Ttl | None
) -> bool:
    """Store a value. If there is no room, delete the old one and return False."""
    try:
        return await client.put(name, value, tags=tags, ttl=ttl)
    except Refused as error:
        log_if_no_room(name, error)
        await client.delete(name)
        return False


async def add(
    client: AnyAsyncClient, name: str, value: Any, tags: Iterable[Tag], ttl: Ttl | None
) -> bool:
    """Store a value if there is none; return False also if there is no room."""
    try:
        return await client.add(name, value, tags=tags, ttl=ttl)
    except Refused as error:
        log_if_no_room(name, error)
        return False


async def put_many(
    client: AnyAsyncClient, values: Mapping[str, Any], tags: Iterable[Tag], ttl: Ttl | None
) -> list[str]:
    """Store values in a pipeline; delete those without room, and return their keys."""
    tags = list(tags)
    pipe = client.pipeline()
    stored = {name: pipe.put(name, value, tags=tags, ttl=ttl) for name, value in values.items()}
    try:
        await pipe.execute()
    except Refused:
        refused = []
        for name, pending in stored.items():
            try:
                pending.result()
            except Refused as error:
                log_if_no_room(name, error)
                refused.append(name)
        await client.delete_many(refused)
        return refused
    return []
