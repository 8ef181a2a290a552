"""The commands of Redis clients about times to live."""

from __future__ import annotations

from tagcache.model.drafts import Draft, Stored
from tagcache.server.commands.resp.arguments import Expiry
from tagcache.server.commands.resp.table import ONE_KEY, Caller, RedisError, RespCommand, shown
from tagcache.server.commands.table import Reply
from tagcache.wire import resp

_NO_KEY = resp.integer(-2)
_NO_EXPIRY = resp.integer(-1)


def ttl(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to TTL, PTTL, EXPIRETIME and PEXPIRETIME."""
    verb = arguments[0].upper()
    in_seconds = not verb.startswith(b"P")
    absolute = verb.endswith(b"EXPIRETIME")

    def read(draft: Draft) -> bytes:
        entry = draft.get(arguments[1])
        if entry is None:
            return _NO_KEY
        if entry.expires_ms is None:
            return _NO_EXPIRY
        left = entry.expires_ms if absolute else max(entry.expires_ms - draft.now_ms, 0)
        return resp.integer((left + 500) // 1000 if in_seconds else left)

    return caller.session.update((arguments[1],), read)


def expire(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT."""
    key, verb = arguments[1], arguments[0].decode("ascii").lower()
    unit_ms = 1 if verb.startswith("p") else 1000
    conditions = _conditions(arguments[3:])
    expiry = Expiry(arguments[2], unit_ms, verb.endswith("at"), verb)

    def change(draft: Draft) -> bytes:
        entry = draft.get(key)
        if entry is None:
            return resp.ZERO
        deadline = expiry.on(draft)
        if not _applies(conditions, entry, deadline):
            return resp.ZERO
        draft.put(key, entry.value, entry.tags, deadline)
        return resp.ONE

    return caller.session.update((key,), change)


def _conditions(words: list[bytes]) -> set[bytes]:
    given = {word.upper() for word in words}
    for word in words:
        if word.upper() not in (b"NX", b"XX", b"GT", b"LT"):
            raise RedisError(f"ERR Unsupported option {shown(word)}")
    if b"NX" in given and len(given) > 1:
        raise RedisError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= given:
        raise RedisError("ERR GT and LT options at the same time are not compatible")
    return given


def _applies(conditions: set[bytes], entry: Stored, deadline: int) -> bool:
    """Return whether the options allow the new deadline; an entry without one lives forever."""
    now = entry.expires_ms
    return not (
        (b"NX" in conditions and now is not None)
        or (b"XX" in conditions and now is None)
        or (b"GT" in conditions and (now is None or deadline <= now))
        or (b"LT" in conditions and now is not None and deadline >= now)
    )


def persist(caller: Caller, arguments: list[bytes]) -> Reply:
    key = arguments[1]

    def change(draft: Draft) -> bytes:
        entry = draft.get(key)
        if entry is None or entry.expires_ms is None:
            return resp.ZERO
        draft.put(key, entry.value, entry.tags)
        return resp.ONE

    return caller.session.update((key,), change)


EXPIRY_COMMANDS = (
    RespCommand(b"TTL", 2, ttl, ONE_KEY, summary="seconds until it expires"),
    RespCommand(b"PTTL", 2, ttl, ONE_KEY, summary="milliseconds until it expires"),
    RespCommand(b"EXPIRETIME", 2, ttl, ONE_KEY, summary="when it expires, in seconds"),
    RespCommand(b"PEXPIRETIME", 2, ttl, ONE_KEY, summary="when it expires, in milliseconds"),
    RespCommand(b"EXPIRE", -3, expire, ONE_KEY, True, summary="let it expire in seconds"),
    RespCommand(b"PEXPIRE", -3, expire, ONE_KEY, True, summary="let it expire in milliseconds"),
    RespCommand(b"EXPIREAT", -3, expire, ONE_KEY, True, summary="let it expire at a given time"),
    RespCommand(b"PEXPIREAT", -3, expire, ONE_KEY, True, summary="let it expire at a given time"),
    RespCommand(b"PERSIST", 2, persist, ONE_KEY, True, summary="remove the time to live"),
)
