"""The line protocol: bytes to requests and results to replies, without any I/O.

A request is a line of at most five fields with a TAB between them; the fifth keeps its tabs.
The full contract is in docs/protocol.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from typing import Any

from tagcache.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    InvalidArgument,
    LineTooLong,
    Refused,
    UnexpectedReply,
)
from tagcache.model import int64
from tagcache.model.int64 import UINT64_MAX
from tagcache.model.limits import Limits

OK = b"OK\n"
ADDED = b"ADDED\n"
EXISTS = b"EXISTS\n"
NOT_FOUND = b"NF\n"
TOUCHED = b"TOUCHED\n"
DELETED = b"DEL ok\n"
NOT_DELETED = b"DEL nf\n"
PONG = b"PONG\n"

# What a TLS client sends first: a record of the handshake, and the version.
TLS_HANDSHAKE = b"\x16\x03"
_MAX_FIELDS = 5
_KEYS_AT_ONCE = 1024
# Looked for as numbers, which is several times as fast as looking for one byte of bytes.
_TAB, _LF, _CR = b"\t\n\r"
_MAX_TTL_DIGITS = len(str(UINT64_MAX))
# Our own verbs have a TAB behind them, so that no request of ours begins like this.
_HTTP = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) |(?i:host:)")


def error(code: str) -> bytes:
    """Return the reply for a request that could not be carried out."""
    return b"ERR %s\n" % code.encode("ascii", "replace")


UNKNOWN_COMMAND = error("unknown_command")
NOT_REPRESENTABLE = error("value_not_representable")


def max_line_length(limits: Limits) -> int:
    """Return the length in bytes, without its end, of the longest request that can be legal.

    That is a PUT with everything at its limit. Lists of keys or tags have no limit of their
    own and share this one.
    """
    verb, tabs, ttl = 4, 4, 20
    tags = limits.max_tags_per_entry * (limits.max_tag_length + 1)
    return verb + tabs + limits.max_key_length + ttl + tags + limits.max_value_length


class LineBuffer:
    """Cuts a stream of chunks into lines, in time linear in their length.

    ``max_length`` (bytes) may be changed at any time; ``partial`` is what is there of a line
    that is not complete.
    """

    __slots__ = ("max_length", "partial")

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.partial = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` completes, without their LF and any CR before it.

        Raises LineTooLong, with the lines before, as soon as a line exceeds the limit even if
        its end has not come; what follows it is lost. A MemoryError changes nothing.
        """
        lines = chunk.split(b"\n")
        rest = lines.pop()
        partial = self.partial
        longest = len(chunk)
        carriage_returns = _CR in chunk
        completed = bool(partial and lines)
        if completed:
            lines[0] = b"".join((partial, lines[0]))
            # Only this line and the rest can be longer than the chunk that is at hand.
            longest = max(longest, len(lines[0]))
            carriage_returns = carriage_returns or lines[0].endswith(b"\r")
        if carriage_returns:
            lines = [line.rstrip(b"\r") for line in lines]
        if completed:
            self.partial = bytearray(rest)
        elif rest:
            partial += rest
        if rest:
            longest = max(longest, len(self.partial))
        if longest > self.max_length:
            self._check(lines)
        return lines

    def clear(self) -> None:
        """Forget the unfinished line."""
        self.partial.clear()

    def _check(self, lines: list[bytes]) -> None:
        for number, line in enumerate(lines):
            if len(line) > self.max_length:
                self.clear()
                raise LineTooLong(lines[:number])
        if len(self.partial) > self.max_length:
            self.clear()
            raise LineTooLong(lines)


def only_gets(chunk: bytes) -> list[bytes] | None:
    """Return the keys if ``chunk`` is nothing but whole, plain GETs; None if it is anything else.

    That is what clients send most, and it takes a fraction of the time of going by lines.
    """
    if chunk[:4] != b"GET\t" or chunk[-1:] != b"\n" or _CR in chunk:
        return None
    content = chunk[4:-1]
    if _LF not in content:
        return None if _TAB in content else [content]
    keys = content.split(b"\nGET\t")
    others = len(keys) - 1
    return keys if content.count(_LF) == others == content.count(_TAB) else None


