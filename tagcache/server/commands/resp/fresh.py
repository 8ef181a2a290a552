"""The commands of RESP for leases."""

from __future__ import annotations

from functools import lru_cache

from tagcache.model.fetched import HIT, MOST_LEASE_MS, MOST_WAIT_MS, WAIT, Fetched
from tagcache.model.views import EntryView
from tagcache.server.commands.resp.arguments import Options, integer
from tagcache.server.commands.resp.table import (
    ONE_KEY,
    SYNTAX_ERROR,
    Caller,
    RedisError,
    RespCommand,
)
from tagcache.server.commands.table import Reply
from tagcache.server.then import then
from tagcache.wire import resp

_HIT = resp.bulk(b"HIT")


def tag_fetch(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.FETCH key LEASE ms [WAIT ms] [TAGS]``.

    The reply is a list: ``HIT``, ``STALE``, ``LEASE`` or ``WAIT``; the value or nil; the token of
    the lease or nil; after ``WAIT`` the milliseconds until the other client's lease ends; and with
    ``TAGS`` the list of the tags of the value.
    """
    lease_ms, wait_ms, tags = _remembered(tuple(arguments[2:]))
    fetched = caller.fetch(arguments[1], lease_ms, wait_ms)
    if tags:
        return then(fetched, lambda result: _with_tags(caller, arguments[1], result))
    if type(fetched) is Fetched and fetched.found is HIT and fetched.value is not None:
        return resp.array([_HIT, resp.bulk(fetched.value), resp.null(caller.resp)])
    return then(fetched, lambda result: resp.array(_items(result, caller.resp)))


def _read_options(words: tuple[bytes, ...]) -> tuple[int, int, bool]:
    """Return the milliseconds of the lease and of the wait, and whether tags are wanted."""
    options = Options(words, frozenset((b"TAGS",)), frozenset((b"LEASE", b"WAIT")))
    lease, wait = options.value(b"LEASE"), options.value(b"WAIT")
    if lease is None:
        raise RedisError(SYNTAX_ERROR)
    lease_ms = _milliseconds(lease, 1, MOST_LEASE_MS, "lease")
    wait_ms = 0 if wait is None else _milliseconds(wait, 0, MOST_WAIT_MS, "wait")
    return lease_ms, wait_ms, b"TAGS" in options


# Cached, because most clients repeat the same few options. Long ones are refused.
_remembered = lru_cache(1024)(_read_options)


def _with_tags(caller: Caller, key: bytes, result: Fetched) -> Reply:
    def write(entry: EntryView | None) -> bytes:
        tags = result.tags if entry is None else entry.tags
        return resp.array([*_items(result, caller.resp), resp.values(tags, caller.resp)])

    # No other request runs between the look-up and this one, so they see the same entry.
    return then(caller.engine.peek(key) if result.found is HIT else None, write)


def _milliseconds(text: bytes, least: int, most: int, what: str) -> int:
    number = integer(text)
    if not least <= number <= most:
        raise RedisError(f"ERR the {what} is not between {least} and {most} milliseconds")
    return number


def _items(result: Fetched, version: int) -> list[bytes]:
    null = resp.null(version)
    items = [
        resp.bulk(result.found.name.encode()),
        null if result.value is None else resp.bulk(result.value),
        null if result.token is None else resp.bulk(b"%d" % result.token),
    ]
    if result.found is WAIT:
        items.append(resp.integer(result.left_ms))
    return items


def tag_release(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.RELEASE key token``: 1, or 0 if there is no such lease."""
    released = caller.session.release(token_of(arguments[2]), arguments[1])
    return then(released, resp.one_or_zero)


def token_of(text: bytes) -> int:
    """Read the token of a lease. Raises RedisError."""
    return integer(text, "ERR the token of a lease is a number")


FRESH_COMMANDS = (
    RespCommand(
        b"TAG.FETCH",
        -4,
        tag_fetch,
        ONE_KEY,
        transaction=False,
        summary="look up, or take the lease to compute the value",
    ),
    RespCommand(b"TAG.RELEASE", 3, tag_release, ONE_KEY, summary="give a lease back"),
)
