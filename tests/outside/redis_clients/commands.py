"""Random commands for tests that compare TagCache with Redis.

``steps()`` draws a list of steps. To have another command drawn, add it to ``READS`` or
``WRITES``: a strategy of lists of ``Command``, most of which ``words`` makes. Replies are compared
as they are; where they may differ, the command says how with ``same``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiocache.backends.redis import RedisBackend
from cashews.backends.redis import backend as cashews
from django_redis.client.default import DefaultClient
from hypothesis import strategies as st
from redis.lock import Lock

from tests.outside.redis_clients.resp import Reply

Same = Callable[[Reply, Reply], bool]


def equal(ours: Reply, theirs: Reply) -> bool:
    return ours == theirs


def same_kind(ours: Reply, theirs: Reply) -> bool:
    """Both are errors, nulls or of one type, whatever they hold."""
    return ours.kind == theirs.kind and (ours.content is None) == (theirs.content is None)


def first_word(ours: Reply, theirs: Reply) -> bool:
    """As ``equal``, but the text of errors is each server's own after the first word."""
    if theirs.is_error:
        return ours.kind == theirs.kind and ours.content.split()[0] == theirs.content.split()[0]
    return ours == theirs


def of_script(ours: Reply, theirs: Reply) -> bool:
    """As ``first_word``, but the numbers of Lua have 53 bits."""
    if ours.kind == theirs.kind == ":" and abs(theirs.content) >= 2**53:
        return True
    return first_word(ours, theirs)


def any_order(ours: Reply, theirs: Reply) -> bool:
    if not isinstance(theirs.content, list):
        return ours == theirs
    return ours.kind == theirs.kind and _sorted(ours) == _sorted(theirs)


def _sorted(reply: Reply) -> list[Any]:
    return sorted(each.content for each in reply.content)


def near(tolerance: int) -> Same:
    """Times that are asked for one after the other."""

    def compare(ours: Reply, theirs: Reply) -> bool:
        if theirs.kind != ":" or theirs.content < 0 or ours.kind != ":" or ours.content < 0:
            return ours == theirs
        return abs(ours.content - theirs.content) <= tolerance

    return compare


@dataclass(frozen=True)
class Command:
    """Its words, and how its replies compare; ``whole_scan`` repeats it until the cursor is 0."""

    words: tuple[bytes, ...]
    same: Same = equal
    whole_scan: bool = False

    def __repr__(self) -> str:
        return " ".join(repr(word)[1:] for word in self.words)


Commands = st.SearchStrategy[list[Command]]

ALL_BYTES = bytes(range(256))
KEYS = (b"a", b"b", b"c", b"user:1", b"user:2", b"h*llo", ALL_BYTES)
KEY = st.sampled_from(KEYS)
# What is there at first; the other keys are not.
FIRST = (b"MSET", b"a", b"hello", b"b", b"10", b"c", b"1.5", b"user:1", ALL_BYTES)
NUMBER = st.sampled_from(
    [b"0", b"1", b"-1", b"10", b"9223372036854775807", b"-9223372036854775808"]
)
NOT_A_NUMBER = st.sampled_from(
    [b"", b"x", b"1.5", b" 1", b"1 ", b"+1", b"01", b"-0", b"9223372036854775808", b"1_0"]
)
INTEGER = st.one_of(NUMBER, NUMBER, NUMBER, NOT_A_NUMBER)
# Redis calculates with the floating point of its machine: only eighths are the same everywhere.
FLOAT = st.one_of(
    st.sampled_from([b"0", b"1", b"-1", b"10", b"", b"x", b" 1", b"1 ", b"1_0", b"+1", b"01"]),
    st.sampled_from([b"-2.5", b"1e3", b"3.0", b"inf", b"-inf", b"nan", b".5", b"5."]),
    st.integers(-8000, 8000).map(lambda number: str(number / 8).encode()),
)
VALUE = st.one_of(
    st.sampled_from([b"", b"hello", b"a\r\nb", b"3.5", ALL_BYTES, b"x" * 5000]),
    INTEGER,
    st.binary(max_size=8),
)
# Nothing ends while the test runs.
SECONDS = st.sampled_from([b"100", b"1000", b"100000"])
TIME = st.one_of(
    SECONDS,
    SECONDS,
    st.sampled_from([b"0", b"-1", b"-1000", b"9223372036854775807", b"-9223372036854775808", b"x"]),
)
MILLISECONDS = st.one_of(
    st.sampled_from([b"100000", b"1000000", b"100000500"]),
    st.sampled_from([b"0", b"-1", b"9223372036854775807", b"x"]),
)
# In the year 2100, and in 1970.
UNIX = st.sampled_from([b"4102444800", b"4102444900", b"1", b"0", b"-1", b"x"])
UNIX_MILLISECONDS = st.sampled_from([b"4102444800000", b"4102444900123", b"1", b"0", b"-1", b"x"])
OFFSET = st.sampled_from([b"0", b"1", b"3", b"100", b"-1", b"-3", b"-100", b"x"])
PATTERN = st.one_of(
    st.sampled_from(
        [b"*", b"user:*", b"?", b"[ab]", b"[^a]", b"[a-b]", b"[b-a]", b"h\\*llo", b"h[*"]
    ),
    st.text("abuh*?[]^-\\:r", max_size=6).map(str.encode),
)


