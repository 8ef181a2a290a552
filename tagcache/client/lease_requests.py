"""The requests for leases, which ``get_or_set`` makes. No I/O."""

from __future__ import annotations

from typing import Any, NamedTuple

from tagcache.client import replies
from tagcache.client.arguments import Key, Ttl, expiry, tag_list, ttl_ms
from tagcache.client.requests import Request, Requests, is_one, is_stored
from tagcache.errors import CannotDecode
from tagcache.model.fetched import Found
from tagcache.wire.resp import request
from tagcache.wire.values import timed, timing


class Lookup(NamedTuple):
    """The result of a look-up that takes a lease on a miss.

    ``found`` is None if the cache is unavailable and that is ignored, or without leases.
    ``value`` is set with HIT and STALE, ``tags`` if they were asked for, ``token`` if this
    look-up took the lease. ``fits`` is False if the stored value does not fit the expected type.
    ``timing`` is when the value expires and the seconds that it took to compute, if known.
    """

    found: Found | None
    value: Any = None
    token: bytes | None = None
    tags: tuple[bytes, ...] = ()
    fits: bool = True
    timing: tuple[float, float] | None = None


def fetch(requests: Requests, key: Key, lease_ms: int, wait_ms: int, tags: bool) -> Request[Lookup]:
    """Return the value of ``key``, or the lease to compute it, for ``lease_ms`` milliseconds.

    Waits for ``wait_ms`` milliseconds while another client has the lease. ``tags`` asks for the
    tags of the value as well.
    """
    name = requests._key(key)
    options = (b"LEASE", b"%d" % lease_ms, b"WAIT", b"%d" % wait_ms, *((b"TAGS",) if tags else ()))

    def read(reply: Any) -> Lookup:
        state, content, token, *more = replies.read_list(reply)
        found = Found[state.decode()]
        try:
            value = None if content is None else requests.load(content)
        except CannotDecode:
            if not requests.is_typed:
                raise
            return Lookup(found, None, token, (), fits=False)
        times = None if content is None else timing(content)
        return Lookup(found, value, token, tuple(more[-1]) if tags else (), True, times)

    return Request(request(b"TAG.FETCH", name, *options), read, Lookup(None), True, name)


def plain_fetch(requests: Requests, key: Key) -> Request[Lookup]:
    """Return the value of ``key`` without a lease, for servers that have none."""
    name = requests._key(key)

    def read(reply: Any) -> Lookup:
        content = replies.read_value(reply)
        if content is None:
            return Lookup(None)
        try:
            return Lookup(Found.HIT, requests.load(content))
        except CannotDecode:
            if not requests.is_typed:
                raise
            return Lookup(None)

    return Request(request(b"GET", name), read, Lookup(None), True, name)


def fill(
    requests: Requests,
    key: Key,
    value: Any,
    token: bytes,
    tags: tuple[bytes, ...],
    ttl: Ttl | None,
    grace: Ttl | None,
    times: tuple[float, float] | None = None,
) -> Request[bool]:
    """Store ``value`` under a lease; return whether it was still fresh, and stored.

    ``times`` are when it expires, and the seconds that it took to compute.
    """
    name = requests._key(key)
    stale_ms = ttl_ms(grace)
    stale = () if stale_ms is None else (b"GRACE", b"%d" % stale_ms)
    options = (*expiry(ttl), *stale, b"LEASE", token)
    tagged = tag_list(tags) or (b"TAGS", b"0")
    content = requests._dump(value)
    if times is not None:
        content = timed(content, *times)
    payload = request(b"TAG.SET", name, content, *options, *tagged)
    return Request(payload, is_stored, False, True, name)


def soften(requests: Requests, key: Key) -> Request[int]:
    """Make the value stale if it has a grace, otherwise remove it; return 1, or 0 if none."""
    name = requests._key(key)
    payload = request(b"TAG.INVALIDATE", b"KEYS", b"SOFT", b"1", name)
    return Request(payload, replies.read_integer, 0, False, name)


def release(requests: Requests, key: Key, token: bytes) -> Request[bool]:
    """Release a lease; return whether it still existed."""
    name = requests._key(key)
    return Request(request(b"TAG.RELEASE", name, token), is_one, False, True, name)
