"""Read the requests of RESP, arrays of bulk strings, as a server does, without any I/O."""

from __future__ import annotations

import sys

from tagcache.errors import MalformedRequest
from tagcache.wire.resp import BULK_LINES, read_integer

# The longest line that is read as a number: its type, a 64-bit integer, and the line end.
_MAX_LINE = len("*-9223372036854775808\r\n")
_ASTERISK = ord("*")
# The overhead of an argument: an object, and its place in a list.
_OBJECT_BYTES = sys.getsizeof(b"") + 8
_LENGTHS = {line: length for length, line in enumerate(BULK_LINES)}
_COUNTS = {b"*%d" % count: count for count in range(1, 129)}
_GET = b"*2\r\n$3\r\nGET\r\n"
# A longer chunk is taken for short requests if it begins with this many lines in this many bytes.
# Searching large values for line ends would cost more than parsing the requests around them.
_SHORT = 1024
_MANY_LINES = 16
# The fast path accepts two and three arguments without checking the limit of arguments.
_FEWEST_ARGUMENTS = 3


class _Incomplete:
    """The part of an incomplete request that has arrived.

    ``arguments`` are complete, ``size`` is their total length in bytes, and ``missing`` how many
    more there are. ``rest`` is not parsed: it is the beginning of a line, or of an argument that
    takes ``needed`` bytes.
    """

    __slots__ = ("arguments", "missing", "needed", "rest", "size")

    def __init__(
        self, arguments: list[bytes], size: int, missing: int, rest: bytearray, needed: int
    ) -> None:
        self.arguments = arguments
        self.size = size
        self.missing = missing
        self.rest = rest
        self.needed = needed


class RequestBuffer:
    """Splits a stream of chunks into requests, in linear time.

    ``partial`` is how much memory an incomplete request takes, in bytes; 0 if there is none.
    """

    # hiredis could read requests, but has no limits: it allocates a list of any announced length,
    # and accepts strings of any kind and nested arrays as arguments.

    __slots__ = (
        "_common_up_to",
        "_incomplete",
        "_max_argument_bytes",
        "_max_arguments",
        "_max_bytes",
        "_short_up_to",
        "partial",
    )

    def __init__(
        self, max_request_bytes: int, max_arguments: int, max_argument_bytes: int | None = None
    ) -> None:
        self.partial = 0
        self._incomplete: _Incomplete | None = None
        self.use_limits(max_request_bytes, max_arguments, max_argument_bytes)

    def use_limits(
        self, max_request_bytes: int, max_arguments: int, max_argument_bytes: int | None = None
    ) -> None:
        """Set the most arguments of a request, and the most bytes of all its arguments.

        One argument has at most ``max_argument_bytes``; None: as many as the request.

        The limits apply to requests that are read from now on.
        """
        self._max_bytes = max_request_bytes
        self._max_arguments = max_arguments
        self._max_argument_bytes = (
            max_request_bytes if max_argument_bytes is None else max_argument_bytes
        )
        # A chunk up to this length cannot exceed the limits in the fast path.
        self._common_up_to = max_request_bytes if max_arguments >= _FEWEST_ARGUMENTS else 0
        self._short_up_to = min(self._common_up_to, _SHORT)

    def feed(self, chunk: bytes) -> list[list[bytes]]:
        """Return the requests that ``chunk`` completes, each as the list of its arguments.

        Empty requests are left out. Raises MalformedRequest, with the requests before, as soon as
        a length exceeds a limit or the stream breaks the protocol; the rest of the data is lost. A
        MemoryError changes nothing.
        """
        requests: list[list[bytes]] = []
        before = self._incomplete
        if before is None and len(chunk) <= self._short_up_to:
            chunk = _take_common(chunk, requests, self._max_arguments)
            if not chunk:
                return requests
        known = len(before.arguments) if before else 0
        try:
            after = self._feed(before, chunk, requests)
        except MalformedRequest as error:
            self.clear()
            error.requests = requests
            raise
        except MemoryError:
            if before:
                del before.arguments[known:]
            raise
        self._incomplete = after
        if after is None:
            self.partial = 0
        else:
            overhead = (1 + len(after.arguments)) * _OBJECT_BYTES
            self.partial = after.size + len(after.rest) + overhead
        return requests

    def clear(self) -> None:
        """Drop the incomplete request."""
        self._incomplete = None
        self.partial = 0

    def _feed(
        self, before: _Incomplete | None, chunk: bytes, requests: list[list[bytes]]
    ) -> _Incomplete | None:
        """Add the requests that ``chunk`` completes; return the incomplete one at its end."""
        if before is not None:
            rest = before.rest
            if len(rest) + len(chunk) < before.needed:
                rest += chunk
                return before
            # The argument is complete now, so it is copied only once here.
            chunk = b"".join((rest, chunk))
            if before.missing:
                after, at = self._parse_arguments(
                    chunk, 0, before.arguments, before.size, before.missing
                )
                if after is not None:
                    return after
                requests.append(before.arguments)
                chunk = chunk[at:]
        if (
            self._short_up_to < len(chunk) <= self._common_up_to
            and chunk.count(b"\n", 0, _SHORT) >= _MANY_LINES
        ):
            chunk = _take_common(chunk, requests, self._max_arguments)
        return self._parse(chunk, requests)

    def _parse(self, data: bytes, requests: list[list[bytes]]) -> _Incomplete | None:
        """Parse requests and add them; return the incomplete one at the end."""
        at = 0
        while at < len(data):
            if data.startswith(b"\r\n", at):
                # An empty line between requests; redis-cli --pipe sends one.
                at += 2
                continue
            if at == len(data) - 1 and data.endswith(b"\r"):
                return _Incomplete([], 0, 0, bytearray(b"\r"), 0)
            if data[at] != _ASTERISK:
                raise MalformedRequest(f"expected '*', got {_shown(data, at)}")
            line_end = data.find(b"\r\n", at, at + _MAX_LINE)
            if line_end < 0:
                if len(data) - at >= _MAX_LINE:
                    raise MalformedRequest("too big mbulk count string")
                return _Incomplete([], 0, 0, bytearray(data[at:]), 0)
            count = read_integer(data[at + 1 : line_end])
            if count is None or count > self._max_arguments:
                raise MalformedRequest("invalid multibulk length")
            at = line_end + 2
            if count > 0:
                arguments: list[bytes] = []
                after, at = self._parse_arguments(data, at, arguments, 0, count)
                if after is not None:
                    return after
                requests.append(arguments)
        return None

    def _parse_arguments(
        self, data: bytes, at: int, arguments: list[bytes], size: int, missing: int
    ) -> tuple[_Incomplete | None, int]:
        """Parse arguments and add them; return what is incomplete, and where parsing stopped."""
        left = self._max_bytes - size
        needed = 0
        while missing:
            line_end = data.find(b"\r\n", at, at + _MAX_LINE)
            length = _LENGTHS.get(data[at:line_end]) if line_end > 0 else None
            if length is None:
                length = _announced(data, at, line_end)
                if length < 0:
                    break
            if length > left or length > self._max_argument_bytes:
                raise MalformedRequest("invalid bulk length")
            begin = line_end + 2
            stop = begin + length
            if not data.startswith(b"\r\n", stop):
                needed = stop + 2 - at
                if len(data) - at >= needed:
                    raise MalformedRequest("expected CRLF after a bulk string")
                break
            arguments.append(data[begin:stop])
            left -= length
            missing -= 1
            at = stop + 2
        else:
            return None, at
        rest = bytearray(memoryview(data)[at:])
        return _Incomplete(arguments, self._max_bytes - left, missing, rest, needed), at


