"""The stored form of values that a line cannot hold: escaped, after a mark. No I/O.

The line protocol transfers values as they are stored. The Python clients and the HTTP server add
the mark where a value needs one, and remove it again; see "Values that a line cannot hold" in
docs/protocol.md.
"""

from __future__ import annotations

import zlib

from tagcache.errors import ValueTooLarge
from tagcache.model.stored_values import COMPRESSED, ESCAPED

_MARKS = (ESCAPED, COMPRESSED)
_SWAPPED = bytes.maketrans(b"\\\n", b"\n\\")


def escape(data: bytes) -> bytes:
    """Return ``data`` with LF, CR and backslashes escaped."""
    return data.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def unescape(data: bytes) -> bytes:
    """Return the bytes before ``escape``. Raises ValueError for what ``escape`` never returns."""
    if b"\n" in data:
        raise ValueError("a line feed is not escaped")
    if b"\\" not in data:
        return data
    # A line feed replaces each escaped backslash until the other escapes are read. Each step is a
    # pass over all the data in C: a megabyte takes milliseconds, in which the reactor waits.
    rest = data.replace(b"\\\\", b"\n")
    others = rest.count(b"\\") - rest.count(b"\\n")
    if others:
        if rest.count(b"\\r") != others:
            raise ValueError("a backslash escapes neither a backslash, n nor r")
        rest = rest.replace(b"\\r", b"\r")
    return rest.replace(b"\\n", b"\\").translate(_SWAPPED)


def to_line(data: bytes) -> bytes:
    """Return ``data`` in a form that a line can hold."""
    if b"\n" in data or data.endswith(b"\r") or data.startswith(_MARKS):
        return ESCAPED + escape(data)
    return data


def compressed(data: bytes) -> bytes:
    """Return ``data`` compressed, in a form that a line can hold."""
    return COMPRESSED + escape(zlib.compress(data))


def from_line(content: bytes, most: int | None = None) -> bytes:
    """Return the bytes before ``to_line`` or ``compressed``.

    Raises ValueError if ``content`` has a mark, but they did not write it; ValueTooLarge if it
    has more than ``most`` bytes when decompressed (None: no limit).
    """
    if not content.startswith(_MARKS):
        return content
    if content.startswith(ESCAPED):
        return unescape(content[len(ESCAPED) :])
    inflater = zlib.decompressobj()
    try:
        # For zlib, a limit of 0 means none.
        data = inflater.decompress(
            unescape(content[len(COMPRESSED) :]), 0 if most is None else most + 1
        )
    except zlib.error as error:
        raise ValueError(f"the value is marked as compressed, but is not: {error}") from None
    if most is not None and len(data) > most:
        raise ValueTooLarge(f"the decompressed value has more than {most} bytes")
    if not inflater.eof:
        raise ValueError("the compressed value is truncated")
    return data


def plain(content: bytes, most: int) -> bytes:
    """Return the value that is stored as ``content``.

    It is ``content`` itself if that has no mark, or was not written by a client. Raises
    ValueTooLarge as ``from_line`` does.
    """
    try:
        return from_line(content, most)
    except ValueError:
        return content
