"""Read the replies of RESP2 and RESP3, as a client does, without any I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tagcache.errors import UnexpectedReply
from tagcache.wire.resp import BULK_LINES, read_integer

# The defaults are larger than any reply of a server of ours.
MAX_STRING_BYTES = 512 * 1024 * 1024
MAX_ITEMS = 16 * 1024 * 1024
MAX_DEPTH = 9
_MAX_LINE = 64 * 1024

_LF, _CR = b"\n\r"
_MAP, _PUSH = b"%>"
_AGGREGATES = frozenset(b"*~%>")
_DOUBLE = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|inf|nan)", re.IGNORECASE)

_NULLS = (b"$-1", b"_")
# hiredis is optional.
_hiredis: Any = import_module("hiredis") if find_spec("hiredis") else None
# Parsing a shorter reply takes no longer than checking whether hiredis can be used.
_MANY_BYTES = 256
_MAX_NUMBER_LINE = 16
# The beginning of items that contain others. A string may match, too.
_NESTED = b"*%~>|"
_PERHAPS_NESTED = re.compile(rb"\n[%b]" % _NESTED)
_STRING_TYPES = frozenset((bytes, type(None)))
# The fast path is for arrays of at least this many items, with lines of at most this many bytes on
# average.
_MANY_ITEMS = 16
_COMMON_LINE_BYTES = 128


class Push(list[Any]):
    """A message that is not the reply to a request."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """The reply to a request that failed; ``message`` (str) begins with a code."""

    message: str

    @property
    def code(self) -> str:
        """The first word, for instance ``ERR``."""
        return self.message.partition(" ")[0]


class _Aggregate:
    """An array, map, set or push, some of whose items are missing."""

    __slots__ = ("items", "kind", "missing")

    def __init__(self, kind: int, missing: int) -> None:
        self.kind = kind
        self.missing = missing
        self.items: list[Any] = []

    def value(self) -> Any:
        """Return the complete aggregate as a Python value."""
        if self.kind == _PUSH:
            return Push(self.items)
        if self.kind != _MAP:
            return self.items
        try:
            return dict(zip(self.items[::2], self.items[1::2], strict=True))
        except TypeError:
            raise UnexpectedReply("a key of a map in the reply is an array or a map") from None


class ReplyReader:
    """Reads replies from a stream of chunks, in linear time.

    A reply is an int, bool, float, bytes (strings of any kind, large numbers), None, a list (arrays
    and sets), a dict, an ErrorReply or a Push. The limits are the length of a string, and the
    number of items in an array, set or push; a map has two items for each pair.
    """

    def __init__(
        self, max_string_bytes: int = MAX_STRING_BYTES, max_items: int = MAX_ITEMS
    ) -> None:
        self._max_string_bytes = max_string_bytes
        self._max_items = max_items
        self._common_lengths = BULK_LINES[: max_string_bytes + 1]
        # The aggregates that are not complete, the innermost last.
        self._open: list[_Aggregate] = []
        # The beginning of a line; or of a string, which with its first line has ``_needed`` bytes.
        self._rest = bytearray()
        self._needed = 0

    def feed(self, chunk: bytes) -> list[Any]:
        """Return the replies that ``chunk`` completes.

        Raises UnexpectedReply if the stream breaks the protocol, or as soon as a length exceeds a
        limit, before anything of that length is allocated. Nothing can be read after that.
        """
        rest = self._rest
        if rest:
            needed = self._needed
            if len(rest) + len(chunk) < needed if needed else _LF not in chunk:
                rest += chunk
                self._check_line()
                return []
            # The string or line is complete now, so each of its bytes is copied only once here.
            chunk = b"".join((rest, chunk))
        elif _hiredis is not None and not self._open and len(chunk) >= _MANY_BYTES:
            strings = self._take_strings(chunk)
            if strings is not None:
                return [strings]
        replies: list[Any] = []
        at = self._parse(chunk, replies)
        self._rest = bytearray(memoryview(chunk)[at:])
        self._check_line()
        return replies

    @property
    def is_empty(self) -> bool:
        """Whether there is no incomplete reply."""
        return not self._rest and not self._open

    def _take_strings(self, chunk: bytes) -> list[bytes | None] | None:
        """Return the reply if ``chunk`` is one array of strings, and nothing else.

        hiredis is several times as fast as our parser, but has no limits: it allocates a list of
        any announced length (8 GB for 15 bytes), and accepts any depth of nesting.
        """
        head = chunk[1 : chunk.find(b"\r\n", 0, _MAX_NUMBER_LINE)]
        if (
            not chunk.startswith(b"*")
            or not head.isdigit()
            or int(head) > min(len(chunk), self._max_items)
            or len(chunk) > self._max_string_bytes
            or _perhaps_nested(chunk)
        ):
            return None
        reader = _hiredis.Reader()
        reader.feed(chunk)
        try:
            reply = reader.gets()
        except _hiredis.HiredisError:
            return None
        if (
            reader.has_data()
            or type(reply) is not list
            or not _STRING_TYPES.issuperset(map(type, reply))
        ):
            return None
        return reply

    def _check_line(self) -> None:
        if not self._needed and len(self._rest) > _MAX_LINE:
            raise UnexpectedReply("a line of the reply is too long")

    def _parse(self, data: bytes, replies: list[Any]) -> int:
        """Parse complete items, and add complete replies; return where parsing stopped."""
        at = self._take_common(data, 0) if self._open else 0
        self._needed = 0
        while (line_end := data.find(_LF, at)) >= 0:
            if line_end == at or data[line_end - 1] != _CR:
                raise _unexpected(data[at : line_end + 1])
            kind, line, begin = data[at], data[at + 1 : line_end - 1], line_end + 1
            if kind in _AGGREGATES:
                missing = self._read_count(kind, line)
                if missing:
                    self._open.append(_Aggregate(kind, missing))
                    at = self._take_common(data, begin)
                    continue
                value = None if missing is None else _Aggregate(kind, 0).value()
            elif kind in _STRINGS:
                length = self._read_length(line)
                value = None
                if length is not None:
                    stop = begin + length
                    if stop + 2 > len(data):
                        self._needed = stop + 2 - at
                        break
                    if not data.startswith(b"\r\n", stop):
                        raise _unexpected(data[stop : stop + 2])
                    value = _STRINGS[kind](data[begin:stop])
                    begin = stop + 2
            elif kind in _LINES:
                value = _LINES[kind](line)
            else:
                raise _unexpected(data[at:line_end])
            at = begin
            self._add(value, replies)
        return at

    def _add(self, value: Any, replies: list[Any]) -> None:
        """Add a complete value to the aggregate it belongs to, or to the replies."""
        while self._open:
            innermost = self._open[-1]
            innermost.items.append(value)
            innermost.missing -= 1
            if innermost.missing:
                return
            value = self._open.pop().value()
        replies.append(value)

    def _read_count(self, kind: int, line: bytes) -> int | None:
        """Return the number of items of an aggregate; None if it is null."""
        count = read_integer(line)
        if count == -1:
            return None
        if count is None or count < 0:
            raise _unexpected(line)
        if kind == _MAP:
            count *= 2
        if count > self._max_items:
            raise UnexpectedReply("the reply has too many items")
        if count and len(self._open) >= MAX_DEPTH:
            raise UnexpectedReply("the reply is nested too deeply")
        return count

    def _read_length(self, line: bytes) -> int | None:
        """Return the length of a string; None if it is null."""
        length = read_integer(line)
        if length == -1:
            return None
        if length is None or length < 0:
            raise _unexpected(line)
        if length > self._max_string_bytes:
            raise UnexpectedReply("a string in the reply is too long")
        return length

    def _take_common(self, data: bytes, at: int) -> int:
        """Add items to the innermost aggregate while they are short strings or nulls.

        A fast path: several times as fast as parsing, with the same result. Leaves the last item of
        the aggregate to the parser. Returns where it stopped.
        """
        aggregate = self._open[-1]
        most = aggregate.missing - 1
        if most < _MANY_ITEMS or data.count(b"\n", at, at + 1024) < 1024 // _COMMON_LINE_BYTES:
            return at
        part = data[at : at + most * 2 * _COMMON_LINE_BYTES]
        lines = part.split(b"\r\n", 2 * most)
        rest = len(lines.pop())
        items, known = aggregate.items, self._common_lengths
        found = lines[1::2]
        if len(lines) == 2 * len(found) and _are_lengths(lines[::2], found, known):
            # The usual case: no nulls.
            items += found
            aggregate.missing -= len(found)
            return at + len(part) - rest
        following = iter(lines)
        before = len(items)
        used = 0
        for _ in range(most):
            line = next(following, b"")
            if line in _NULLS:
                items.append(None)
                used += 1
                continue
            item = next(following, None)
            if item is None or len(item) >= len(known) or line != known[len(item)]:
                break
            items.append(item)
            used += 2
        aggregate.missing -= len(items) - before
        return at + sum(map(len, lines[:used])) + 2 * used


def _perhaps_nested(chunk: bytes) -> bool:
    """Return whether an item in an array may contain others."""
    # Searching for single bytes takes a fraction of the time, and most chunks have none of them.
    return (
        any(chunk.find(kind, 1) >= 0 for kind in _NESTED)
        and _PERHAPS_NESTED.search(chunk) is not None
    )


def only_string(chunk: bytes) -> bytes | None:
    """Return the string if ``chunk`` is one reply, and that is a string; else None.

    A fast path for most replies; it takes a fraction of the time of ``ReplyReader.feed``.
    """
    begin = chunk.find(b"\r\n") + 2
    length = len(chunk) - begin - 2
    if chunk[: begin - 2] == b"$%d" % length and chunk.endswith(b"\r\n", begin):
        return chunk[begin:-2]
    return None


def _are_lengths(lines: list[bytes], items: list[bytes], known: list[bytes]) -> bool:
    """Return whether each line has the length of its item, and no item is long."""
    try:
        return lines == [known[len(each)] for each in items]
    except IndexError:
        return False


def _unexpected(found: bytes) -> UnexpectedReply:
    return UnexpectedReply(f"this is not a reply in RESP: {found[:80]!r}")


def _read_simple(line: bytes) -> bytes:
    if b"\r" in line:
        raise _unexpected(line)
    return line


def _read_error(line: bytes) -> ErrorReply:
    return ErrorReply(_read_simple(line).decode("utf-8", "replace"))


def _read_number(line: bytes) -> int:
    number = read_integer(line)
    if number is None:
        raise _unexpected(line)
    return number


def _read_big_number(line: bytes) -> bytes:
    if not line.removeprefix(b"-").isdigit():
        raise _unexpected(line)
    return line


def _read_double(line: bytes) -> float:
    if _DOUBLE.fullmatch(line) is None:
        raise _unexpected(line)
    return float(line)


def _read_boolean(line: bytes) -> bool:
    if line not in (b"t", b"f"):
        raise _unexpected(line)
    return line == b"t"


def _read_null(line: bytes) -> None:
    if line:
        raise _unexpected(line)


def _read_verbatim(content: bytes) -> bytes:
    """Return the text without its format, which is three letters and a colon."""
    if content[3:4] != b":":
        raise _unexpected(content)
    return content[4:]


# How to read the value of a line, by its first byte.
_LINES: dict[int, Callable[[bytes], Any]] = {
    ord("+"): _read_simple,
    ord("-"): _read_error,
    ord(":"): _read_number,
    ord("("): _read_big_number,
    ord(","): _read_double,
    ord("#"): _read_boolean,
    ord("_"): _read_null,
}
# How to read the content after a line with its length, by the first byte of the line.
_STRINGS: dict[int, Callable[[bytes], Any]] = {
    ord("$"): bytes,
    ord("!"): lambda content: ErrorReply(content.decode("utf-8", "replace")),
    ord("="): _read_verbatim,
}
