"""The scripts of well-known clients, recognised by their digests.

No script is run: a function here does the work of each. ``docs/redis-clients.md`` lists them.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1

from tagcache.model.drafts import Draft
from tagcache.server.commands.resp.arguments import Expiry, integer, natural
from tagcache.server.commands.resp.strings import add_to
from tagcache.server.commands.resp.table import (
    Caller,
    RedisError,
    RespCommand,
    RespFunction,
    ScriptKeys,
)
from tagcache.server.commands.table import Reply
from tagcache.wire import resp

_NO_SCRIPT = "NOSCRIPT No matching script. This server runs only the scripts of well-known clients."
_RUNS_NONE = (
    "ERR this server runs no scripts but those of well-known clients; use SET with NX, XX, GET and "
    "KEEPTTL, or WATCH, MULTI and EXEC"
)
_MAX_SCRIPT_BYTES = 8 * 1024
# The most digests that are remembered.
_MOST_KNOWN = 1000
# A script blocks all other clients until it is done.
_MOST_ARGUMENTS = 256


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
        """Return what PTTL replies for the first key."""
        entry = self.draft.get(self.keys[0])
        if entry is None:
            return -2
        return -1 if entry.expires_ms is None else entry.expires_ms - self.draft.now_ms

    def expire_in(self, ms: int) -> None:
        """Set a new deadline for the entry of the first key."""
        entry = self.draft.get(self.keys[0])
        if entry is not None:
            self.draft.put(self.keys[0], entry.value, entry.tags, self.draft.now_ms + ms)

    def set(self, value: bytes, ttl_ms: int | None, key: bytes | None = None) -> None:
        """Store a value under ``key``, or under the first key."""
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
    """Replace the time to live, or add to it if the third argument is "0"."""
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


# By the digest of the text in its normal form, because programs write the same few scripts with
# different blanks, quotes and line breaks.
_BY_NORMAL_FORM = {
    # Delete if equal, the release of a lock: cashews, aiocache, phpredis, Laravel, and many more.
    "8373738e6785bdc635ee2866b4e8418c07d6f4a6": _Script(_delete_if_equal, 1),
    # redis-py, Lock: release, extend, reacquire.
    "b83c83e5b00537b34fef106f87819487c9229098": _Script(_delete_if_equal, 1),
    "be395f27dfca49691fd43fcb7e47bc7699ce5e60": _Script(_extend, 3),
    "25507b46078f5568a7f79242a312ba0ba536e620": _Script(_expire_if_equal, 2),
    # django-redis: incr of an entry that must exist; incr of any entry.
    "67856fe508131eb5758554831ac85987d14dceab": _Script(_add_if_there, 1),
    "1b8b2df7b4398e3d12f06f4aa415254bc8d7096b": _Script(_add, 1),
    # cashews: counting with a time to live.
    "d4b0e7328f0a439a1289e0535f49855a19f678be": _Script(_add_and_expire_first, 2),
    # aiocache, OptimisticLock.
    "90735140b0dd91b6b47b6728c4ddc243cb75fe59": _Script(_replace_if_equal, 2),
    # Laravel, Cache::add.
    "c72f1d88934e709d573e15551de8fea025f1ce03": _Script(_add_for_seconds, 2),
    # rate-limit-redis: increment, get.
    "684751c09f7b86602769fd9291b8d4fe7ca6261d": _Script(_count_in_window, 1),
    "b3c228490f1641d2fac9cf8e9bf73938b2e9f032": _Script(_count_and_left, 0),
    # rate-limiter-flexible.
    "b6f6418ea47781bb81974ac03006c77676c04aff": _Script(_consume, 2),
    # redlock for Node: lock, unlock, extend.
    "29a1d40f0c8be602b941b441abf3f45d9a3fee84": _Script(_lock_all, 2, many_keys=True),
    "9580e0bd5ad4d35ed4fbbe108b5145c9271fe0d0": _Script(_unlock_all, 1, many_keys=True),
    "b8610e20bb77f68a1f89a95d0aefd43d74e59052": _Script(_extend_all, 2, many_keys=True),
}
# Digests that clients use without sending the text first, because they know their own script's.
_WELL_KNOWN = {
    "c3f8721cbb97f72bc19e972846bd7aaf91901658": "b83c83e5b00537b34fef106f87819487c9229098",
    "a4e8783852e6b949f9ef3a97212805108459a890": "be395f27dfca49691fd43fcb7e47bc7699ce5e60",
    "1cac51482acf5858da00f6d685d68f886cd6b6b2": "25507b46078f5568a7f79242a312ba0ba536e620",
    "b948f76fda6b97319d3426a2fb42b0d4f02c7146": "8373738e6785bdc635ee2866b4e8418c07d6f4a6",
    "b70c2384248f88e6b75b9f89241a180f856ad852": "8373738e6785bdc635ee2866b4e8418c07d6f4a6",
    "0f8a745c1b5efe281bd1299ea0d1b2994c6ae601": "d4b0e7328f0a439a1289e0535f49855a19f678be",
}


class Scripts:
    """The scripts that are known by their digests: those above, and texts equivalent to them.

    The digest of such a text is remembered when a client sends it. Other texts are not kept.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Script] = OrderedDict(
            (digest, _BY_NORMAL_FORM[normal]) for digest, normal in _WELL_KNOWN.items()
        )

    def rows(self) -> tuple[RespCommand, ...]:
        """Return the commands for the table."""
        return (
            _row(b"EVALSHA", self.evalsha),
            _row(b"EVAL", self.eval),
            RespCommand(b"SCRIPT", -2, self.script, summary="which scripts are known"),
        )

    def evalsha(self, caller: Caller, arguments: list[bytes]) -> Reply:
        script = self._known.get(arguments[1].decode("latin-1").lower())
        if script is None:
            raise RedisError(_NO_SCRIPT, "no_script")
        return _run(caller, script, arguments)

    def eval(self, caller: Caller, arguments: list[bytes]) -> Reply:
        digest = self._learn(arguments[1])
        return _run(caller, self._known[digest], arguments)

    def script(self, caller: Caller, arguments: list[bytes]) -> Reply:
        match arguments[1].upper(), len(arguments):
            case b"LOAD", 3:
                return resp.bulk(self._learn(arguments[2]).encode("ascii"))
            case b"EXISTS", count if count > 2:
                digests = [each.decode("latin-1").lower() for each in arguments[2:]]
                return resp.array([resp.one_or_zero(each in self._known) for each in digests])
            case b"FLUSH", _:
                return resp.OK
        raise RedisError("ERR only SCRIPT LOAD, SCRIPT EXISTS and SCRIPT FLUSH are supported")

    def _learn(self, text: bytes) -> str:
        """Remember the digest of a script, and return it. Raises RedisError if it is not known."""
        if len(text) > _MAX_SCRIPT_BYTES:
            raise RedisError(_RUNS_NONE)
        digest = _sha1(text)
        if digest not in self._known:
            script = _BY_NORMAL_FORM.get(_sha1(normal_form(text)))
            if script is None:
                raise RedisError(_RUNS_NONE)
            self._known[digest] = script
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return digest


