"""The line protocol: parse requests, and write replies, without any I/O.

A request is a line of up to five fields, separated by TAB; the fifth may contain further tabs.
The specification is docs/protocol.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from typing import Any

from tagcache.errors import InvalidArgument, LineTooLong
from tagcache.model import int64
from tagcache.model.fetched import HIT, MOST_LEASE_MS, MOST_WAIT_MS, Fetched
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

# The first bytes of a TLS client: the record type of the handshake, and the version.
TLS_HANDSHAKE = b"\x16\x03"
_MAX_FIELDS = 5
_KEYS_AT_ONCE = 1024
# As numbers: searching bytes for a number is several times as fast as for bytes of length one.
_TAB, _LF, _CR = b"\t\n\r"
_MAX_TTL_DIGITS = len(str(UINT64_MAX))
# Our verbs are followed by a TAB, so none of our requests matches.
_HTTP = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) |(?i:host:)")


def error(code: str) -> bytes:
    """Return the reply to a request that failed."""
    return b"ERR %s\n" % code.encode("ascii", "replace")


UNKNOWN_COMMAND = error("unknown_command")
NOT_REPRESENTABLE = error("value_not_representable")
REFUSED = b"REFUSED\n"


def max_line_length(limits: Limits) -> int:
    """Return the maximum length of a valid request, in bytes, without the line end.

    This is the length of a FILL with every field at its limit. Lists of keys or tags have no
    separate limit.
    """
    verb, tabs, token, ttl_and_grace = 4, 5, 19, 41
    tags = limits.max_tags_per_entry * (limits.max_tag_length + 1)
    rest = limits.max_key_length + tags + limits.max_value_length
    return verb + tabs + token + ttl_and_grace + rest


class LineBuffer:
    """Splits a stream of chunks into lines, in linear time.

    ``max_length`` (bytes) may be changed at any time; ``partial`` holds the beginning of a line
    that is not complete.
    """

    __slots__ = ("max_length", "partial")

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.partial = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` completes, without LF and any CR before it.

        Raises LineTooLong, with the lines before, as soon as a line exceeds the limit, even if
        its end has not arrived; the rest of the data is lost. A MemoryError changes nothing.
        """
        lines = chunk.split(b"\n")
        rest = lines.pop()
        partial = self.partial
        longest = len(chunk)
        carriage_returns = _CR in chunk
        completed = bool(partial and lines)
        if completed:
            lines[0] = b"".join((partial, lines[0]))
            # Only the first line and the rest can be longer than the chunk.
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
        """Drop the incomplete line."""
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
    """Return the keys if ``chunk`` consists of complete, plain GETs only; else None.

    A fast path for the most common chunks; it takes a fraction of the time of splitting lines.
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
    """Return whether ``chunk`` is one complete line that ends with LF."""
    return chunk.find(_LF) == len(chunk) - 1 and _CR not in chunk


def is_http(line: bytes) -> bool:
    """Return whether a line, or the beginning of one, is part of an HTTP request."""
    if _HTTP.match(line) is not None:
        return True
    # Look for other methods by the version after the target.
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
    """Read a time to live in milliseconds; None if there is none.

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


def parse_lifetime(field: bytes) -> tuple[int | None, int]:
    """Read a time to live, and the grace after it if a ``+`` follows, in milliseconds.

    Raises InvalidArgument (``invalid_ttl``).
    """
    ttl, plus, grace = field.partition(b"+")
    if plus and not (ttl and grace):
        raise InvalidArgument("invalid_ttl")
    return parse_ttl(ttl), parse_ttl(grace) or 0


def parse_token(field: bytes) -> int:
    """Read the token of a lease. Raises InvalidArgument (``missing_token``, ``invalid_token``)."""
    if not field:
        raise InvalidArgument("missing_token")
    if not field.isdigit() or len(field) > _MAX_TTL_DIGITS:
        raise InvalidArgument("invalid_token")
    return int(field)


def parse_lease(field: bytes) -> int:
    """Read the requested length of a lease, in milliseconds.

    Raises InvalidArgument (``missing_lease``, ``invalid_lease``).
    """
    if not field:
        raise InvalidArgument("missing_lease")
    if not field.isdigit() or len(field) > _MAX_TTL_DIGITS or not 0 < int(field) <= MOST_LEASE_MS:
        raise InvalidArgument("invalid_lease")
    return int(field)


def parse_wait(field: bytes) -> int:
    """Read how long to wait, in milliseconds; empty: 0.

    Raises InvalidArgument (``invalid_wait``).
    """
    if not field:
        return 0
    if not field.isdigit() or len(field) > _MAX_TTL_DIGITS or int(field) > MOST_WAIT_MS:
        raise InvalidArgument("invalid_wait")
    return int(field)


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
    """Return the reply with a value, or an error if a line cannot hold the value."""
    if _LF in content:
        return NOT_REPRESENTABLE
    return b"VALUE\t" + content + b"\n"


def fetched(result: Fetched) -> bytes:
    """Return the reply to FETCH.

    If a line cannot contain the value, a stale value is left out, and any other is an error.
    """
    content = result.value
    if result.found is HIT and content is not None:
        return b"HIT\t" + content + b"\n" if _LF not in content else NOT_REPRESENTABLE
    if content is not None and _LF not in content:
        token = b"-" if result.token is None else b"%d" % result.token
        return b"STALE\t" + token + b"\t" + content + b"\n"
    if result.token is None:
        return b"WAIT\t%d\n" % result.left_ms
    return b"LEASE\t%d\n" % result.token


def integer(number: int) -> bytes:
    """Return the reply to INCR and DECR."""
    return b"VALUE\t%d\n" % number


def count(verb: bytes, number: int) -> bytes:
    """Return the reply to a verb that returns a number."""
    return b"%b\t%d\n" % (verb, number)


def keys(found: Sequence[bytes]) -> Generator[None, None, tuple[bytes, int]]:
    """Build the reply to KEYS in slices; return it, and the number of keys that it leaves out.

    A key with a comma or LF cannot be in a comma-separated line.
    """
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
    """Return the reply to a verb that returns a JSON object, on one line."""
    return b"%b\t%b\n" % (verb, json.dumps(content, separators=(",", ":")).encode("ascii"))


def json_list(verb: bytes, items: Sequence[str]) -> bytes:
    """Return the reply to a verb that returns a JSON array; ``items`` are JSON texts."""
    return b"%b\t[%b]\n" % (verb, ",".join(items).encode("ascii"))
