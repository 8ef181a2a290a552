"""The commands of Redis clients about keys, and about all entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from tagcache.model.drafts import Draft
from tagcache.model.views import EntryView
from tagcache.server.commands.resp.arguments import Options, integer
from tagcache.server.commands.resp.glob import matcher
from tagcache.server.commands.resp.table import (
    ALL_KEYS,
    MAX_ARGUMENTS,
    ONE_KEY,
    SYNTAX_ERROR,
    Caller,
    Keys,
    RedisError,
    RespCommand,
    for_each,
)
from tagcache.server.commands.table import Reply
from tagcache.server.then import then
from tagcache.wire import resp

if TYPE_CHECKING:
    from tagcache.server.resp.caller import RespCaller

_TWO_KEYS = Keys(1, 2, 1)
_COUNT = 10
_STRING = resp.simple("string")
_NONE = resp.simple("none")
_NO_SUCH_KEY = "ERR no such key"
_EMBEDDED_BYTES = 44
_INVALID_CURSOR = "ERR invalid cursor"


def delete(caller: Caller, arguments: list[bytes]) -> Reply:
    if len(arguments) == 2:
        return then(caller.session.delete(arguments[1]), resp.one_or_zero)
    keys = arguments[1:]

    def conclude(count: int) -> bytes:
        caller.invalidated(b"INV_KEYS", keys, count)
        return resp.integer(count)

    return then(caller.session.invalidate_keys(keys), conclude)


def exists(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to EXISTS and TOUCH: a key that is named twice counts twice."""
    found = for_each(caller, arguments[1:], lambda key: _is_there(caller, key))
    return then(found, lambda each: resp.integer(sum(each)))


def type_(caller: Caller, arguments: list[bytes]) -> Reply:
    return then(_is_there(caller, arguments[1]), lambda there: _STRING if there else _NONE)


def _is_there(caller: Caller, key: bytes) -> bool | Deferred[bool]:
    def read(draft: Draft) -> bool:
        return draft.get(key) is not None

    return caller.session.update((key,), read)


def rename(caller: Caller, arguments: list[bytes]) -> Reply:
    return then(_move(caller, arguments, only_new=False), lambda _: resp.OK)


def renamenx(caller: Caller, arguments: list[bytes]) -> Reply:
    return then(_move(caller, arguments, only_new=True), resp.one_or_zero)


def _move(caller: Caller, arguments: list[bytes], only_new: bool) -> bool | Deferred[bool]:
    source, target = arguments[1:3]

    def change(draft: Draft) -> bool:
        entry = draft.get(source)
        if entry is None:
            raise RedisError(_NO_SUCH_KEY)
        if only_new and draft.get(target) is not None:
            return False
        if source != target:
            draft.delete(source)
            draft.put(target, *entry)
        return True

    return caller.session.update((source, target), change)


def copy(caller: Caller, arguments: list[bytes]) -> Reply:
    source, target = arguments[1:3]
    options = Options(arguments[3:], frozenset((b"REPLACE",)), frozenset((b"DB",)))
    if b"DB" in options:
        raise RedisError("ERR COPY to another database is not supported")
    if source == target:
        raise RedisError("ERR source and destination objects are the same")

    def change(draft: Draft) -> bytes:
        entry = draft.get(source)
        if entry is None or (draft.get(target) is not None and b"REPLACE" not in options):
            return resp.ZERO
        draft.put(target, *entry)
        return resp.ONE

    return caller.session.update((source, target), change)


def randomkey(caller: Caller, arguments: list[bytes]) -> Reply:
    return then(caller.engine.random_key(), lambda key: resp.value(key, caller.resp))


def keys(caller: Caller, arguments: list[bytes]) -> Reply:
    def write(found: tuple[int, list[bytes]]) -> Reply:
        return caller.run_work(resp.array_in_slices(found[1], caller.resp))

    return then(caller.engine.scan_keys(0, None, matcher(arguments[1])), write)


def scan(caller: Caller, arguments: list[bytes]) -> Reply:
    cursor = integer(arguments[1], _INVALID_CURSOR)
    if cursor < 0:
        raise RedisError(_INVALID_CURSOR)
    options = Options(arguments[2:], frozenset(), frozenset((b"MATCH", b"COUNT", b"TYPE")))
    pattern, text, kind = map(options.value, (b"MATCH", b"COUNT", b"TYPE"))
    count = _COUNT if text is None else integer(text)
    if count < 1:
        raise RedisError(SYNTAX_ERROR)
    if kind is not None and kind.lower() != b"string":
        # All entries are strings.
        return resp.array([resp.bulk(b"0"), resp.EMPTY_ARRAY])
    wanted = None if pattern is None else matcher(pattern)

    def write(found: tuple[int, list[bytes]]) -> Reply:
        following = resp.bulk(b"%d" % found[0])
        written = caller.run_work(resp.array_in_slices(found[1], caller.resp))
        return then(written, lambda names: resp.array([following, names]))

    return then(caller.engine.scan_keys(cursor, count, wanted), write)


