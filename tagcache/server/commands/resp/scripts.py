"""The scripts that well-known clients ship with, known by their digests.

No script is run. What these do is done by functions here; ``docs/redis-clients.md`` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1

from tagcache.model.drafts import Draft
from tagcache.server.commands.resp.arguments import Expiry, integer, natural
from tagcache.server.commands.resp.strings import add_to
from tagcache.server.commands.resp.table import Caller, RedisError, RespCommand
from tagcache.server.commands.table import Reply
from tagcache.wire import resp

_NO_SCRIPT = "NOSCRIPT No matching script. This server runs only the scripts of well-known clients."
_RUNS_NONE = (
    "ERR this server runs no scripts but those of well-known clients; use SET with NX, XX, GET and "
    "KEEPTTL, or WATCH, MULTI and EXEC"
)
_MAX_SCRIPT_BYTES = 64 * 1024


class _Call:
    """A call of a script: its keys, its arguments, and the entries it works on."""

    def __init__(self, draft: Draft, keys: list[bytes], given: list[bytes], version: int) -> None:
        self.draft = draft
        self.keys = keys
        self.given = given
        self.resp = version

    @property
    def value(self) -> bytes | None:
        """The value of the first key."""
        entry = self.draft.get(self.keys[0])
        return entry and entry.value

    def is_owner(self, argument: int = 0) -> bool:
        """Return whether the first key has this argument as its value."""
        return self.value == self.given[argument]

    def left_ms(self) -> int:
        """Return what PTTL would."""
        entry = self.draft.get(self.keys[0])
        if entry is None:
            return -2
        return -1 if entry.expires_ms is None else entry.expires_ms - self.draft.now_ms

    def expire_in(self, ms: int) -> None:
        """Give the entry of the first key another deadline."""
        entry = self.draft.get(self.keys[0])
        if entry is not None:
            self.draft.put(self.keys[0], entry.value, entry.tags, self.draft.now_ms + ms)

    def set(self, value: bytes, ttl_ms: int | None, key: bytes | None = None) -> None:
        """Store under the first key."""
        deadline = self.draft.default_expiry() if ttl_ms is None else self.draft.now_ms + ttl_ms
        self.draft.put(self.keys[0] if key is None else key, value, None, deadline)


def _milliseconds(text: bytes, unit_ms: int = 1) -> int:
    return Expiry(text, unit_ms, False, "set").check_positive("set").in_ms or 0


def _delete_if_equal(call: _Call) -> bytes:
    if not call.is_owner():
        return resp.ZERO
    call.draft.delete(call.keys[0])
    return resp.ONE


def _extend(call: _Call) -> bytes:
    """Replace the time to live, or add to it: the third argument is 0."""
    left = call.left_ms()
    if not call.is_owner() or left < 0:
        return resp.ZERO
    call.expire_in(integer(call.given[1]) + (left if call.given[2] == b"0" else 0))
    return resp.ONE


def _expire_if_equal(call: _Call) -> bytes:
    if not call.is_owner():
        return resp.ZERO
    call.expire_in(integer(call.given[1]))
    return resp.ONE


def _add_if_there(call: _Call) -> bytes:
    if call.value is None:
        return resp.null(call.resp)
    return _add(call)


def _add(call: _Call) -> bytes:
    return resp.integer(add_to(call.draft, call.keys[0], integer(call.given[0])))


def _add_and_expire_first(call: _Call) -> bytes:
    result = add_to(call.draft, call.keys[0], integer(call.given[0]))
    if result == 1:
        call.expire_in(integer(call.given[1]))
    return resp.integer(result)


def _replace_if_equal(call: _Call) -> bytes:
    if not call.is_owner(1):
        return resp.ZERO
    ttl_ms = None
    if len(call.given) == 4:
        ttl_ms = _milliseconds(call.given[3], 1000 if call.given[2].upper() == b"EX" else 1)
    call.set(call.given[0], ttl_ms)
    return resp.OK


def _add_for_seconds(call: _Call) -> bytes:
    if call.value is not None:
        return resp.null(call.resp)
    call.set(call.given[0], _milliseconds(call.given[1], 1000))
    return resp.OK


def _count_in_window(call: _Call) -> bytes:
    left = call.left_ms()
    if left <= 0:
        window = _milliseconds(call.given[0])
        call.set(b"1", window)
        return resp.dump([1, window], call.resp)
    return resp.dump([add_to(call.draft, call.keys[0], 1), left], call.resp)


def _count_and_left(call: _Call) -> bytes:
    return resp.dump([call.value, call.left_ms()], call.resp)


def _consume(call: _Call) -> bytes:
    """Count points in a window of seconds, which begins with the first of them."""
    seconds = _milliseconds(call.given[1], 1000)
    if call.value is None:
        call.set(b"0", seconds)
    consumed = add_to(call.draft, call.keys[0], integer(call.given[0]))
    left = call.left_ms()
    if left == -1:
        call.expire_in(seconds)
        left = seconds
    return resp.dump([consumed, left], call.resp)


def _lock_all(call: _Call) -> bytes:
    if any(call.draft.get(key) is not None for key in call.keys):
        return resp.ZERO
    return _set_all(call)


def _extend_all(call: _Call) -> bytes:
    entries = [call.draft.get(key) for key in call.keys]
    if any(entry is None or entry.value != call.given[0] for entry in entries):
        return resp.ZERO
    return _set_all(call)


def _set_all(call: _Call) -> bytes:
    for key in call.keys:
        call.set(call.given[0], _milliseconds(call.given[1]), key)
    return resp.integer(len(call.keys))


def _unlock_all(call: _Call) -> bytes:
    held = [
        key
        for key in call.keys
        if (entry := call.draft.get(key)) is not None and entry.value == call.given[0]
    ]
    for key in held:
        call.draft.delete(key)
    return resp.integer(len(held))


@dataclass(frozen=True, slots=True)
class _Script:
    """What a script does; how many arguments it needs; whether it takes any number of keys."""

    run: Callable[[_Call], bytes]
    arguments: int
    many_keys: bool = False


_UNLOCK = _Script(_delete_if_equal, 1)
_SCRIPTS = {
    # redis-py, Lock: release, extend, reacquire.
    "c3f8721cbb97f72bc19e972846bd7aaf91901658": _UNLOCK,
    "a4e8783852e6b949f9ef3a97212805108459a890": _Script(_extend, 3),
    "1cac51482acf5858da00f6d685d68f886cd6b6b2": _Script(_expire_if_equal, 2),
    # django-redis: incr of an entry that must be there; of any.
    "f4a7da3e5d8ea3b46642af08427151cae0190400": _Script(_add_if_there, 1),
    "4d15273b16b10c15e1d9202cbe93c959ab7d250b": _Script(_add, 1),
    # cashews: unlock; counting with a time to live.
    "b948f76fda6b97319d3426a2fb42b0d4f02c7146": _UNLOCK,
    "0f8a745c1b5efe281bd1299ea0d1b2994c6ae601": _Script(_add_and_expire_first, 2),
    # aiocache: RedLock, OptimisticLock.
    "ae3671744a5dbb24ea37ef607b8b10ac7856d43e": _UNLOCK,
    "782e993d12091daacc7a3164ddf5c4624fe56042": _Script(_replace_if_equal, 2),
    # phpredis: sessions.
    "b70c2384248f88e6b75b9f89241a180f856ad852": _UNLOCK,
    # Laravel: locks, Cache::add, release of a funnel.
    "647c65a442733a1aa440f99908d249d13b4d6c4a": _UNLOCK,
    "a08c9c69b7c07ae2485190873b90d128a23e502d": _Script(_add_for_seconds, 2),
    "a50243715157b186c5162c69e02eff3bf0c7994a": _UNLOCK,
    # rate-limit-redis: increment, get.
    "895b92e1712734e1b464999be23953485475357b": _Script(_count_in_window, 1),
    "6aeb97ed6086dcdeafdc6fda3999a0d0e38ec96a": _Script(_count_and_left, 0),
    # rate-limiter-flexible.
    "a1de965f42e177aa339706bd580f049065eca79a": _Script(_consume, 2),
    # redlock for Node: lock, unlock, extend.
    "e5a322e2634ef59a516e8ea150cb085afafee684": _Script(_lock_all, 2, many_keys=True),
    "0f0f23b9048b36752b5be114f357ba083449f908": _Script(_unlock_all, 1, many_keys=True),
    "ce46f80993d5dac20dd066eb301a4e37994bdbed": _Script(_extend_all, 2, many_keys=True),
}


def evalsha(caller: Caller, arguments: list[bytes]) -> Reply:
    script = _SCRIPTS.get(arguments[1].decode("latin-1").lower())
    if script is None:
        raise RedisError(_NO_SCRIPT, "no_script")
    return _run(caller, script, arguments)


def eval_(caller: Caller, arguments: list[bytes]) -> Reply:
    script = _SCRIPTS.get(_digest(arguments[1]))
    if script is None:
        raise RedisError(_RUNS_NONE)
    return _run(caller, script, arguments)


def _run(caller: Caller, script: _Script, arguments: list[bytes]) -> Reply:
    number = natural(arguments[2], "ERR Number of keys can't be negative")
    if number > len(arguments) - 3:
        raise RedisError("ERR Number of keys can't be greater than number of args")
    keys, given = arguments[3 : 3 + number], arguments[3 + number :]
    if not keys or (len(keys) > 1 and not script.many_keys) or len(given) < script.arguments:
        raise RedisError("ERR this script takes other numbers of keys and arguments")
    version = caller.resp
    return caller.session.update(keys, lambda draft: script.run(_Call(draft, keys, given, version)))


def script(caller: Caller, arguments: list[bytes]) -> Reply:
    match arguments[1].upper(), len(arguments):
        case b"LOAD", 3:
            digest = _digest(arguments[2])
            if digest not in _SCRIPTS:
                raise RedisError(_RUNS_NONE)
            return resp.bulk(digest.encode("ascii"))
        case b"EXISTS", count if count > 2:
            known = [digest.decode("latin-1").lower() in _SCRIPTS for digest in arguments[2:]]
            return resp.array([resp.ONE if each else resp.ZERO for each in known])
        case b"FLUSH", _:
            return resp.OK
    raise RedisError("ERR only SCRIPT LOAD, SCRIPT EXISTS and SCRIPT FLUSH are supported")


def _digest(text: bytes) -> str:
    if len(text) > _MAX_SCRIPT_BYTES:
        raise RedisError(_RUNS_NONE)
    # Redis identifies scripts by SHA-1; nothing depends on its strength.
    return sha1(text, usedforsecurity=False).hexdigest()


SCRIPT_COMMANDS = (
    RespCommand(b"EVALSHA", -3, evalsha, writes=True, summary="a script of a well-known client"),
    RespCommand(b"EVAL", -3, eval_, writes=True, summary="a script of a well-known client"),
    RespCommand(b"SCRIPT", -2, script, summary="which scripts are known"),
)
