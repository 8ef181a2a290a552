"""Every command of the clients: what is sent, and how the replies are read. No I/O.

The clients differ only in how they perform a request, see tagcache.client._async.commands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from tagcache.client.values import Values
from tagcache.errors import BadArgument
from tagcache.model import int64
from tagcache.wire import line as wire

T = TypeVar("T")
Key: TypeAlias = "str | bytes"
Tag: TypeAlias = "str | bytes"
# Seconds, or a timedelta.
Ttl: TypeAlias = "float | timedelta"
Mode: TypeAlias = Literal["any", "all"]

# The largest time to live on the wire, in milliseconds.
_MAX_TTL_MS = 2**64 - 1
_ILLEGAL_IN_KEY = re.compile(rb"[\t\n\r]")
_ILLEGAL_IN_TAG = re.compile(rb"[\t\n\r,]")


@dataclass(frozen=True, slots=True)
class Stats:
    """The counters of the server since its start; see "Counters" in docs/protocol.md."""

    hits: int
    misses: int
    puts: int
    invalidations: int

    @property
    def hit_ratio(self) -> float:
        """The share of hits among all look-ups, from 0 to 1."""
        return self.hits / (self.hits + self.misses) if self.hits else 0.0


class Request(Generic[T]):
    """One request and its reply.

    ``payload`` (bytes) is sent, ``read`` converts the reply line to the result; ``absent`` is the
    result if an unavailable cache is ignored. ``safe`` says that it may be sent twice. ``key``
    (bytes) decides to which of several servers it goes; if None, it goes to every server, and
    ``merge`` combines their results.
    """

    __slots__ = ("absent", "key", "merge", "payload", "read", "safe")

    def __init__(
        self,
        payload: bytes,
        read: Callable[[bytes], T],
        absent: T,
        safe: bool = False,
        key: bytes | None = None,
        merge: Callable[[list[T]], T] | None = None,
    ) -> None:
        self.payload = payload
        self.read = read
        self.absent = absent
        self.safe = safe
        self.key = key
        self.merge = merge


class Batch(Generic[T]):
    """Requests that are pipelined; ``conclude`` combines the list of their results."""

    __slots__ = ("conclude", "requests")

    def __init__(self, requests: list[Request[Any]], conclude: Callable[[list[Any]], T]) -> None:
        self.requests = requests
        self.conclude = conclude


class Requests:
    """Makes requests, with one key prefix and one serde."""

    __slots__ = ("_dump", "_prefix", "load")

    def __init__(self, values: Values, key_prefix: str | bytes = b"") -> None:
        self._dump = values.dump
        self.load = values.load
        self._prefix = _bytes(key_prefix, "key_prefix")
        if _ILLEGAL_IN_KEY.search(self._prefix):
            raise BadArgument(f"key_prefix must not contain TAB, LF or CR: {key_prefix!r}")

    def get(self, key: Key, default: Any = None) -> Request[Any]:
        """Return the value of ``key``, or ``default`` if there is none.

        Raises CannotDecode if this client's serde did not write it.
        """
        name = self._key(key)
        load = self.load

        def read(reply: bytes) -> Any:
            content = wire.read_value(reply)
            return default if content is None else load(content)

        return Request(b"GET\t%b\n" % name, read, default, True, name)

    def look_up(self, key: Key) -> bytes:
        """Return the payload of ``get``. Raises BadArgument."""
        return b"GET\t%b\n" % (self._prefix + _checked_key(key))

    def put(
        self, key: Key, value: Any, *, tags: Iterable[Tag] = (), ttl: Ttl | None = None
    ) -> Request[bool]:
        """Store ``value``, with tags, for ``ttl`` seconds (None: as the server is configured).

        Return True; False only if an unavailable cache is ignored.
        """
        return self._put(key, value, _store_options(tags, ttl))

    def _put(self, key: Key, value: Any, options: bytes) -> Request[bool]:
        name = self._key(key)
        return Request(
            b"PUT\t%b\t%b\t%b\n" % (name, options, self._dump(value)), _stored, False, True, name
        )

    def add(
        self, key: Key, value: Any, *, tags: Iterable[Tag] = (), ttl: Ttl | None = None
    ) -> Request[bool]:
        """Store ``value`` if the key has none; return whether it was stored."""
        name = self._key(key)
        payload = b"ADD\t%b\t%b\t%b\n" % (name, _store_options(tags, ttl), self._dump(value))
        return Request(payload, _added, False, False, name)

    def get_many(self, keys: Iterable[Key]) -> Batch[dict[Any, Any]]:
        """Return the values of those keys that have one, as a dict by the given keys."""
        asked = list(keys)
        prefix = self._prefix
        missing = object()
        requests: list[Request[Any]] = []
        load = self.load

        def read(reply: bytes) -> Any:
            content = wire.read_value(reply)
            return missing if content is None else load(content)

        for key in asked:
            name = prefix + _checked_key(key)
            requests.append(Request(b"GET\t%b\n" % name, read, missing, True, name))
        return Batch(
            requests,
            lambda values: {
                key: value for key, value in zip(asked, values, strict=True) if value is not missing
            },
        )

    def put_many(
        self, values: Mapping[Any, Any], *, tags: Iterable[Tag] = (), ttl: Ttl | None = None
    ) -> Batch[int]:
        """Store every value under its key, with the same tags and ttl; return their number."""
        options = _store_options(tags, ttl)
        return Batch([self._put(key, value, options) for key, value in values.items()], sum)

    def delete(self, key: Key) -> Request[bool]:
        """Remove an entry; return whether there was one."""
        name = self._key(key)
        return Request(b"DEL\t%b\n" % name, _deleted, False, False, name)

    def delete_many(self, keys: Iterable[Key]) -> Batch[int]:
        """Remove entries one after the other; return how many there were."""
        return Batch([self.delete(key) for key in keys], sum)

    def increment(
        self, key: Key, by: int = 1, *, tags: Iterable[Tag] = (), ttl: Ttl | None = None
    ) -> Request[int]:
        """Add to an integer, 0 if absent, and return the sum; its time to live starts again.

        Tags and ``ttl``, if given, replace the old ones. Raises Refused if the value is not an
        integer, or the sum does not fit 64 bits.
        """
        return self._count(b"INCR", key, by, tags, ttl, by)

    def decrement(
        self, key: Key, by: int = 1, *, tags: Iterable[Tag] = (), ttl: Ttl | None = None
    ) -> Request[int]:
        """Subtract from an integer; see ``increment``."""
        return self._count(b"DECR", key, by, tags, ttl, -by)

    def _count(
        self, verb: bytes, key: Key, by: int, tags: Iterable[Tag], ttl: Ttl | None, absent: int
    ) -> Request[int]:
        name = self._key(key)
        if not isinstance(by, int):
            raise BadArgument(f"by must be an integer, not {type(by).__name__}")
        if not int64.MIN <= by <= int64.MAX:
            raise BadArgument(f"by={by} does not fit 64 bits")
        payload = b"%b\t%b\t%d\t%b\n" % (verb, name, by, _store_options(tags, ttl))
        return Request(payload, wire.read_number, absent, False, name)

    def touch(self, key: Key, ttl: Ttl | None = None) -> Request[bool]:
        """Set a new time to live, from now; return whether there is an entry."""
        name = self._key(key)
        payload = b"TOUCH\t%b\t%b\n" % (name, _ttl(ttl))
        return Request(payload, _touched, False, True, name)

    def invalidate_tag(self, tag: Tag) -> Request[int]:
        """Remove all entries with ``tag``, atomically; return their number."""
        return _removal(b"INV_TAG", _tag(tag))

    def invalidate_tags(self, tags: Iterable[Tag], mode: Mode = "any") -> Request[int]:
        """Remove all entries with any of ``tags``, or ``all`` of them; return their number."""
        verb = b"INV_TAGS_" + _mode(mode)
        return _removal(verb, _some(b",".join(map(_tag, tags)), "tags"))

    def invalidate_keys(self, keys: Iterable[Key]) -> Request[int]:
        """Remove entries, atomically; return how many there were.

        Keys with a comma, or with blanks at either end, cannot be in a list: see delete_many.
        """
        names = list(map(self._key, keys))
        for name in names:
            if b"," in name or name != name.strip():
                raise BadArgument(
                    f"a key in a list must not have a comma, or blanks at either end: {name!r}"
                )
        return _removal(b"INV_KEYS", _some(b",".join(names), "keys"))

    def keys_by_tag(self, tag: Tag) -> Request[list[str]]:
        """Return the keys of all entries with ``tag``, in no particular order.

        Keys without this client's prefix, and keys with a comma, are left out.
        """
        return Request(b"KEYS\t%b\n" % _tag(tag), self._read_keys, [], True, None, _joined)

    def search(self, tags: Iterable[Tag], mode: Mode = "any") -> Batch[list[str]]:
        """Return the keys of all entries with any of ``tags``, or ``all`` of them.

        The tags are looked up one after the other, not atomically; see ``keys_by_tag``.
        """
        union = _mode(mode) == b"ANY"
        requests = [self.keys_by_tag(tag) for tag in dict.fromkeys(tags)]

        def conclude(found: list[list[str]]) -> list[str]:
            if union or not found:
                return list(dict.fromkeys(chain.from_iterable(found)))
            return list(set(found[0]).intersection(*found[1:]))

        return Batch(requests, conclude)

    def flush(self) -> Request[int]:
        """Remove all entries from the server, of any key prefix; return their number."""
        return _removal(b"FLUSH", None)

    def stats(self) -> Request[Stats]:
        """Return the server's counters."""
        return Request(b"STATS\n", _read_stats, Stats(0, 0, 0, 0), True, None, _sum_of_stats)

    def info(self) -> Request[dict[str, Any]]:
        """Return the state of the server; see INFO in docs/protocol.md."""
        return Request(b"INFO\n", _read_info, {}, True)

    def ping(self) -> Request[bool]:
        """Return True if the server answers; False only if an unavailable cache is ignored."""
        return Request(b"PING\n", _pong, False, True, None, all)

    def clients(self) -> Request[list[dict[str, Any]]]:
        """Return the connections of the server; see CLIENTS in docs/protocol.md."""
        return Request(b"CLIENTS\n", _read_clients, [], True, None, _joined)

    def _key(self, key: Key) -> bytes:
        return self._prefix + _checked_key(key)

    def _read_keys(self, reply: bytes) -> list[str]:
        prefix = self._prefix
        return [
            key[len(prefix) :].decode("utf-8", "surrogateescape")
            for key in wire.read_keys(reply)
            if key.startswith(prefix)
        ]