def dbsize(caller: Caller, arguments: list[bytes]) -> Reply:
    return then(caller.engine.totals(), lambda totals: resp.integer(totals.items))


def flush(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to FLUSHDB; SYNC and ASYNC both reply when no entry is left."""
    return _flushed(caller, arguments, caller.session.flush)


def flush_all(caller: RespCaller, arguments: list[bytes]) -> Reply:
    """Reply to FLUSHALL, which empties all databases."""
    return _flushed(caller, arguments, caller.databases.flush_all)


def _flushed(
    caller: Caller, arguments: list[bytes], flush: Callable[[], int | Deferred[int]]
) -> Reply:
    options = Options(arguments[1:], frozenset((b"ASYNC", b"SYNC")), frozenset())
    options.at_most_one(b"ASYNC", b"SYNC")

    def conclude(count: int) -> bytes:
        caller.invalidated(arguments[0].upper(), (), count)
        return resp.OK

    return then(flush(), conclude)


def object_(caller: Caller, arguments: list[bytes]) -> Reply:
    what = arguments[1].upper()
    if what not in (b"ENCODING", b"REFCOUNT", b"IDLETIME", b"FREQ") or len(arguments) != 3:
        raise RedisError("ERR unknown subcommand or wrong number of arguments for 'object' command")

    def read(draft: Draft) -> bytes | None:
        entry = draft.get(arguments[2])
        if entry is None:
            return resp.null(caller.resp)
        if what == b"FREQ":
            raise RedisError(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked."
            )
        if what == b"ENCODING":
            return resp.bulk(_encoding(entry.value))
        return resp.ONE if what == b"REFCOUNT" else None

    def idle(found: bytes | None) -> Reply:
        if found is not None:
            return found
        # The time of the last read is not recorded, so use the time of the last store.
        return then(caller.engine.peek(arguments[2]), _age)

    def _age(entry: EntryView | None) -> bytes:
        if entry is None:
            return resp.null(caller.resp)
        return resp.integer(max(caller.now_ms() - entry.stored_us // 1000, 0) // 1000)

    return then(caller.session.update((arguments[2],), read), idle)


def _encoding(value: bytes) -> bytes:
    """Return the encoding in which Redis would keep the value."""
    try:
        integer(value)
    except RedisError:
        return b"embstr" if len(value) <= _EMBEDDED_BYTES else b"raw"
    return b"int"


def memory(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to MEMORY USAGE with the lengths of the key, the value and the tags."""
    if arguments[1].upper() != b"USAGE" or len(arguments) < 3:
        raise RedisError("ERR only MEMORY USAGE key is supported; INFO memory has the totals")

    def measure(entry: EntryView | None) -> bytes:
        if entry is None:
            return resp.null(caller.resp)
        return resp.integer(entry.size + sum(map(len, entry.tags)))

    return then(caller.engine.peek(arguments[2]), measure)


KEY_COMMANDS = (
    RespCommand(b"DEL", -2, delete, ALL_KEYS, True, summary="delete", most=MAX_ARGUMENTS),
    RespCommand(b"UNLINK", -2, delete, ALL_KEYS, True, summary="delete", most=MAX_ARGUMENTS),
    RespCommand(
        b"EXISTS",
        -2,
        exists,
        ALL_KEYS,
        summary="how many of the keys exist",
        most=MAX_ARGUMENTS,
    ),
    RespCommand(
        b"TOUCH", -2, exists, ALL_KEYS, summary="how many of the keys exist", most=MAX_ARGUMENTS
    ),
    RespCommand(b"TYPE", 2, type_, ONE_KEY, summary="string, or none"),
    RespCommand(b"RENAME", 3, rename, _TWO_KEYS, True, summary="rename the key"),
    RespCommand(
        b"RENAMENX", 3, renamenx, _TWO_KEYS, True, summary="rename the key if the new one is absent"
    ),
    RespCommand(b"COPY", -3, copy, _TWO_KEYS, True, summary="copy the value to another key"),
    RespCommand(b"RANDOMKEY", 1, randomkey, summary="any key"),
    RespCommand(b"KEYS", 2, keys, transaction=False, summary="the keys that match a pattern"),
    RespCommand(
        b"SCAN",
        -2,
        scan,
        transaction=False,
        summary="some of the keys, and a cursor for the next call",
    ),
    RespCommand(b"DBSIZE", 1, dbsize, summary="the number of entries"),
    RespCommand(b"FLUSHDB", -1, flush, writes=True, summary="delete all entries"),
    RespCommand(
        b"FLUSHALL",
        -1,
        flush_all,
        writes=True,
        transaction=False,
        summary="delete all entries of all databases",
    ),
    RespCommand(b"OBJECT", -2, object_, Keys(2, 2, 1), summary="encoding, age of an entry"),
    RespCommand(b"MEMORY", -2, memory, Keys(2, 2, 1), summary="the bytes of an entry"),
)