def is_one_line(chunk: bytes) -> bool:
    """Say whether ``chunk`` is one whole line with a plain end."""
    return chunk.find(_LF) == len(chunk) - 1 and _CR not in chunk


def is_http(line: bytes) -> bool:
    """Say whether a line, or the beginning of one, can only be that of an HTTP request."""
    if _HTTP.match(line) is not None:
        return True
    # Any other method, with a version behind its target.
    return line[-9:-3] == b" HTTP/" and b"\t" not in line[: line.find(b" ")]


def split(line: bytes) -> list[bytes]:
    """Return the fields of a request line: the verb and at most four more."""
    return line.split(b"\t", _MAX_FIELDS - 1)


def values(contents: Sequence[bytes | None]) -> bytes:
    """Return the replies to many GETs."""
    if all(contents):
        replies = b"VALUE\t" + b"\nVALUE\t".join(contents) + b"\n"  # type: ignore[arg-type]
        if replies.count(_LF) == len(contents):
            return replies
    return b"".join([NOT_FOUND if each is None else value(each) for each in contents])


def parse_ttl(field: bytes) -> int | None:
    """Read a time to live in milliseconds; None where none is given.

    Raises InvalidArgument (``invalid_ttl``).
    """
    if field in (b"-", b""):
        return None
    if len(field) < 19 and field.isdigit():
        return int(field) or None
    digits = field.lstrip(b"0") or b"0"
    if not field.isdigit() or len(digits) > _MAX_TTL_DIGITS or int(digits) > UINT64_MAX:
        raise InvalidArgument("invalid_ttl")
    return int(digits) or None


def parse_by(field: bytes) -> int:
    """Read the step of INCR and DECR; empty means 1. Raises InvalidArgument (``invalid_by``)."""
    if not field:
        return 1
    by = int64.parse(field)
    if by is None:
        raise InvalidArgument("invalid_by")
    return by


def parse_tags(field: bytes) -> list[bytes]:
    """Read the tags of an entry: split at commas, not trimmed, empty ones dropped."""
    if field in (b"-", b""):
        return []
    return [tag for tag in field.split(b",") if tag]


def parse_list(field: bytes, name: str) -> list[bytes]:
    """Read a list of tags or keys: split at commas, trimmed, empty ones dropped.

    ``name`` is ``tags`` or ``keys``. Raises InvalidArgument (``missing_...``, ``empty_...``).
    """
    if not field:
        raise InvalidArgument(f"missing_{name}")
    items = [item for part in field.split(b",") if (item := part.strip())]
    if not items:
        raise InvalidArgument(f"empty_{name}")
    return items


def value(content: bytes) -> bytes:
    """Return the reply that carries a value; an error where a line cannot hold it."""
    if _LF in content:
        return NOT_REPRESENTABLE
    return b"VALUE\t" + content + b"\n"


def integer(number: int) -> bytes:
    """Return the reply to INCR and DECR."""
    return b"VALUE\t%d\n" % number


def count(verb: bytes, number: int) -> bytes:
    """Return the reply of a verb that answers with a number."""
    return b"%b\t%d\n" % (verb, number)


def keys(found: Sequence[bytes]) -> Generator[None, None, tuple[bytes, int]]:
    """Work that returns the reply to KEYS, and how many keys a comma-separated line cannot hold."""
    parts = []
    left_out = 0
    for start in range(0, len(found), _KEYS_AT_ONCE):
        some = found[start : start + _KEYS_AT_ONCE]
        joined = b",".join(some)
        if b"\n" in joined or joined.count(b",") != len(some) - 1:
            framed = [key for key in some if b"," not in key and b"\n" not in key]
            left_out += len(some) - len(framed)
            parts += framed
        else:
            parts.append(joined)
        yield
    return b"KEYS\t%b\n" % b",".join(parts), left_out