def auth(username: str, password: str) -> Request[bool]:
    """Return the request that authenticates a connection. Raises BadArgument."""
    fields = username.encode(), password.encode()
    if any(map(_ILLEGAL_IN_KEY.search, fields)):
        raise BadArgument("username and password must not contain TAB, LF or CR")
    return Request(b"AUTH\t%b\t%b\n" % fields, lambda reply: wire.read_word(reply, wire.OK), False)


def select(db: int) -> Request[bool]:
    """Return the request that chooses the database of a connection."""
    return Request(b"SELECT\t%d\n" % db, lambda reply: wire.read_word(reply, wire.OK), False)


PING: Request[bool] = Request(
    b"PING\n", lambda reply: wire.read_word(reply, wire.PONG), False, True
)


def ttl_ms(ttl: Ttl | None) -> int | None:
    """Return a time to live in milliseconds, at least 1. Raises BadArgument."""
    if ttl is None:
        return None
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise BadArgument(f"ttl must be seconds or a timedelta, not {type(ttl).__name__}")
    if not 0 < ttl < math.inf or (milliseconds := round(ttl * 1000)) > _MAX_TTL_MS:
        raise BadArgument(f"ttl must be more than 0 seconds, and finite: {ttl}")
    return milliseconds or 1


def _ttl(ttl: Ttl | None) -> bytes:
    milliseconds = ttl_ms(ttl)
    return b"-" if milliseconds is None else b"%d" % milliseconds


