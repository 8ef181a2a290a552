"""The commands of the line protocol for leases, and for soft invalidations."""

from __future__ import annotations

from functools import lru_cache

from tagcache.errors import InvalidArgument
from tagcache.model.fetched import Fetched
from tagcache.server.commands.cache import read_options, removed, second_of, tag_of
from tagcache.server.commands.table import Caller, Command, Reply
from tagcache.server.then import then
from tagcache.wire import line as wire


def fetch(caller: Caller, fields: list[bytes]) -> Reply:
    _, key, lease, wait = (*fields, b"", b"", b"")[:4]
    if not key:
        raise InvalidArgument("missing_key")
    lease_ms, wait_ms = _times(lease, wait)
    found = caller.fetch(key, lease_ms, wait_ms)
    return wire.fetched(found) if type(found) is Fetched else then(found, wire.fetched)


@lru_cache(1024)
def _times(lease: bytes, wait: bytes) -> tuple[int, int]:
    # Cached, because most clients repeat the same few times.
    return wire.parse_lease(lease), wire.parse_wait(wait)


def fill(caller: Caller, fields: list[bytes]) -> Reply:
    _, token, key, ttl, rest = (*fields, b"", b"", b"", b"")[:5]
    number = wire.parse_token(token)
    if not key:
        raise InvalidArgument("missing_key")
    # The framing splits a line into five fields only; the last holds the tags and the value.
    tags, _, value = rest.partition(b"\t")
    filled = caller.session.fill(number, key, value, read_options(ttl, tags))
    return then(filled, lambda stored: wire.OK if stored else wire.REFUSED)


def release(caller: Caller, fields: list[bytes]) -> Reply:
    _, token, key = (*fields, b"", b"")[:3]
    number = wire.parse_token(token)
    if not key:
        raise InvalidArgument("missing_key")
    released = caller.session.release(number, key)
    return then(released, lambda there: wire.OK if there else wire.NOT_FOUND)


def soft_tag(caller: Caller, fields: list[bytes]) -> Reply:
    tag = tag_of(fields)
    return removed(caller, b"SOFT_TAG", [tag], caller.session.invalidate_tag(tag, soft=True))


def soft_tags_any(caller: Caller, fields: list[bytes]) -> Reply:
    tags = wire.parse_list(second_of(fields), "tags")
    count = caller.session.invalidate_any(tags, soft=True)
    return removed(caller, b"SOFT_TAGS_ANY", tags, count)


def soft_tags_all(caller: Caller, fields: list[bytes]) -> Reply:
    tags = wire.parse_list(second_of(fields), "tags")
    count = caller.session.invalidate_all(tags, soft=True)
    return removed(caller, b"SOFT_TAGS_ALL", tags, count)


def soft_keys(caller: Caller, fields: list[bytes]) -> Reply:
    keys = wire.parse_list(second_of(fields), "keys")
    count = caller.session.invalidate_keys(keys, soft=True)
    return removed(caller, b"SOFT_KEYS", keys, count)


FRESH_COMMANDS = (
    Command(
        b"FETCH",
        fetch,
        "key lease_ms [wait_ms]",
        "HIT⇥value, STALE⇥token⇥value, STALE⇥-⇥value, LEASE⇥token, WAIT⇥ms",
        "Look a key up, or take the lease to compute its value.",
        one_key=True,
    ),
    Command(
        b"FILL",
        fill,
        "token key ttl tags value",
        "OK, REFUSED",
        "Store a value under a lease, unless it is outdated.",
        one_key=True,
    ),
    Command(b"RELEASE", release, "token key", "OK, NF", "Give a lease back.", one_key=True),
    Command(
        b"SOFT_TAG",
        soft_tag,
        "tag",
        "SOFT_TAG⇥n",
        "Like INV_TAG, but entries with a grace become stale.",
    ),
    Command(
        b"SOFT_TAGS_ANY",
        soft_tags_any,
        "tag,tag...",
        "SOFT_TAGS_ANY⇥n",
        "Like INV_TAGS_ANY, but entries with a grace become stale.",
    ),
    Command(
        b"SOFT_TAGS_ALL",
        soft_tags_all,
        "tag,tag...",
        "SOFT_TAGS_ALL⇥n",
        "Like INV_TAGS_ALL, but entries with a grace become stale.",
    ),
    Command(
        b"SOFT_KEYS",
        soft_keys,
        "key,key...",
        "SOFT_KEYS⇥n",
        "Like INV_KEYS, but entries with a grace become stale.",
    ),
)
