"""The arguments of the commands of Redis clients, as COMMAND DOCS describes them.

redis-cli shows them while a command is typed, and in its help.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tagcache.wire import resp

_WORD = re.compile(rb"[\w-]+|\.\.\.|[\[\]{}|]")
_INTEGERS = frozenset(
    b"count cursor decrement end increment index limit milliseconds most number numkeys "
    b"offset seconds start unix-time-milliseconds unix-time-seconds version".split()
)
_EXPIRY = b"EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds"
_STORE_EXPIRY = b"[" + _EXPIRY + b"|KEEPTTL]"
_TAG_OPTIONS = b"[EX seconds|PX milliseconds] [TAGS number tag...]"
_EXPIRE_IF = b"[NX|XX|GT|LT]"

# A name in lower case is an argument, one in upper case is a literal word. [...] is optional,
# | separates alternatives, {...} groups, and whatever precedes ... may be repeated.
_SYNTAX = {
    b"APPEND": b"key value",
    b"AUTH": b"[username] password",
    b"CLIENT": b"ID|GETNAME|SETNAME name|SETINFO attribute value|INFO|LIST [filter...]"
    b"|KILL filter value|NO-EVICT switch|NO-TOUCH switch",
    b"COMMAND": b"[COUNT|LIST|INFO [command...]|DOCS [command...]]",
    b"CONFIG": b"GET pattern...",
    b"COPY": b"source destination [REPLACE]",
    b"DBSIZE": b"",
    b"DECR": b"key",
    b"DECRBY": b"key decrement",
    b"DEL": b"key...",
    b"DISCARD": b"",
    b"ECHO": b"message",
    b"EVAL": b"script numkeys [key...] [arg...]",
    b"EVALSHA": b"sha1 numkeys [key...] [arg...]",
    b"EXEC": b"",
    b"EXISTS": b"key...",
    b"EXPIRE": b"key seconds " + _EXPIRE_IF,
    b"EXPIREAT": b"key unix-time-seconds " + _EXPIRE_IF,
    b"EXPIRETIME": b"key",
    b"FLUSHALL": b"[ASYNC|SYNC]",
    b"FLUSHDB": b"[ASYNC|SYNC]",
    b"GET": b"key",
    b"GETDEL": b"key",
    b"GETEX": b"key [" + _EXPIRY + b"|PERSIST]",
    b"GETRANGE": b"key start end",
    b"GETSET": b"key value",
    b"HELLO": b"[version [AUTH username password] [SETNAME name]]",
    b"INCR": b"key",
    b"INCRBY": b"key increment",
    b"INCRBYFLOAT": b"key increment",
    b"INFO": b"[section...]",
    b"KEYS": b"pattern",
    b"MEMORY": b"USAGE key [SAMPLES count]",
    b"MGET": b"key...",
    b"MSET": b"{key value}...",
    b"MSETNX": b"{key value}...",
    b"MULTI": b"",
    b"OBJECT": b"ENCODING key|FREQ key|IDLETIME key|REFCOUNT key",
    b"PERSIST": b"key",
    b"PEXPIRE": b"key milliseconds " + _EXPIRE_IF,
    b"PEXPIREAT": b"key unix-time-milliseconds " + _EXPIRE_IF,
    b"PEXPIRETIME": b"key",
    b"PING": b"[message]",
    b"PSETEX": b"key milliseconds value",
    b"PTTL": b"key",
    b"QUIT": b"",
    b"RANDOMKEY": b"",
    b"RENAME": b"key newkey",
    b"RENAMENX": b"key newkey",
    b"RESET": b"",
    b"ROLE": b"",
    b"SCAN": b"cursor [MATCH pattern] [COUNT count] [TYPE type]",
    b"SCRIPT": b"EXISTS sha1...|FLUSH|LOAD script",
    b"SELECT": b"index",
    b"SET": b"key value [NX|XX] [GET] " + _STORE_EXPIRY,
    b"SETEX": b"key seconds value",
    b"SETNX": b"key value",
    b"SETRANGE": b"key offset value",
    b"SLOWLOG": b"GET [count]|LEN|RESET",
    b"STRLEN": b"key",
    b"SUBSTR": b"key start end",
    b"TAG.CLIENTS": b"",
    b"TAG.COUNT": b"tag",
    b"TAG.DECR": b"key decrement " + _TAG_OPTIONS,
    b"TAG.FETCH": b"key LEASE milliseconds [WAIT milliseconds] [TAGS]",
    b"TAG.FLUSH": b"",
    b"TAG.INCR": b"key increment " + _TAG_OPTIONS,
    b"TAG.INFO": b"",
    b"TAG.INVALIDATE": b"[ANY|ALL|KEYS] [SOFT] number name...",
    b"TAG.KEYS": b"tag [LIMIT limit]",
    b"TAG.OF": b"key",
    b"TAG.RELEASE": b"key token",
    b"TAG.SET": b"key value [NX|XX] ["
    + _EXPIRY
    + b"] [GRACE milliseconds] [LEASE token] TAGS number [tag...]",
    b"TAG.SLOWLOG": b"[count]",
    b"TAG.STATS": b"",
    b"TAG.TOP": b"most",
    b"TAG.TOUCH": b"key [EX seconds|PX milliseconds]",
    b"TIME": b"",
    b"TOUCH": b"key...",
    b"TTL": b"key",
    b"TYPE": b"key",
    b"UNLINK": b"key...",
    b"UNWATCH": b"",
    b"WATCH": b"key...",
}


def arguments_of(verb: bytes) -> list[dict[str, Any]]:
    """Return the list ``arguments`` of COMMAND DOCS for a verb in upper case."""
    return _Words(_SYNTAX[verb]).group()


def encode(arguments: list[dict[str, Any]], protocol: int) -> bytes:
    """Return such a list as a reply."""
    return resp.array([_encode(argument, protocol) for argument in arguments])


def _encode(argument: dict[str, Any], protocol: int) -> bytes:
    items = []
    for name, value in argument.items():
        items.append(resp.bulk(name.encode()))
        if name == "arguments":
            items.append(encode(value, protocol))
        elif name == "flags":
            # redis-cli aborts if these are bulk strings.
            items.append(resp.set_of([resp.simple(flag) for flag in value], protocol))
        else:
            items.append(resp.bulk(value.encode()))
    return resp.mapping(items, protocol)


class _Words:
    """A parser that reads the words of a syntax from the left."""

    def __init__(self, syntax: bytes) -> None:
        self._left = _WORD.findall(syntax)[::-1]

    def _take(self, word: bytes) -> bool:
        """Read this word if it is the next one."""
        if self._left and self._left[-1] == word:
            self._left.pop()
            return True
        return False

    def group(self) -> list[dict[str, Any]]:
        """Read to the end, or to a closing bracket."""
        alternatives = [self._sequence()]
        while self._take(b"|"):
            alternatives.append(self._sequence())
        if len(alternatives) == 1:
            return alternatives[0]
        return [_together("oneof", [_one(sequence) for sequence in alternatives])]

    def _sequence(self) -> list[dict[str, Any]]:
        return list(self._items())

    def _items(self) -> Iterator[dict[str, Any]]:
        while self._left and self._left[-1] not in (b"]", b"}", b"|"):
            item = self._item()
            if self._take(b"..."):
                item.setdefault("flags", []).append("multiple")
            yield item

    def _item(self) -> dict[str, Any]:
        word = self._left.pop()
        if word in (b"[", b"{"):
            item = _one(self.group())
            self._left.pop()
            if word == b"[":
                item.setdefault("flags", []).insert(0, "optional")
            return item
        if word.isupper():
            token = word.decode()
            if self._left and self._left[-1].islower():
                return {**_argument(self._left.pop()), "token": token}
            return {"name": token.lower(), "type": "pure-token", "token": token}
        return _argument(word)


def _argument(word: bytes) -> dict[str, Any]:
    if word in (b"key", b"newkey", b"source", b"destination"):
        kind = "key"
    elif word == b"pattern":
        kind = "pattern"
    else:
        kind = "integer" if word in _INTEGERS else "string"
    return {"name": word.decode(), "type": kind}


def _one(sequence: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one argument that stands for those of a sequence."""
    return sequence[0] if len(sequence) == 1 else _together("block", sequence)


def _together(kind: str, arguments: list[dict[str, Any]]) -> dict[str, Any]:
    name = "-".join(each["name"] for each in arguments)
    return {"name": name, "type": kind, "arguments": arguments}