def collected(tags: Iterable[Tag]) -> tuple[Tag, ...]:
    """Return tags as a tuple. Raises BadArgument for a single str or bytes."""
    if isinstance(tags, (str, bytes)):
        raise BadArgument(f"tags must be a collection, not a single {type(tags).__name__}")
    return tuple(tags)


def _store_options(tags: Iterable[Tag], ttl: Ttl | None) -> bytes:
    """Return the fields for the time to live and the tags."""
    joined = b",".join(map(_tag, collected(tags)))
    if joined == b"-":
        raise BadArgument('"-" cannot be the only tag: it means no tags')
    return b"%b\t%b" % (_ttl(ttl), joined or b"-")


def _bytes(text: str | bytes, name: str) -> bytes:
    if isinstance(text, str):
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise BadArgument(f"{name} cannot be written as UTF-8: {error}") from None
    if isinstance(text, bytes):
        return text
    raise BadArgument(f"{name} must be str or bytes, not {type(text).__name__}")


def _checked_key(key: Key) -> bytes:
    name = key.encode() if type(key) is str and key.isascii() else _bytes(key, "the key")
    if not name or _ILLEGAL_IN_KEY.search(name):
        raise BadArgument(f"a key must not be empty, or contain TAB, LF or CR: {key!r}")
    return name


