"""The requests of locks. No I/O.

The result of each is None if an unavailable cache is ignored.
"""

from __future__ import annotations

from tagcache.client.arguments import expiry
from tagcache.client.replies import is_word, read_value
from tagcache.client.requests import Request, Requests, is_one
from tagcache.errors import ClientError
from tagcache.wire.resp import request

# The server runs no scripts, but knows those of redis-py's Lock by their digests.
_RELEASE = b"c3f8721cbb97f72bc19e972846bd7aaf91901658"
_EXTEND = b"a4e8783852e6b949f9ef3a97212805108459a890"
_RENEW = b"1cac51482acf5858da00f6d685d68f886cd6b6b2"

_is_set = is_word(b"OK", absent=True)


class LockError(ClientError):
    """A lock is not held, or was not acquired: the caller's fault, or the cache is away."""


class LockNotOwned(LockError):
    """The lock's time was over before it was released or extended: the caller's fault."""


def acquisition(
    requests: Requests, key: str, token: bytes, timeout: float | None
) -> Request[bool | None]:
    """Take a lock for ``timeout`` seconds; return whether it was free. Raises BadArgument."""
    name = requests._key(key)
    payload = request(b"SET", name, token, b"NX", *expiry(timeout))
    return Request(payload, _is_set, None, False, name)


def unlocking(requests: Requests, key: str, token: bytes) -> Request[bool | None]:
    """Remove a lock; return whether ``token`` held it."""
    return _script(requests, key, _RELEASE, token)


def extension(
    requests: Requests, key: str, token: bytes, seconds: float, replaces: bool
) -> Request[bool | None]:
    """Add to the time of a lock, or replace it; return whether ``token`` held it."""
    return _script(
        requests, key, _EXTEND, token, b"%d" % int(seconds * 1000), b"1" if replaces else b"0"
    )


def renewal(requests: Requests, key: str, token: bytes, timeout: float) -> Request[bool | None]:
    """Start the time of a lock again; return whether ``token`` held it."""
    return _script(requests, key, _RENEW, token, b"%d" % int(timeout * 1000))


def token_of(requests: Requests, key: str) -> Request[bytes | None]:
    """Return the token of the holder of a lock; empty if nobody holds it."""
    name = requests._key(key)
    return Request(request(b"GET", name), lambda reply: read_value(reply) or b"", None, True, name)


def _script(requests: Requests, key: str, digest: bytes, *arguments: bytes) -> Request[bool | None]:
    name = requests._key(key)
    return Request(request(b"EVALSHA", digest, b"1", name, *arguments), is_one, None, False, name)