def _take_common(chunk: bytes, requests: list[list[bytes]], max_arguments: int) -> bytes:
    """Add the complete requests at the beginning of a chunk; return the data after them.

    This is several times as fast as parsing, but stops at anything uncommon: a long argument, one
    that contains CRLF, or an error. A line with the announced length is the whole argument, so the
    result is the same as with parsing.
    """
    lines = chunk.split(b"\r\n")
    rest = lines.pop()
    at, end = 0, len(lines)
    known = BULK_LINES
    try:
        while at < end:
            first = lines[at]
            if first == b"*2":
                one, two = lines[at + 2], lines[at + 4]
                if lines[at + 1] != known[len(one)] or lines[at + 3] != known[len(two)]:
                    break
                requests.append([one, two])
                at += 5
            elif first == b"*3":
                one, two, three = lines[at + 2], lines[at + 4], lines[at + 6]
                if (
                    lines[at + 1] != known[len(one)]
                    or lines[at + 3] != known[len(two)]
                    or lines[at + 5] != known[len(three)]
                ):
                    break
                requests.append([one, two, three])
                at += 7
            else:
                arguments = _common_arguments(lines, at, max_arguments)
                if arguments is None:
                    break
                requests.append(arguments)
                at += 1 + 2 * len(arguments)
    except IndexError:
        # The request is incomplete, or an argument is long.
        pass
    if at == end:
        return rest
    lines.append(rest)
    return b"\r\n".join(lines[at:])


def _common_arguments(lines: list[bytes], at: int, max_arguments: int) -> list[bytes] | None:
    """Return the arguments of the request that begins at a line, if it is an ordinary one."""
    first = lines[at]
    count = _COUNTS.get(first)
    if count is None and first[:1] == b"*":
        count = read_integer(first[1:])
    if count is None or not 0 < count <= max_arguments:
        return None
    stop = at + 1 + 2 * count
    arguments = lines[at + 2 : stop : 2]
    known = BULK_LINES
    if stop > len(lines) or lines[at + 1 : stop : 2] != [known[len(each)] for each in arguments]:
        return None
    return arguments


def _announced(data: bytes, at: int, line_end: int) -> int:
    """Return the length of a bulk string from its first line; -1 if that is incomplete."""
    if data[at : at + 1] not in (b"$", b""):
        raise MalformedRequest(f"expected '$', got {_shown(data, at)}")
    if line_end < 0:
        if len(data) - at >= _MAX_LINE:
            raise MalformedRequest("too big bulk count string")
        return -1
    length = read_integer(data[at + 1 : line_end])
    if length is None or length < 0:
        raise MalformedRequest("invalid bulk length")
    return length


def _shown(data: bytes, at: int) -> str:
    return repr(data[at : at + 1])[1:]


def only_gets(chunk: bytes) -> list[bytes] | None:
    """Return the keys if ``chunk`` consists of complete GETs of short keys only; else None.

    A fast path for the most common chunks; it takes a fraction of the time of splitting requests.
    """
    if chunk[:13] != _GET or chunk[-2:] != b"\r\n":
        return None
    content = chunk[13:-2]
    length, _, key = content.partition(b"\r\n")
    if _LENGTHS.get(length) == len(key):
        return [key]
    keys = []
    for part in content.split(b"\r\n" + _GET):
        length, _, key = part.partition(b"\r\n")
        if _LENGTHS.get(length) != len(key):
            return None
        keys.append(key)
    return keys
