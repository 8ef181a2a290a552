"""Every command of the clients: what is sent, and how the replies are read. No I/O.

The clients differ only in how they perform a request; see tagcache.client._async.commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeAlias, TypeVar

from tagcache.client import replies
from tagcache.client.arguments import (
    Key,
    Mode,
    Tag,
    Ttl,
    checked_key,
    checked_mode,
    checked_tag,
    expiry,
    some,
    tag_list,
    to_bytes,
)
from tagcache.client.values import Values
from tagcache.errors import BadArgument, CannotDecode, UnexpectedReply
from tagcache.model import int64
from tagcache.wire.resp import request

T = TypeVar("T")
# Few enough keys that the server rarely has to refuse a reply with all their values.
_KEYS_AT_ONCE = 128
_SOFT: dict[bool, tuple[bytes, ...]] = {False: (), True: (b"SOFT",)}


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

    ``payload`` (bytes) is sent, ``read`` converts the reply to the result; ``absent`` is the result
    if an unavailable cache is ignored. ``safe`` says that it may be sent twice. ``key`` (bytes)
    decides to which of several servers it goes; if None, it goes to every server, and ``merge``
    combines their results. ``singly`` returns smaller requests that give the same result together.
    """

    __slots__ = ("absent", "key", "merge", "payload", "read", "safe", "singly")

    def __init__(
        self,
        payload: bytes,
        read: Callable[[Any], T],
        absent: T,
        safe: bool = False,
        key: bytes | None = None,
        merge: Callable[[list[T]], T] | None = None,
        singly: Callable[[], Batch[T]] | None = None,
    ) -> None:
        self.payload = payload
        self.read = read
        self.absent = absent
        self.safe = safe
        self.key = key
        self.merge = merge
        self.singly = singly


class Batch(Generic[T]):
    """Requests that are pipelined; ``conclude`` combines the list of their results."""

    __slots__ = ("conclude", "requests")

    def __init__(self, requests: list[Request[Any]], conclude: Callable[[list[Any]], T]) -> None:
        self.requests = requests
        self.conclude = conclude


Groups: TypeAlias = "Iterable[tuple[list[Key], list[bytes]]]"


def together(keys: list[Key], names: list[bytes]) -> Groups:
    """Return all keys as one group."""
    return [(keys, names)] if keys else []