def _row(verb: bytes, run: RespFunction) -> RespCommand:
    summary = "a well-known script"
    keys = ScriptKeys(0, 0, 0)
    return RespCommand(verb, -3, run, keys, True, summary=summary, most=_MOST_ARGUMENTS)


def normal_form(text: bytes) -> bytes:
    """Return a script without comments and other differences that do not change its meaning."""
    text = re.sub(rb"--[^\n]*", b"", text).replace(b'"', b"'").lower()
    # Remove the blanks that do not separate two words.
    return re.sub(rb" ?([^\w' ]+) ?", rb"\1", re.sub(rb"\s+", b" ", text)).strip()


def _sha1(text: bytes) -> str:
    # Redis identifies scripts by SHA-1; nothing depends on its strength.
    return sha1(text, usedforsecurity=False).hexdigest()


def _run(caller: Caller, script: _Script, arguments: list[bytes]) -> Reply:
    number = natural(arguments[2], "ERR Number of keys can't be negative")
    if number > len(arguments) - 3:
        raise RedisError("ERR Number of keys can't be greater than number of args")
    keys, given = arguments[3 : 3 + number], arguments[3 + number :]
    if not keys or (len(keys) > 1 and not script.many_keys) or len(given) < script.arguments:
        raise RedisError("ERR this script takes other numbers of keys and arguments")
    version = caller.resp
    return caller.session.update(keys, lambda draft: script.run(_Call(draft, keys, given, version)))