def stats(hits: int, misses: int, puts: int, invalidations: int, hit_ratio: float) -> bytes:
    """Return the reply to STATS."""
    return b"STATS\t%d\t%d\t%d\t%d\t%.6f\n" % (hits, misses, puts, invalidations, hit_ratio)


def json_object(verb: bytes, content: dict[str, Any]) -> bytes:
    """Return the reply of a verb that answers with a JSON object, on one line."""
    return b"%b\t%b\n" % (verb, json.dumps(content, separators=(",", ":")).encode("ascii"))


def json_list(verb: bytes, items: Sequence[str]) -> bytes:
    """Return the reply of a verb that answers with a JSON array of what is JSON already."""
    return b"%b\t[%b]\n" % (verb, ",".join(items).encode("ascii"))


# After these replies the server closes the connection.
CLOSING_REPLIES = (b"ERR line_too_long", b"ERR max_connections")


class Replies:
    """Collects ``count`` replies, a line each, from the chunks in which they come."""

    __slots__ = ("_count", "_lines", "_partial")

    def __init__(self, count: int) -> None:
        self._count = count
        self._lines: list[bytes] = []
        self._partial: list[bytes] = []

    @property
    def received(self) -> int:
        """How many replies are complete."""
        return len(self._lines)

    def feed(self, chunk: bytes) -> list[bytes] | None:
        """Take what came; returns the lines, without their ends, when all are there.

        Raises UnexpectedReply if more came than was asked for.
        """
        first, *others = chunk.split(b"\n")
        self._partial.append(first)
        if not others:
            return None
        self._lines.append(b"".join(self._partial))
        rest = others.pop()
        self._lines += others
        self._partial = [rest] if rest else []
        missing = self._count - len(self._lines)
        if missing < 0 or (rest and not missing):
            raise UnexpectedReply("the server sent more than was asked for")
        return None if missing else self._lines


def read_value(reply: bytes) -> bytes | None:
    """Read the reply to GET: the value, or None if there is none."""
    if reply.startswith(b"VALUE\t"):
        return reply[6:]
    if reply == b"NF":
        return None
    raise not_meant(reply)


def read_number(reply: bytes, verb: bytes = b"VALUE") -> int:
    """Read a reply that carries a number: INCR, DECR, or an invalidation by its verb."""
    name, tab, number = reply.partition(b"\t")
    if name == verb and tab:
        return int(number)
    raise not_meant(reply)


def read_keys(reply: bytes) -> list[bytes]:
    """Read the reply to KEYS."""
    name, tab, found = reply.partition(b"\t")
    if name == b"KEYS" and tab:
        return found.split(b",") if found else []
    raise not_meant(reply)


def read_word(reply: bytes, yes: bytes, no: bytes | None = None) -> bool:
    """Read a reply that is one of two words; both are given with their LF."""
    if reply == yes[:-1]:
        return True
    if no is not None and reply == no[:-1]:
        return False
    raise not_meant(reply)


def read_stats(reply: bytes) -> tuple[int, int, int, int]:
    """Read the reply to STATS: hits, misses, puts, invalidations."""
    fields = reply.split(b"\t")
    if fields[0] == b"STATS" and len(fields) == 6:
        hits, misses, puts, invalidations = map(int, fields[1:5])
        return hits, misses, puts, invalidations
    raise not_meant(reply)


def read_json(reply: bytes, verb: bytes) -> Any:
    """Read the reply of a verb that answers with JSON."""
    name, tab, content = reply.partition(b"\t")
    if name == verb and tab:
        return json.loads(content)
    raise not_meant(reply)


def not_meant(reply: bytes) -> AuthenticationFailed | ConnectionFailed | Refused | UnexpectedReply:
    """Return what to raise for a reply that is not one to the request."""
    if not reply.startswith(b"ERR "):
        return UnexpectedReply(f"this is no reply to the request: {reply[:80]!r}")
    code = reply[4:].decode("ascii", "replace")
    if code in ("auth_required", "auth_failed"):
        return AuthenticationFailed(f"the server said: {code}")
    if code in ("max_connections", "backend_unavailable"):
        return ConnectionFailed(f"the server said: {code}")
    return Refused(code)
