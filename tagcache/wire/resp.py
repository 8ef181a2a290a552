"""The Redis protocol, RESP2 and RESP3: write requests and replies, without any I/O.

``protocol`` is 2 or 3. wire/resp_requests.py reads requests, wire/resp_replies.py replies.
The specification is https://redis.io/docs/latest/develop/reference/protocol-spec/.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from tagcache.model import int64

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
QUEUED = b"+QUEUED\r\n"
EMPTY_BULK = b"$0\r\n\r\n"
EMPTY_ARRAY = b"*0\r\n"
ZERO = b":0\r\n"
ONE = b":1\r\n"

# No reply is nested deeper; readers have a limit, too.
_MAX_DEPTH = 8
_ITEMS_AT_ONCE = 1024
# Formats with a length and a content for each item.
_BULK = b"$%d\r\n%b\r\n"
_ARRAYS = [b"*%d\r\n" % count + _BULK * count for count in range(17)]
_NULLS = {2: b"$-1\r\n", 3: b"_\r\n"}
_NULL_ARRAYS = {2: b"*-1\r\n", 3: b"_\r\n"}
# The first lines of short bulk strings: they are looked up or compared, which is faster than
# parsing their numbers.
BULK_LINES = [b"$%d" % length for length in range(1025)]
_SMALL_NUMBERS = {b"%d" % number: number for number in range(1025)}
# Replaces CR and LF, which would end a line early.
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def read_integer(digits: bytes) -> int | None:
    """Read a signed 64-bit integer in its shortest form; None for other text."""
    number = _SMALL_NUMBERS.get(digits)
    if number is not None:
        return number
    number = int64.parse(digits)
    return number if number is not None and b"%d" % number == digits else None


# Requests


def request(*arguments: bytes) -> bytes:
    """Return a request: the name of a command, and its arguments."""
    return _bulks(arguments)


def requests(several: Iterable[Sequence[bytes]]) -> bytes:
    """Return several requests, each a command with its arguments."""
    return b"".join(map(_bulks, several))


def _bulks(items: Sequence[bytes]) -> bytes:
    """Return an array of bulk strings."""
    count = len(items)
    if count >= len(_ARRAYS):
        return b"\r\n".join((b"*%d" % count, *_lines(items), b""))
    fields: list[int | bytes] = []
    for item in items:
        fields += (len(item), item)
    return _ARRAYS[count] % tuple(fields)


def _lines(items: Sequence[bytes]) -> list[bytes]:
    """Return two lines for each bulk string: its length, and its content."""
    lines = [b""] * (2 * len(items))
    try:
        lines[::2] = [BULK_LINES[len(each)] for each in items]
    except IndexError:
        lines[::2] = [b"$%d" % len(each) for each in items]
    lines[1::2] = items
    return lines


# Replies


def simple(text: str) -> bytes:
    """Return a simple string; CR and LF in it become blanks."""
    return b"+%b\r\n" % text.encode("utf-8", "backslashreplace").translate(_ONE_LINE)


def error(message: str) -> bytes:
    """Return an error, whose first word is its code; CR and LF in it become blanks."""
    return b"-%b\r\n" % message.encode("utf-8", "backslashreplace").translate(_ONE_LINE)


def integer(number: int) -> bytes:
    """Return a signed 64-bit integer."""
    return b":%d\r\n" % number


def bulk(content: bytes) -> bytes:
    """Return a bulk string."""
    return b"$%d\r\n%b\r\n" % (len(content), content)


def split_bulks(bulks: bytes) -> list[bytes]:
    """Return the contents of consecutive bulk strings, which must be well formed."""
    contents = []
    while bulks:
        length, _, rest = bulks[1:].partition(b"\r\n")
        end = int(length)
        contents.append(rest[:end])
        bulks = rest[end + 2 :]
    return contents


def null(protocol: int) -> bytes:
    """Return a null bulk string."""
    return _NULLS[protocol]


def null_array(protocol: int) -> bytes:
    """Return a null array."""
    return _NULL_ARRAYS[protocol]


def value(content: bytes | None, protocol: int) -> bytes:
    """Return a bulk string, or a null one."""
    return _NULLS[protocol] if content is None else b"$%d\r\n%b\r\n" % (len(content), content)


def values(contents: Sequence[bytes | None], protocol: int) -> bytes:
    """Return an array of bulk strings and null ones."""
    if None not in contents:
        return _bulks(contents)  # type: ignore[arg-type]
    nothing = _NULLS[protocol]
    items = [nothing if each is None else _BULK % (len(each), each) for each in contents]
    return array(items)


def replies(contents: Sequence[bytes | None], protocol: int) -> bytes:
    """Return the replies to many GETs."""
    if None not in contents:
        return b"\r\n".join([*_lines(contents), b""])  # type: ignore[arg-type]
    return b"".join([value(each, protocol) for each in contents])


def array_in_slices(
    contents: Sequence[bytes | None], protocol: int
) -> Generator[None, None, bytes]:
    """Build an array of bulk strings and null ones in slices; return it."""
    nothing = _NULLS[protocol][:-2]
    lines = [b"*%d" % len(contents)]
    parts: list[bytes] = []
    for start in range(0, max(len(contents), 1), _ITEMS_AT_ONCE):
        some = contents[start : start + _ITEMS_AT_ONCE]
        if None not in some:
            lines += _lines(some)  # type: ignore[arg-type]
        else:
            for each in some:
                lines += (nothing,) if each is None else (b"$%d" % len(each), each)
        lines.append(b"")
        # Join in slices, too: the last step then only copies a few long parts.
        parts.append(b"\r\n".join(lines))
        lines = []
        yield
    return b"".join(parts)


def array(items: Sequence[bytes]) -> bytes:
    """Return an array of encoded replies."""
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def mapping(items: Sequence[bytes], protocol: int) -> bytes:
    """Return a map of encoded replies, keys and values in turn; in RESP2 it is an array of them."""
    if protocol == 2:
        return array(items)
    return b"%%%d\r\n%b" % (len(items) // 2, b"".join(items))


def set_of(items: Sequence[bytes], protocol: int) -> bytes:
    """Return a set of encoded replies; in RESP2 it is an array."""
    return b"%c%d\r\n%b" % (b"*" if protocol == 2 else b"~", len(items), b"".join(items))


def push(items: Sequence[bytes], protocol: int) -> bytes:
    """Return a push message of encoded replies; in RESP2 it is an array."""
    return b"%c%d\r\n%b" % (b"*" if protocol == 2 else b">", len(items), b"".join(items))


def double(number: float, protocol: int) -> bytes:
    """Return a floating-point number; in RESP2 it is a bulk string."""
    text = repr(number).removesuffix(".0").encode("ascii")
    return bulk(text) if protocol == 2 else b",%b\r\n" % text


def one_or_zero(truth: bool) -> bytes:
    """Return 1 or 0, which most commands reply to say whether they did something."""
    return ONE if truth else ZERO


def boolean(truth: bool, protocol: int) -> bytes:
    """Return a truth value; in RESP2 it is 1 or 0."""
    if protocol == 2:
        return one_or_zero(truth)
    return b"#t\r\n" if truth else b"#f\r\n"


def verbatim(text: str, protocol: int) -> bytes:
    """Return plain text for people to read; in RESP2 it is a bulk string."""
    content = text.encode("utf-8", "backslashreplace")
    return bulk(content) if protocol == 2 else b"=%d\r\ntxt:%b\r\n" % (len(content) + 4, content)


def dump(content: Any, protocol: int) -> bytes:
    """Return the reply for a Python value: None, bool, int, float, bytes, str, or a list, tuple,
    set or mapping of those.

    Raises TypeError for another type, and ValueError if the nesting is too deep.
    """
    parts: list[bytes] = []
    _dump(content, protocol, parts, _MAX_DEPTH)
    return b"".join(parts)


def _dump(content: Any, protocol: int, parts: list[bytes], depth: int) -> None:
    nested: Iterable[Any]
    if isinstance(content, Mapping):
        nested = [each for pair in content.items() for each in pair]
        head = b"*%d\r\n" % len(nested) if protocol == 2 else b"%%%d\r\n" % len(content)
    elif isinstance(content, (list, tuple)):
        nested, head = content, b"*%d\r\n" % len(content)
    elif isinstance(content, AbstractSet):
        nested = content
        head = b"%c%d\r\n" % (b"*" if protocol == 2 else b"~", len(content))
    else:
        parts.append(_dump_scalar(content, protocol))
        return
    if not depth:
        raise ValueError("the value is nested too deeply for a reply")
    parts.append(head)
    for each in nested:
        _dump(each, protocol, parts, depth - 1)


def _dump_scalar(content: Any, protocol: int) -> bytes:
    match content:
        case None:
            return _NULLS[protocol]
        case bool():
            return boolean(content, protocol)
        case int():
            return integer(content)
        case float():
            return double(content, protocol)
        case bytes():
            return bulk(content)
        case str():
            return bulk(content.encode("utf-8", "backslashreplace"))
        case _:
            raise TypeError(f"a reply cannot contain {type(content).__name__}")
