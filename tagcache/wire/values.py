"""The stored form of values: themselves, or compressed after a header. No I/O.

The Python clients, and the HTTP server with the command line and the dashboard behind it, store a
value as it is, unless it is compressed or itself begins like a header; see "Values" in
docs/protocol.md.
"""

from __future__ import annotations

import zlib

from tagcache.errors import ValueTooLarge
from tagcache.model.stored_values import (
    COMPRESSED,
    ESCAPED,
    ESCAPED_COMPRESSED,
    HEADER_BYTE,
    RAW,
    TIMED,
    TIMING,
)

_OLD_MARKS = (ESCAPED, ESCAPED_COMPRESSED)
# The first bytes of values that are not stored as they are.
HEADERS = (HEADER_BYTE, *_OLD_MARKS)
FIRST_BYTES = frozenset(header[0] for header in HEADERS)
_SWAPPED = bytes.maketrans(b"\\\n", b"\n\\")


def stored(data: bytes) -> bytes:
    """Return ``data`` as it is stored: unchanged, unless it begins like a header."""
    return RAW + data if data.startswith(HEADERS) else data


def compressed(data: bytes) -> bytes:
    """Return ``data`` compressed."""
    return COMPRESSED + zlib.compress(data)


def timed(content: bytes, expires: float, cost: float) -> bytes:
    """Put a header with the expiry and the cost (seconds to compute) before a stored value.

    ``expires`` is in seconds of the wall clock.
    """
    return TIMED + TIMING.pack(expires, cost) + content


def timing(content: bytes) -> tuple[float, float] | None:
    """Return expiry and cost from the header of ``timed``, or None if there is none."""
    if not content.startswith(TIMED) or len(content) < len(TIMED) + TIMING.size:
        return None
    expires, cost = TIMING.unpack_from(content, len(TIMED))
    return expires, cost


def original(content: bytes, most: int | None = None) -> bytes:
    """Return the bytes before ``stored`` or ``compressed``, and ``timed``.

    Also reads the marks and escapes of earlier versions. Raises ValueError if ``content`` has a
    header or a mark, but the rest was not written after one; ValueTooLarge if it has more than
    ``most`` bytes when decompressed (None: no limit).
    """
    if content.startswith(TIMED):
        content = content[len(TIMED) + TIMING.size :]
        if content.startswith(TIMED):
            raise ValueError("the value has two headers with times")
    if not content.startswith(HEADERS):
        return content
    if content.startswith(RAW):
        return content[len(RAW) :]
    if content.startswith(COMPRESSED):
        return _decompress(content[len(COMPRESSED) :], most)
    if content.startswith(ESCAPED):
        return _unescape(content[len(ESCAPED) :])
    if content.startswith(ESCAPED_COMPRESSED):
        return _decompress(_unescape(content[len(ESCAPED_COMPRESSED) :]), most)
    return content


def plain(content: bytes, most: int) -> bytes:
    """Return the value that is stored as ``content``.

    This is ``content`` itself if it has no header, or was not written by one of our clients. Raises
    ValueTooLarge like ``original``.
    """
    try:
        return original(content, most)
    except ValueError:
        return content


def _decompress(data: bytes, most: int | None) -> bytes:
    inflater = zlib.decompressobj()
    try:
        # For zlib, a limit of 0 means none.
        found = inflater.decompress(data, 0 if most is None else most + 1)
    except zlib.error as error:
        raise ValueError(f"the value is marked as compressed, but is not: {error}") from None
    if most is not None and len(found) > most:
        raise ValueTooLarge(f"the decompressed value has more than {most} bytes")
    if not inflater.eof:
        raise ValueError("the compressed value is truncated")
    return found


def _unescape(data: bytes) -> bytes:
    """Return the bytes before LF, CR and backslashes were escaped. Raises ValueError."""
    if b"\n" in data:
        raise ValueError("a line feed is not escaped")
    if b"\\" not in data:
        return data
    # A line feed stands for each escaped backslash until the other escapes are read. Each step is a
    # pass over all the data in C: a megabyte takes milliseconds, during which the reactor waits.
    rest = data.replace(b"\\\\", b"\n")
    others = rest.count(b"\\") - rest.count(b"\\n")
    if others:
        if rest.count(b"\\r") != others:
            raise ValueError("a backslash escapes neither a backslash, n nor r")
        rest = rest.replace(b"\\r", b"\r")
    return rest.replace(b"\\n", b"\\").translate(_SWAPPED)