class Requests:
    """Makes requests, with one key prefix and one serde.

    When several values are read, ``unreadable`` is called with the error of each that cannot be
    read, and that value is a miss; if None, the error is raised. ``group`` divides keys, and
    their full names, into groups that one server can look up together.

    Attributes:
        is_typed: whether the values are of one type; a value of another type is a miss.
    """

    __slots__ = (
        "_dump",
        "_group",
        "_load_all",
        "_prefix",
        "_typed",
        "_unreadable",
        "_values",
        "is_typed",
        "load",
    )

    def __init__(
        self,
        values: Values,
        key_prefix: str | bytes = b"",
        unreadable: Callable[[CannotDecode], object] | None = None,
        group: Callable[[list[Key], list[bytes]], Groups] = together,
    ) -> None:
        self._values = values
        self.is_typed = False
        self._typed: dict[Any, Requests] = {}
        self._dump = values.dump
        self.load = values.load
        self._load_all = values.load_all
        self._prefix = to_bytes(key_prefix, "key_prefix")
        self._unreadable = unreadable
        self._group = group

    @property
    def knows_types(self) -> bool:
        """Whether ``typed`` can be called."""
        return self._values.knows_types

    def typed(self, expected: Any) -> Requests:
        """Return the Requests for values of one type (an annotation). Raises BadArgument."""
        try:
            found = self._typed.get(expected)
        except TypeError:
            # The annotation cannot be hashed, so it cannot be cached.
            return self._of_type(expected)
        if found is None:
            found = self._typed[expected] = self._of_type(expected)
        return found

    def _of_type(self, expected: Any) -> Requests:
        values = self._values.typed(expected)
        typed = Requests(values, self._prefix, self._unreadable, self._group)
        typed.is_typed = True
        return typed

    def get(self, key: Key, default: Any = None) -> Request[Any]:
        """Return the value of ``key``, or ``default`` if there is none.

        Raises CannotDecode if this client's serde did not write it.
        """
        name = self._key(key)
        load = self.load

        def read(reply: Any) -> Any:
            content = replies.read_value(reply)
            return default if content is None else load(content)

        return Request(request(b"GET", name), read, default, True, name)

    def look_up(self, key: Key) -> bytes:
        """Return the payload of ``get``. Raises BadArgument."""
        name = self._prefix + checked_key(key)
        return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(name), name)

    def put(
        self, key: Key, value: Any, *, tags: Iterable[Tag] = (), ttl: Ttl | None = None
    ) -> Request[bool]:
        """Store ``value``, with tags, for ``ttl`` seconds (None: as the server is configured).

        Return True; False only if an unavailable cache is ignored.
        """
        return self._put(key, value, expiry(ttl), tag_list(tags))

    def _put(
        self, key: Key, value: Any, lives: tuple[bytes, ...], tagged: tuple[bytes, ...]
    ) -> Request[bool]:
        name = self._key(key)
        verb = b"TAG.SET" if tagged else b"SET"
        payload = request(verb, name, self._dump(value), *lives, *tagged)
        return Request(payload, _is_ok, False, True, name)

    def add(
        self, key: Key, value: Any, *, tags: Iterable[Tag] = (), ttl: Ttl | None = None
    ) -> Request[bool]:
        """Store ``value`` if the key has none; return whether it was stored."""
        name = self._key(key)
        options = (*expiry(ttl), b"NX", *(tag_list(tags) or (b"TAGS", b"0")))
        payload = request(b"TAG.SET", name, self._dump(value), *options)
        return Request(payload, is_stored, False, False, name)

    def get_many(self, keys: Iterable[Key]) -> Batch[dict[Any, Any]]:
        """Return the values of those keys that have one, as a dict by the given keys."""
        asked = list(keys)
        requests = [
            self._look_up_all(
                some[start : start + _KEYS_AT_ONCE], names[start : start + _KEYS_AT_ONCE]
            )
            for some, names in self._group(asked, self._names(asked))
            for start in range(0, len(some), _KEYS_AT_ONCE)
        ]

        def conclude(found: list[dict[Any, Any]]) -> dict[Any, Any]:
            if len(found) == 1:
                return found[0]
            together = dict(chain.from_iterable(each.items() for each in found))
            return {key: together[key] for key in asked if key in together}

        return Batch(requests, conclude)

    def _look_up_all(self, keys: list[Key], names: list[bytes]) -> Request[dict[Any, Any]]:
        load, load_all, unreadable = self.load, self._load_all, self._unreadable

        def read(reply: Any) -> dict[Any, Any]:
            contents = replies.read_list(reply)
            if len(contents) != len(keys):
                raise UnexpectedReply("the server did not return one value for each key")
            try:
                return load_all(keys, contents)
            except CannotDecode:
                if unreadable is None:
                    raise
            found = {}
            for key, content in zip(keys, contents, strict=True):
                try:
                    if content is not None:
                        found[key] = load(content)
                except CannotDecode as error:
                    unreadable(error)
            return found

        payload = request(b"MGET", *names)
        return Request(payload, read, {}, True, names[0], None, lambda: self._one_by_one(keys))

    def _one_by_one(self, keys: list[Key]) -> Batch[dict[Any, Any]]:
        missing = object()

        def conclude(values: list[Any]) -> dict[Any, Any]:
            pairs = zip(keys, values, strict=True)
            return {key: value for key, value in pairs if value is not missing}

        return Batch([self.get(key, missing) for key in keys], conclude)

    def put_many(
        self, values: Mapping[Any, Any], *, tags: Iterable[Tag] = (), ttl: Ttl | None = None
    ) -> Batch[int]:
        """Store every value under its key, with the same tags and ttl; return their number."""
        lives, tagged = expiry(ttl), tag_list(tags)
        return Batch([self._put(key, value, lives, tagged) for key, value in values.items()], sum)

    def delete(self, key: Key) -> Request[bool]:
        """Remove an entry; return whether there was one."""
        name = self._key(key)
        return Request(request(b"DEL", name), is_one, False, False, name)

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
        return self._count(b"TAG.INCR", key, by, tags, ttl, by)

    def decrement(
        self, key: Key, by: int = 1, *, tags: Iterable[Tag] = (), ttl: Ttl | None = None
    ) -> Request[int]:
        """Subtract from an integer; see ``increment``."""
        return self._count(b"TAG.DECR", key, by, tags, ttl, -by)

    def _count(
        self, verb: bytes, key: Key, by: int, tags: Iterable[Tag], ttl: Ttl | None, absent: int
    ) -> Request[int]:
        name = self._key(key)
        if not isinstance(by, int):
            raise BadArgument(f"by must be an integer, not {type(by).__name__}")
        if not int64.MIN <= by <= int64.MAX:
            raise BadArgument(f"by={by} does not fit 64 bits")
        payload = request(verb, name, b"%d" % by, *expiry(ttl), *tag_list(tags))
        return Request(payload, replies.read_integer, absent, False, name)

    def touch(self, key: Key, ttl: Ttl | None = None) -> Request[bool]:
        """Set a new time to live, from now; return whether there is an entry."""
        name = self._key(key)
        payload = request(b"TAG.TOUCH", name, *expiry(ttl))
        return Request(payload, is_one, False, True, name)

    def invalidate_tag(self, tag: Tag, *, soft: bool = False) -> Request[int]:
        """Remove all entries with ``tag``, atomically; return their number.

        With ``soft``, those that have a grace become stale instead.
        """
        return _removal(b"TAG.INVALIDATE", *_SOFT[soft], b"1", checked_tag(tag))

    def invalidate_tags(
        self, tags: Iterable[Tag], mode: Mode = "any", *, soft: bool = False
    ) -> Request[int]:
        """Remove all entries with any of ``tags``, or ``all`` of them; return their number.

        With ``soft``, those that have a grace become stale instead.
        """
        names = some(map(checked_tag, tags), "tags")
        options = (checked_mode(mode), *_SOFT[soft])
        return _removal(b"TAG.INVALIDATE", *options, b"%d" % len(names), *names)

    def invalidate_keys(self, keys: Iterable[Key], *, soft: bool = False) -> Request[int]:
        """Remove entries, atomically; return how many there were.

        With ``soft``, those that have a grace become stale instead.
        """
        names = some(map(self._key, keys), "keys")
        if not soft:
            return _removal(b"DEL", *names)
        return _removal(b"TAG.INVALIDATE", b"KEYS", b"SOFT", b"%d" % len(names), *names)

    def keys_by_tag(self, tag: Tag) -> Request[list[str]]:
        """Return the keys of all entries with ``tag``, in no particular order.

        Keys without this client's prefix are left out.
        """
        payload = request(b"TAG.KEYS", checked_tag(tag))
        return Request(payload, self._read_keys, [], True, None, _joined)

    def search(self, tags: Iterable[Tag], mode: Mode = "any") -> Batch[list[str]]:
        """Return the keys of all entries with any of ``tags``, or ``all`` of them.

        The tags are looked up one after the other, not atomically; see ``keys_by_tag``.
        """
        union = checked_mode(mode) == b"ANY"
        requests = [self.keys_by_tag(tag) for tag in dict.fromkeys(tags)]

        def conclude(found: list[list[str]]) -> list[str]:
            if union or not found:
                return list(dict.fromkeys(chain.from_iterable(found)))
            return list(set(found[0]).intersection(*found[1:]))

        return Batch(requests, conclude)

    def flush(self) -> Request[int]:
        """Remove all entries from the server, of any key prefix; return their number."""
        return _removal(b"TAG.FLUSH")

    def stats(self) -> Request[Stats]:
        """Return the server's counters."""
        nothing = Stats(0, 0, 0, 0)
        return Request(request(b"TAG.STATS"), _read_stats, nothing, True, None, _sum_of_stats)

    def info(self) -> Request[dict[str, Any]]:
        """Return the state of the server; see INFO in docs/protocol.md."""
        return Request(request(b"TAG.INFO"), replies.read_json, {}, True)

    def ping(self) -> Request[bool]:
        """Return True if the server answers; False only if an unavailable cache is ignored."""
        return Request(PING.payload, PING.read, False, True, None, all)

    def clients(self) -> Request[list[dict[str, Any]]]:
        """Return the connections of the server; see CLIENTS in docs/protocol.md."""
        return Request(request(b"TAG.CLIENTS"), replies.read_json, [], True, None, _joined)

    def _key(self, key: Key) -> bytes:
        return self._prefix + checked_key(key)

    def _names(self, keys: list[Key]) -> list[bytes]:
        try:
            names = list(map(str.encode, keys))  # type: ignore[arg-type]
        except (TypeError, UnicodeEncodeError):
            names = [b""]
        if b"" in names:
            # Keys may be bytes, too. For any other key, this raises an error that names it.
            return list(map(self._key, keys))
        return [self._prefix + name for name in names] if self._prefix else names

    def _read_keys(self, reply: Any) -> list[str]:
        prefix = self._prefix
        return [
            key[len(prefix) :].decode("utf-8", "surrogateescape")
            for key in replies.read_list(reply)
            if key.startswith(prefix)
        ]


def log_in(*secrets: str) -> Request[bool]:
    """Return the request that authenticates a connection: with user and password, or a token."""
    return Request(request(b"AUTH", *(each.encode() for each in secrets)), _is_ok, False)


def select(db: int) -> Request[bool]:
    """Return the request that chooses the database of a connection."""
    return Request(request(b"SELECT", b"%d" % db), _is_ok, False)


def _removal(*arguments: bytes) -> Request[int]:
    return Request(request(*arguments), replies.read_integer, 0, False, None, sum)


_is_ok = replies.is_word(b"OK")
is_stored = replies.is_word(b"OK", absent=True)
PING: Request[bool] = Request(request(b"PING"), replies.is_word(b"PONG"), False, True)


def is_one(reply: Any) -> bool:
    return replies.read_integer(reply) == 1


def _read_stats(reply: Any) -> Stats:
    return Stats(*replies.read_list(reply))


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


def _joined(lists: list[list[T]]) -> list[T]:
    return list(chain.from_iterable(lists))