def part(what: Any) -> st.SearchStrategy[Any]:
    """Draw a word in upper or lower case, the words of a tuple in turn, or from a strategy."""
    if isinstance(what, bytes):
        return st.sampled_from([what, what, what.lower()])
    return st.tuples(*map(part, what)) if isinstance(what, tuple) else what


def words(*parts: Any, same: Same = equal) -> Commands:
    """Draw a command of these parts."""
    return part(parts).map(lambda found: [Command(_flat(found), same)])


def _flat(found: tuple[Any, ...]) -> tuple[bytes, ...]:
    flat: list[bytes] = []
    for each in found:
        flat += [each] if isinstance(each, bytes) else _flat(tuple(each))
    return tuple(flat)


def many(what: st.SearchStrategy[Any], least: int = 1, most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(what, min_size=least, max_size=most)


def maybe(*what: Any) -> st.SearchStrategy[Any]:
    """Draw one of these parts, or nothing."""
    return st.one_of(st.just(()), *map(part, what))


# Mostly one of them, at times a contradiction.
LIFETIME = st.one_of(
    maybe((b"EX", TIME), (b"PX", MILLISECONDS), (b"EXAT", UNIX), (b"PXAT", UNIX_MILLISECONDS)),
    maybe(b"KEEPTTL", (b"EX",), (b"EX", SECONDS, b"PX", MILLISECONDS)),
)
SET_OPTIONS = st.tuples(LIFETIME, maybe(b"NX", b"XX"), maybe(b"GET")).flatmap(st.permutations)
GETEX_OPTIONS = maybe(
    (b"EX", TIME),
    (b"PX", MILLISECONDS),
    (b"EXAT", UNIX),
    (b"PXAT", UNIX_MILLISECONDS),
    b"PERSIST",
    (b"PERSIST", b"EX", SECONDS),
)
EXPIRE_OPTIONS = st.one_of(
    maybe(b"NX", b"XX", b"GT", b"LT"), maybe((b"NX", b"XX"), (b"GT", b"LT"), (b"XX", b"GT"), b"ZZ")
)


def from_now(time: st.SearchStrategy[bytes], short: bytes) -> st.SearchStrategy[Any]:
    """Draw a time from now and the options of EXPIRE.

    Whether the same time is greater than before depends on whether a millisecond has passed, so
    with GT it is one that is shorter than all others.
    """
    options = maybe(b"NX", b"XX", b"LT", (b"NX", b"XX"), (b"GT", b"LT"), (b"XX", b"LT"), b"ZZ")
    return st.one_of(
        part((time, options)), part((time, options)), part((short, maybe(b"XX"), b"GT"))
    )


READS: dict[str, Commands] = {
    "GET": words(b"GET", KEY),
    "MGET": words(b"MGET", many(KEY)),
    "STRLEN": words(b"STRLEN", KEY),
    "GETRANGE": words(b"GETRANGE", KEY, OFFSET, OFFSET),
    "SUBSTR": words(b"SUBSTR", KEY, OFFSET, OFFSET),
    "EXISTS": words(b"EXISTS", many(KEY)),
    "TOUCH": words(b"TOUCH", many(KEY)),
    "TYPE": words(b"TYPE", KEY),
    "TTL": words(b"TTL", KEY, same=near(1)),
    "PTTL": words(b"PTTL", KEY, same=near(2000)),
    "EXPIRETIME": words(b"EXPIRETIME", KEY, same=near(1)),
    "PEXPIRETIME": words(b"PEXPIRETIME", KEY, same=near(2000)),
    "KEYS": words(b"KEYS", PATTERN, same=any_order),
    "SCAN": st.tuples(
        st.just((b"SCAN", b"0")),
        maybe((b"MATCH", PATTERN)),
        maybe((b"COUNT", st.sampled_from([b"1", b"3", b"1000", b"0", b"x"]))),
        maybe((b"TYPE", st.sampled_from([b"string", b"STRING", b"list", b"nothing"]))),
    ).map(lambda found: [Command(_flat(found), same_kind, whole_scan=True)]),
    "RANDOMKEY": words(b"RANDOMKEY", same=same_kind),
    # Redis counts what has expired until somebody asks for it.
    "DBSIZE": st.just([Command((b"EXISTS", *KEYS, b"float")), Command((b"DBSIZE",))]),
    "ECHO": words(b"ECHO", VALUE),
    "PING": words(b"PING", maybe(VALUE)),
    "MEMORY USAGE": words(b"MEMORY", b"USAGE", KEY, same=same_kind),
    "OBJECT ENCODING": words(b"OBJECT", b"ENCODING", KEY, same=same_kind),
    "OBJECT IDLETIME": words(b"OBJECT", b"IDLETIME", KEY, same=same_kind),
}
WRITES: dict[str, Commands] = {
    "SET": words(b"SET", KEY, VALUE),
    "SET with options": words(b"SET", KEY, VALUE, SET_OPTIONS),
    "SETEX": words(b"SETEX", KEY, TIME, VALUE),
    "PSETEX": words(b"PSETEX", KEY, MILLISECONDS, VALUE),
    "SETNX": words(b"SETNX", KEY, VALUE),
    "GETSET": words(b"GETSET", KEY, VALUE),
    "GETDEL": words(b"GETDEL", KEY),
    "GETEX": words(b"GETEX", KEY, GETEX_OPTIONS),
    "MSET": words(b"MSET", many(st.tuples(KEY, VALUE))),
    "MSETNX": words(b"MSETNX", many(st.tuples(KEY, VALUE))),
    "APPEND": words(b"APPEND", KEY, VALUE),
    "SETRANGE": words(b"SETRANGE", KEY, OFFSET, VALUE),
    "INCR": words(b"INCR", KEY),
    "DECR": words(b"DECR", KEY),
    "INCRBY": words(b"INCRBY", KEY, INTEGER),
    "DECRBY": words(b"DECRBY", KEY, INTEGER),
    # A key of its own, for large numbers are not exact there.
    "INCRBYFLOAT": words(b"INCRBYFLOAT", st.just(b"float"), FLOAT),
    "SET to a float": words(b"SET", st.just(b"float"), FLOAT),
    "GET of a float": words(b"GET", st.just(b"float")),
    "DEL": words(b"DEL", many(KEY)),
    "UNLINK": words(b"UNLINK", many(KEY)),
    "EXPIRE": words(b"EXPIRE", KEY, from_now(TIME, b"50")),
    "PEXPIRE": words(b"PEXPIRE", KEY, from_now(MILLISECONDS, b"50000")),
    "EXPIREAT": words(b"EXPIREAT", KEY, UNIX, EXPIRE_OPTIONS),
    "PEXPIREAT": words(b"PEXPIREAT", KEY, UNIX_MILLISECONDS, EXPIRE_OPTIONS),
    "PERSIST": words(b"PERSIST", KEY),
    "RENAME": words(b"RENAME", KEY, KEY),
    "RENAMENX": words(b"RENAMENX", KEY, KEY),
    "COPY": words(b"COPY", KEY, KEY, maybe(b"REPLACE")),
}
FLUSHES = {
    "FLUSHDB": words(b"FLUSHDB", maybe(b"ASYNC", b"SYNC", b"NOW")),
    "FLUSHALL": words(b"FLUSHALL", maybe(b"ASYNC", b"SYNC")),
}
TRANSACTIONS: dict[str, Commands] = {
    "MULTI": words(b"MULTI"),
    "EXEC": words(b"EXEC"),
    "DISCARD": words(b"DISCARD"),
    "WATCH": words(b"WATCH", many(KEY)),
    "UNWATCH": words(b"UNWATCH"),
}
CONNECTIONS: dict[str, Commands] = {
    "CLIENT SETNAME": words(b"CLIENT", b"SETNAME", st.sampled_from([b"", b"me", b"a b", b"\xff"])),
    "CLIENT GETNAME": words(b"CLIENT", b"GETNAME"),
    "CLIENT NO-EVICT": words(b"CLIENT", b"NO-EVICT", st.sampled_from([b"ON", b"off", b"x"])),
    "SELECT": words(
        b"SELECT", st.sampled_from([b"0", b"1", b"15", b"16", b"-1", b"x"]), same=first_word
    ),
    "RESET": words(b"RESET"),
}

# The scripts that well-known clients ship with, and the arguments that each has beside a key.
SCRIPTS: dict[bytes, tuple[Any, ...]] = {
    Lock.LUA_RELEASE_SCRIPT.encode(): (VALUE,),
    Lock.LUA_EXTEND_SCRIPT.encode(): (
        VALUE,
        st.sampled_from([b"50000", b"100000"]),
        st.sampled_from([b"0", b"1"]),
    ),
    Lock.LUA_REACQUIRE_SCRIPT.encode(): (VALUE, st.sampled_from([b"50000", b"100000"])),
    cashews._UNLOCK.replace("\n", " ").encode(): (VALUE,),
    cashews._INCR_EXPIRE.replace("\n", " ").encode(): (NUMBER, st.sampled_from([b"100000"])),
    RedisBackend.RELEASE_SCRIPT.encode(): (VALUE,),
    RedisBackend.CAS_SCRIPT.encode(): (VALUE, VALUE, maybe((b"PX", MILLISECONDS), (b"EX", TIME))),
    **{
        text.encode(): (INTEGER,)
        for text in DefaultClient._incr.__code__.co_consts
        if isinstance(text, str) and "redis.call" in text
    },
}


def _script_call(text: bytes, arguments: tuple[Any, ...]) -> Commands:
    digest = hashlib.sha1(text).hexdigest().encode()
    run = st.sampled_from([(b"EVAL", text), (b"EVALSHA", digest), (b"evalsha", digest.upper())])
    return words(run, st.just(b"1"), KEY, *arguments, same=of_script)


RUNS: dict[str, Commands] = {
    f"script {number}": _script_call(text, arguments)
    for number, (text, arguments) in enumerate(SCRIPTS.items())
}

ENTRIES = {**READS, **WRITES}
# The number is no short time, in milliseconds either.
BROKEN_WORDS = st.sampled_from([b"", b"x", b"EX", b"200000", ALL_BYTES])


@st.composite
def broken(draw: st.DrawFn, *kinds: Commands) -> list[Command]:
    """One of these commands with a word less, a word more, or another word."""
    (*_, command) = draw(st.one_of(*kinds))
    changed = list(command.words)
    # The name stays, so that the arguments are looked at; Redis takes almost anything as a cursor.
    at = draw(st.integers(2 if command.whole_scan else 1, len(changed)))
    how = draw(st.sampled_from(["less", "more", "other"]))
    if how == "less" and len(changed) > 1:
        del changed[-1]
    elif how == "other" and at < len(changed):
        changed[at] = draw(BROKEN_WORDS)
    else:
        changed.insert(at, draw(BROKEN_WORDS))
    same = command.same if command.words[0].upper() in CURSORS else _loosely(command.same)
    return [Command(tuple(changed), same, command.whole_scan and changed[1:2] == [b"0"])]


CURSORS = {b"SCAN", b"KEYS"}


def _loosely(same: Same) -> Same:
    def compare(ours: Reply, theirs: Reply) -> bool:
        return same(ours, theirs) or (theirs.is_error and first_word(ours, theirs))

    return compare


ANY = st.one_of(*ENTRIES.values())
# What may be queued: TagCache does not queue what looks at all keys, and Redis checks the number of
# arguments of subcommands earlier.
QUEUED = [kind for name, kind in ENTRIES.items() if name not in ("KEYS", "SCAN")]
PLAIN = [
    kind
    for name, kind in ENTRIES.items()
    if name.split()[0] not in ("KEYS", "SCAN", "OBJECT", "MEMORY")
]


def transaction() -> Commands:
    """A whole transaction, which ends in most cases."""
    first = st.one_of(st.just([]), TRANSACTIONS["WATCH"])
    middle = st.lists(st.one_of(*QUEUED, *RUNS.values(), broken(*PLAIN)), max_size=4)
    last = st.sampled_from([b"EXEC", b"EXEC", b"EXEC", b"DISCARD"])
    return st.tuples(first, middle.map(_joined), last).map(
        lambda found: [*found[0], Command((b"MULTI",)), *found[1], Command((found[2],))]
    )


def _joined(lists: list[list[Command]]) -> list[Command]:
    return [command for each in lists for command in each]


Step = tuple[int, list[Command]]


def steps(*kinds: Commands, connections: int = 1, most: int = 6) -> st.SearchStrategy[list[Step]]:
    """Draw commands, each with the number of the connection that they come on."""
    step = st.tuples(st.integers(0, connections - 1), st.one_of(*kinds))
    # A single list would mostly be short.
    lists = st.lists(st.lists(step, min_size=1, max_size=most), min_size=1, max_size=most)
    return lists.map(lambda found: [each for one in found for each in one])
