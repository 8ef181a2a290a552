"""The commands of Redis clients that read and write values.

Each is a plain function of the caller and the arguments of the request, the verb first. They do
what Redis's documentation says. In addition, a store without KEEPTTL drops the tags along with the
time to live, and a command that changes a part of a value keeps both.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from decimal import Decimal, DecimalException, localcontext
from functools import lru_cache

from twisted.internet.defer import Deferred

from tagcache.errors import AnswerTooLarge, IntegerOverflow
from tagcache.model.admission import check_integer, check_lengths, value_too_large
from tagcache.model.drafts import Draft, Stored
from tagcache.model.store_options import StoreOptions
from tagcache.server.commands.resp.arguments import (
    EXPIRY_OPTIONS,
    RELATIVE,
    Expiry,
    Options,
    decimal,
    integer,
    time_to_live,
)
from tagcache.server.commands.resp.table import (
    ALL_KEYS,
    MAX_ARGUMENTS,
    MOST_ANSWER_BYTES,
    ONE_KEY,
    Caller,
    Keys,
    RedisError,
    RespCommand,
)
from tagcache.server.commands.table import Reply
from tagcache.server.then import then
from tagcache.wire import resp

_NO_NUMBER = "ERR increment would produce NaN or Infinity"
# The most entries that are stored at once, which takes a few milliseconds.
_PAIRS_AT_ONCE = 500
_OVERFLOW = "ERR increment or decrement would overflow"
_SET_WORDS = frozenset((b"NX", b"XX", b"GET", b"KEEPTTL"))
_GETEX_WORDS = frozenset((b"PERSIST",))
_EXPIRY_WORDS = frozenset(EXPIRY_OPTIONS)
# The most digits after the point in the reply to INCRBYFLOAT, as in Redis.
_DECIMAL_PLACES = 17
_DECIMAL_DIGITS = 60


def get(caller: Caller, arguments: list[bytes]) -> Reply:
    value = caller.session.get(arguments[1])
    if value is None or isinstance(value, bytes):
        return resp.value(value, caller.resp)
    return value.addCallback(resp.value, caller.resp)


def mget(caller: Caller, arguments: list[bytes]) -> Reply:
    def write(values: Sequence[bytes | None]) -> Reply:
        if sum(map(len, filter(None, values))) > MOST_ANSWER_BYTES:
            raise AnswerTooLarge(
                f"the values have more than {MOST_ANSWER_BYTES} bytes; ask for fewer at once"
            )
        return caller.run_work(resp.array_in_slices(values, caller.resp))

    return then(caller.session.get_many(arguments[1:]), write)


def getdel(caller: Caller, arguments: list[bytes]) -> Reply:
    key = arguments[1]

    def change(draft: Draft) -> bytes | None:
        old = draft.get(key)
        draft.delete(key)
        return old and old.value

    return _value(caller, caller.session.update((key,), change, counts=True))


def getex(caller: Caller, arguments: list[bytes]) -> Reply:
    key = arguments[1]
    options = Options(arguments[2:], _GETEX_WORDS, _EXPIRY_WORDS)
    options.at_most_one(*EXPIRY_OPTIONS, b"PERSIST")
    if not options.given:
        return get(caller, arguments)

    def change(draft: Draft) -> bytes | None:
        old = draft.get(key)
        if old is None:
            return None
        expiry = options.expiry("getex")
        deadline = None if expiry is None else expiry.on(draft)
        if deadline is not None or old.expires_ms is not None:
            draft.put(key, old.value, old.tags, deadline)
        return old.value

    return _value(caller, caller.session.update((key,), change, counts=True))


def strlen(caller: Caller, arguments: list[bytes]) -> Reply:
    return then(caller.session.get(arguments[1]), lambda value: resp.integer(len(value or b"")))


def getrange(caller: Caller, arguments: list[bytes]) -> Reply:
    start, end = integer(arguments[2]), integer(arguments[3])

    def part(value: bytes | None) -> bytes:
        value = value or b""
        # Both ends are inclusive, and count from the end if they are negative.
        first = max(start + len(value), 0) if start < 0 else start
        last = max(end + len(value), 0) if end < 0 else end
        if start < 0 and end < 0 and start > end:
            return resp.EMPTY_BULK
        return resp.bulk(value[first : last + 1])

    return then(caller.session.get(arguments[1]), part)


def set_(caller: Caller, arguments: list[bytes]) -> Reply:
    key, value = arguments[1], arguments[2]
    if len(arguments) == 3:
        return _stored(caller, key, value, _options(None))
    if len(arguments) == 5 and arguments[3] in RELATIVE:
        return _stored(caller, key, value, _expiring(arguments[3], arguments[4]))
    options = Options(arguments[3:], _SET_WORDS, _EXPIRY_WORDS)
    options.at_most_one(b"NX", b"XX")
    expiry = options.expiry("set")
    if len(options.given) == 1 and expiry is not None and expiry.in_ms:
        return _stored(caller, key, value, _options(expiry.in_ms))
    change = StoreIf(key, value, expiry, options)
    stored = caller.session.update((key,), change, counts=b"GET" in options)
    if b"GET" in options:
        return then(stored, lambda outcome: resp.value(outcome[1], caller.resp))
    return then(stored, lambda outcome: resp.OK if outcome[0] else resp.null(caller.resp))


class StoreIf:
    """An update that stores a value if NX or XX of ``options`` allows it.

    It returns whether it stored, and the old value. ``tags`` are those of the new entry; if None,
    the tag rules give them.
    """

    def __init__(
        self,
        key: bytes,
        value: bytes,
        expiry: Expiry | None,
        options: Options,
        tags: tuple[bytes, ...] | None = None,
    ) -> None:
        self._key = key
        self._value = value
        self._expiry = expiry
        self._options = options
        self._tags = tags

    def __call__(self, draft: Draft) -> tuple[bool, bytes | None]:
        old = draft.get(self._key)
        allowed = (b"XX" if old is None else b"NX") not in self._options
        if allowed:
            draft.put(self._key, self._value, self._tags, self._deadline(draft, old))
        return allowed, old and old.value

    def _deadline(self, draft: Draft, old: Stored | None) -> int | None:
        if self._expiry is not None:
            return self._expiry.on(draft)
        if b"KEEPTTL" in self._options and old is not None:
            return old.expires_ms
        return draft.default_expiry()


# Cached, because most clients repeat the same few times to live.
@lru_cache(4096)
def _options(ttl_ms: int | None) -> StoreOptions:
    return StoreOptions((), ttl_ms)


@lru_cache(4096)
def _expiring(word: bytes, text: bytes) -> StoreOptions:
    return StoreOptions((), time_to_live(word, text, "set"))


@lru_cache(4096)
def plain_options(bulks: bytes) -> StoreOptions | None:
    """Parse the arguments after the value of a SET; None if they need more than a plain store.

    Raises RedisError.
    """
    words = resp.split_bulks(bulks)
    if not words:
        return _options(None)
    if len(words) == 2 and words[0] in RELATIVE:
        return _expiring(words[0], words[1])
    return None


def _stored(caller: Caller, key: bytes, value: bytes, options: StoreOptions) -> Reply:
    stored = caller.session.put_with(key, value, options)
    if stored is None or isinstance(stored, int):
        return resp.OK
    return stored.addCallback(lambda _: resp.OK)


def setex(caller: Caller, arguments: list[bytes]) -> Reply:
    verb = arguments[0].decode("ascii").lower()
    unit_ms = 1000 if verb == "setex" else 1
    expiry = Expiry(arguments[2], unit_ms, False, verb).check_positive(verb)
    return _stored(caller, arguments[1], arguments[3], _options(expiry.in_ms))


def setnx(caller: Caller, arguments: list[bytes]) -> Reply:
    added = caller.session.add(arguments[1], arguments[2])
    return then(added, resp.one_or_zero)


def getset(caller: Caller, arguments: list[bytes]) -> Reply:
    return set_(caller, [*arguments[:3], b"GET"])


def mset(caller: Caller, arguments: list[bytes]) -> Reply:
    pairs = _pairs(arguments)
    # In a transaction, and with a remote engine, all are stored atomically.
    if len(pairs) > _PAIRS_AT_ONCE and caller.engine.store is not None:
        return then(caller.run_work(_set_in_slices(caller, pairs)), lambda _: resp.OK)
    return then(_set_all(caller, pairs, only_new=False), lambda _: resp.OK)


def msetnx(caller: Caller, arguments: list[bytes]) -> Reply:
    pairs = _pairs(arguments)
    if len(pairs) > _PAIRS_AT_ONCE:
        raise RedisError(f"ERR MSETNX stores {_PAIRS_AT_ONCE} entries at most")
    return then(_set_all(caller, pairs, only_new=True), resp.one_or_zero)


def _pairs(arguments: list[bytes]) -> dict[bytes, bytes]:
    """Return the values by their keys; if a key is repeated, its last value."""
    if len(arguments) % 2 == 0:
        verb = arguments[0].decode("ascii").lower()
        raise RedisError(f"ERR wrong number of arguments for '{verb}' command")
    return dict(zip(arguments[1::2], arguments[2::2], strict=True))


def _set_in_slices(caller: Caller, pairs: dict[bytes, bytes]) -> Generator[None, None, None]:
    """Work that stores many entries, not atomically; none if one exceeds a limit of lengths."""
    limits = caller.engine.limits
    for key, value in pairs.items():
        check_lengths(limits, key, value)
        yield
    for key, value in pairs.items():
        caller.session.put_with(key, value, _options(None))
        yield


def _set_all(caller: Caller, pairs: dict[bytes, bytes], only_new: bool) -> bool | Deferred[bool]:
    def change(draft: Draft) -> bool:
        if only_new and any(draft.get(key) is not None for key in pairs):
            return False
        for key, value in pairs.items():
            draft.put(key, value, None, draft.default_expiry())
        return True

    return caller.session.update(pairs, change)


def append(caller: Caller, arguments: list[bytes]) -> Reply:
    return _lengthen(caller, arguments[1], lambda value: value + arguments[2])


def setrange(caller: Caller, arguments: list[bytes]) -> Reply:
    key, offset, part = arguments[1], integer(arguments[2]), arguments[3]
    if offset < 0:
        raise RedisError("ERR offset is out of range")
    if not part:
        return strlen(caller, arguments)
    # Check the limit before allocating the zeros that fill the gap.
    limits = caller.engine.limits
    if offset + len(part) > limits.max_value_length:
        raise value_too_large(limits, offset + len(part))

    def overwrite(value: bytes) -> bytes:
        return value[:offset].ljust(offset, b"\0") + part + value[offset + len(part) :]

    return _lengthen(caller, key, overwrite)


def _lengthen(caller: Caller, key: bytes, new: Callable[[bytes], bytes]) -> Reply:
    def change(draft: Draft) -> bytes:
        old = draft.get(key)
        value = new(b"" if old is None else old.value)
        _replace(draft, key, old, value)
        return resp.integer(len(value))

    return caller.session.update((key,), change)


def _replace(draft: Draft, key: bytes, old: Stored | None, value: bytes) -> None:
    """Store another value with the tags and the deadline of the old one, if there is one."""
    if old is None:
        draft.put(key, value, None, draft.default_expiry())
    else:
        draft.put(key, value, old.tags, old.expires_ms)


def incr(caller: Caller, arguments: list[bytes]) -> Reply:
    return count(caller, arguments[1], 1)


def decr(caller: Caller, arguments: list[bytes]) -> Reply:
    return count(caller, arguments[1], -1)


def incrby(caller: Caller, arguments: list[bytes]) -> Reply:
    return count(caller, arguments[1], integer(arguments[2]))


def decrby(caller: Caller, arguments: list[bytes]) -> Reply:
    by = -integer(arguments[2])
    try:
        check_integer(by)
    except IntegerOverflow:
        raise RedisError("ERR decrement would overflow", "integer overflow") from None
    return count(caller, arguments[1], by)


def count(caller: Caller, key: bytes, by: int) -> Reply:
    """Add to a counter, and reply with the result."""

    def change(draft: Draft) -> bytes:
        return resp.integer(add_to(draft, key, by))

    return caller.session.update((key,), change)


def add_to(draft: Draft, key: bytes, by: int) -> int:
    """Add to a counter, and return the result. Raises RedisError."""
    old = draft.get(key)
    result = by + (0 if old is None else integer(old.value))
    try:
        check_integer(result)
    except IntegerOverflow:
        raise RedisError(_OVERFLOW, "integer overflow") from None
    _replace(draft, key, old, b"%d" % result)
    return result


def incrbyfloat(caller: Caller, arguments: list[bytes]) -> Reply:
    key, by = arguments[1], decimal(arguments[2])

    def change(draft: Draft) -> bytes:
        old = draft.get(key)
        try:
            total = by + (Decimal(0) if old is None else decimal(old.value))
        except DecimalException:
            raise RedisError(_NO_NUMBER) from None
        text = _decimal_text(total)
        _replace(draft, key, old, text)
        return resp.bulk(text)

    with localcontext(prec=_DECIMAL_DIGITS):
        return caller.session.update((key,), change)


def _decimal_text(number: Decimal) -> bytes:
    """Return a number without an exponent and without zeros at the end. Raises RedisError."""
    if not number.is_finite() or number.adjusted() >= _DECIMAL_DIGITS - _DECIMAL_PLACES:
        raise RedisError(_NO_NUMBER)
    text = f"{number:.{_DECIMAL_PLACES}f}".rstrip("0").rstrip(".")
    return b"0" if text == "-0" else text.encode("ascii")


def _value(caller: Caller, value: bytes | Deferred[bytes | None] | None) -> Reply:
    return then(value, lambda found: resp.value(found, caller.resp))


STRING_COMMANDS = (
    RespCommand(b"GET", 2, get, ONE_KEY, summary="the value"),
    RespCommand(
        b"MGET", -2, mget, ALL_KEYS, summary="the values of several keys", most=MAX_ARGUMENTS
    ),
    RespCommand(b"GETDEL", 2, getdel, ONE_KEY, True, summary="the value, which is deleted"),
    RespCommand(b"GETEX", -2, getex, ONE_KEY, True, summary="the value, with a new time to live"),
    RespCommand(b"STRLEN", 2, strlen, ONE_KEY, summary="the length of the value"),
    RespCommand(b"GETRANGE", 4, getrange, ONE_KEY, summary="a part of the value"),
    RespCommand(b"SUBSTR", 4, getrange, ONE_KEY, summary="a part of the value"),
    RespCommand(b"SET", -3, set_, ONE_KEY, True, summary="store a value"),
    RespCommand(b"SETEX", 4, setex, ONE_KEY, True, summary="store with a time to live in seconds"),
    RespCommand(
        b"PSETEX", 4, setex, ONE_KEY, True, summary="store with a time to live in milliseconds"
    ),
    RespCommand(b"SETNX", 3, setnx, ONE_KEY, True, summary="store if the key is absent"),
    RespCommand(b"GETSET", 3, getset, ONE_KEY, True, summary="store, and return the old value"),
    RespCommand(
        b"MSET", -3, mset, Keys(1, -1, 2), True, summary="store several values", most=MAX_ARGUMENTS
    ),
    RespCommand(
        b"MSETNX",
        -3,
        msetnx,
        Keys(1, -1, 2),
        True,
        summary="store several if all are absent",
        most=MAX_ARGUMENTS,
    ),
    RespCommand(b"APPEND", 3, append, ONE_KEY, True, summary="add to the end of the value"),
    RespCommand(b"SETRANGE", 4, setrange, ONE_KEY, True, summary="overwrite a part of the value"),
    RespCommand(b"INCR", 2, incr, ONE_KEY, True, summary="add 1"),
    RespCommand(b"DECR", 2, decr, ONE_KEY, True, summary="subtract 1"),
    RespCommand(b"INCRBY", 3, incrby, ONE_KEY, True, summary="add an integer"),
    RespCommand(b"DECRBY", 3, decrby, ONE_KEY, True, summary="subtract an integer"),
    RespCommand(b"INCRBYFLOAT", 3, incrbyfloat, ONE_KEY, True, summary="add a decimal number"),
)
