"""The commands of the line protocol that concern entries.

Each is a plain function of the caller and the fields of its line, the verb first. A new command is
a function here and a row at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from twisted.internet.defer import Deferred

from tagcache.errors import InvalidArgument
from tagcache.model.statistics import Counters
from tagcache.model.store_options import StoreOptions
from tagcache.server.commands.table import Caller, Command, Reply
from tagcache.server.then import then
from tagcache.wire import line as wire

_REMEMBERED_OPTIONS = 4096
_REMEMBERED_LENGTH = 256
# The most digits of a database number.
_MOST_DIGITS = 9


def get(caller: Caller, fields: list[bytes]) -> Reply:
    if len(fields) < 2:
        raise InvalidArgument("missing_key")
    value = caller.session.get(fields[1])
    # Checked first, because isinstance(value, Deferred) is slow.
    if value is None or isinstance(value, bytes):
        return _value_or_not(value)
    return value.addCallback(_value_or_not)


def _value_or_not(value: bytes | None) -> bytes:
    return wire.NOT_FOUND if value is None else wire.value(value)


def put(caller: Caller, fields: list[bytes]) -> Reply:
    key, ttl, tags, value = entry_of(fields)
    # Cached, because most clients repeat the same few options.
    options = (_options if len(tags) <= _REMEMBERED_LENGTH else read_options)(ttl, tags)
    stored = caller.session.put_with(key, value, options)
    if stored is None or isinstance(stored, int):
        return wire.OK
    return stored.addCallback(_ok)


def _ok(_: object) -> bytes:
    return wire.OK


def read_options(ttl: bytes, tags: bytes) -> StoreOptions:
    """Read the fields ``ttl`` and ``tags`` of a store."""
    tag_list = wire.parse_tags(tags)
    return StoreOptions(tag_list, *wire.parse_lifetime(ttl))


_options = lru_cache(_REMEMBERED_OPTIONS)(read_options)


@lru_cache(_REMEMBERED_OPTIONS)
def plain_options(fields: bytes) -> StoreOptions:
    """Return the options of a PUT from its fields of TTL and tags, with the tab between them.

    Raises InvalidArgument.
    """
    ttl, _, tags = fields.partition(b"\t")
    return _options(ttl, tags)


def add(caller: Caller, fields: list[bytes]) -> Reply:
    key, ttl, tags, value = entry_of(fields)
    added = caller.session.add(key, value, wire.parse_tags(tags), wire.parse_ttl(ttl))
    return then(added, lambda stored: wire.ADDED if stored else wire.EXISTS)


def incr(caller: Caller, fields: list[bytes]) -> Reply:
    return then(caller.session.increment(*_step_of(fields)), wire.integer)


def decr(caller: Caller, fields: list[bytes]) -> Reply:
    return then(caller.session.decrement(*_step_of(fields)), wire.integer)


def touch(caller: Caller, fields: list[bytes]) -> Reply:
    _, key, ttl = (*fields, b"", b"")[:3]
    if not key:
        raise InvalidArgument("missing_key")
    touched = caller.session.touch(key, wire.parse_ttl(ttl))
    return then(touched, lambda there: wire.TOUCHED if there else wire.NOT_FOUND)


def delete(caller: Caller, fields: list[bytes]) -> Reply:
    if len(fields) < 2:
        raise InvalidArgument("missing_key")
    deleted = caller.session.delete(fields[1])
    return then(deleted, lambda there: wire.DELETED if there else wire.NOT_DELETED)


def inv_tag(caller: Caller, fields: list[bytes]) -> Reply:
    tag = tag_of(fields)
    return removed(caller, b"INV_TAG", [tag], caller.session.invalidate_tag(tag))


def inv_tags_any(caller: Caller, fields: list[bytes]) -> Reply:
    tags = wire.parse_list(second_of(fields), "tags")
    return removed(caller, b"INV_TAGS_ANY", tags, caller.session.invalidate_any(tags))


def inv_tags_all(caller: Caller, fields: list[bytes]) -> Reply:
    tags = wire.parse_list(second_of(fields), "tags")
    return removed(caller, b"INV_TAGS_ALL", tags, caller.session.invalidate_all(tags))


def inv_keys(caller: Caller, fields: list[bytes]) -> Reply:
    keys = wire.parse_list(second_of(fields), "keys")
    return removed(caller, b"INV_KEYS", keys, caller.session.invalidate_keys(keys))


def flush(caller: Caller, fields: list[bytes]) -> Reply:
    return removed(caller, b"FLUSH", (), caller.session.flush())


def removed(
    caller: Caller, verb: bytes, names: Sequence[bytes], count: int | Deferred[int]
) -> Reply:
    """Record an invalidation of these names, and return the reply with the number of entries."""

    def conclude(number: int) -> bytes:
        caller.invalidated(verb, names, number)
        return wire.count(verb, number)

    return then(count, conclude)


def keys_by_tag(caller: Caller, fields: list[bytes]) -> Reply:
    def conclude(written: tuple[bytes, int]) -> bytes:
        reply, left_out = written
        if left_out:
            caller.left_out(left_out)
        return reply

    found = caller.engine.keys_by_tag(tag_of(fields))
    return then(then(found, lambda keys: caller.run_work(wire.keys(keys))), conclude)


def stats(caller: Caller, fields: list[bytes]) -> Reply:
    def conclude(counted: Counters) -> bytes:
        return wire.stats(
            counted.hits, counted.misses, counted.puts, counted.invalidations, counted.hit_ratio
        )

    return then(caller.engine.all_counters(), conclude)


def select(caller: Caller, fields: list[bytes]) -> bytes:
    text = second_of(fields)
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        raise InvalidArgument("invalid_db")
    caller.select(int(text))
    return wire.OK


def ping(caller: Caller, fields: list[bytes]) -> bytes:
    return wire.PONG


def second_of(fields: list[bytes]) -> bytes:
    """Return the field after the verb; empty if there is none."""
    return fields[1] if len(fields) > 1 else b""


def tag_of(fields: list[bytes]) -> bytes:
    """Read ``verb tag``; return the tag."""
    if len(fields) < 2:
        raise InvalidArgument("missing_tag")
    return fields[1]


def entry_of(fields: list[bytes]) -> tuple[bytes, bytes, bytes, bytes]:
    """Read ``verb key ttl tags value``; return the last four, missing ones empty."""
    if len(fields) < 5:
        fields = [*fields, b"", b"", b"", b""][:5]
    _, key, ttl, tags, value = fields
    if not key:
        raise InvalidArgument("missing_key")
    return key, ttl, tags, value


def _step_of(fields: list[bytes]) -> tuple[bytes, int, list[bytes], int | None]:
    """Read ``verb key by ttl tags``; return the arguments of ``increment``."""
    _, key, by, ttl, tags = (*fields, b"", b"", b"", b"")[:5]
    if not key:
        raise InvalidArgument("missing_key")
    return key, wire.parse_by(by), wire.parse_tags(tags), wire.parse_ttl(ttl)


CACHE_COMMANDS = (
    Command(b"GET", get, "key", "VALUE⇥value, NF", "Look a key up.", one_key=True),
    Command(
        b"PUT",
        put,
        "key ttl tags value",
        "OK",
        "Store an entry. The last fields may be left out.",
        one_key=True,
    ),
    Command(
        b"ADD",
        add,
        "key ttl tags value",
        "ADDED, EXISTS",
        "Store an entry, unless there is one.",
        one_key=True,
    ),
    Command(
        b"INCR",
        incr,
        "key [by [ttl [tags]]]",
        "VALUE⇥n",
        "Add to an integer; by is 1 if it is empty.",
        one_key=True,
    ),
    Command(
        b"DECR",
        decr,
        "key [by [ttl [tags]]]",
        "VALUE⇥n",
        "Subtract from an integer, as INCR adds.",
        one_key=True,
    ),
    Command(
        b"TOUCH",
        touch,
        "key [ttl]",
        "TOUCHED, NF",
        "Start a new time to live; value and tags stay.",
        one_key=True,
    ),
    Command(b"DEL", delete, "key", "DEL ok, DEL nf", "Remove an entry.", one_key=True),
    Command(
        b"INV_TAG",
        inv_tag,
        "tag",
        "INV_TAG⇥n",
        "Remove the entries with a tag, which may have commas and blanks.",
    ),
    Command(
        b"INV_TAGS_ANY",
        inv_tags_any,
        "tag,tag...",
        "INV_TAGS_ANY⇥n",
        "Remove the entries with at least one of the tags.",
    ),
    Command(
        b"INV_TAGS_ALL",
        inv_tags_all,
        "tag,tag...",
        "INV_TAGS_ALL⇥n",
        "Remove the entries with all of the tags.",
    ),
    Command(b"INV_KEYS", inv_keys, "key,key...", "INV_KEYS⇥n", "Remove entries by their keys."),
    Command(b"FLUSH", flush, "", "FLUSH⇥n", "Remove all entries of the connection's database."),
    Command(
        b"KEYS_BY_TAG",
        keys_by_tag,
        "tag",
        "KEYS⇥key,key...",
        "List the keys with a tag, in no particular order.",
    ),
    Command(b"KEYS", keys_by_tag, "tag", "KEYS⇥key,key...", "The same as KEYS_BY_TAG."),
    Command(
        b"STATS",
        stats,
        "",
        "STATS⇥hits⇥misses⇥puts⇥invalidations⇥ratio",
        "Return counters; the ratio has six decimals.",
    ),
    Command(b"SELECT", select, "number", "OK", "Use another database on this connection."),
    Command(b"PING", ping, "", "PONG", "Check that the server answers."),
)