def _tag(tag: Tag) -> bytes:
    name = _bytes(tag, "a tag")
    if not name or _ILLEGAL_IN_TAG.search(name) or name != name.strip():
        raise BadArgument(
            "a tag must not be empty, have blanks at either end, or contain TAB, LF, CR or a"
            f" comma: {tag!r}"
        )
    return name


def _some(joined: bytes, name: str) -> bytes:
    if not joined:
        raise BadArgument(f"{name} must not be empty")
    return joined


def _mode(mode: Mode) -> bytes:
    if mode not in ("any", "all"):
        raise BadArgument(f'mode must be "any" or "all", not {mode!r}')
    return mode.upper().encode()


def _removal(verb: bytes, what: bytes | None) -> Request[int]:
    payload = verb + b"\n" if what is None else b"%b\t%b\n" % (verb, what)
    return Request(payload, lambda reply: wire.read_number(reply, verb), 0, False, None, sum)


def _stored(reply: bytes) -> bool:
    return True if reply == b"OK" else wire.read_word(reply, wire.OK)


def _added(reply: bytes) -> bool:
    return wire.read_word(reply, wire.ADDED, wire.EXISTS)


def _deleted(reply: bytes) -> bool:
    return wire.read_word(reply, wire.DELETED, wire.NOT_DELETED)


def _touched(reply: bytes) -> bool:
    return wire.read_word(reply, wire.TOUCHED, wire.NOT_FOUND)


def _pong(reply: bytes) -> bool:
    return wire.read_word(reply, wire.PONG)


def _read_stats(reply: bytes) -> Stats:
    return Stats(*wire.read_stats(reply))


def _sum_of_stats(all_stats: list[Stats]) -> Stats:
    return Stats(
        *(
            sum(numbers)
            for numbers in zip(
                *((each.hits, each.misses, each.puts, each.invalidations) for each in all_stats),
                strict=True,
            )
        )
    )


def _read_info(reply: bytes) -> dict[str, Any]:
    info: dict[str, Any] = wire.read_json(reply, b"INFO")
    return info


def _read_clients(reply: bytes) -> list[dict[str, Any]]:
    clients: list[dict[str, Any]] = wire.read_json(reply, b"CLIENTS")
    return clients


def _joined(lists: list[list[T]]) -> list[T]:
    return list(chain.from_iterable(lists))
