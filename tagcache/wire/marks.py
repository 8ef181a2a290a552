"""Values that a line cannot hold, as they are stored: with a mark in front, and escaped. No I/O.

The line protocol carries a value as it is stored. The Python clients and the HTTP door put the
mark in front where a value needs one, and take it off again; see "Values that a line cannot hold"
in docs/protocol.md.
"""

from __future__ import annotations

import zlib

from tagcache.errors import ValueTooLarge
from tagcache.model.stored_values import COMPRESSED, ESCAPED

_MARKS = (ESCAPED, COMPRESSED)
_SWAPPED = bytes.maketrans(b"\\\n", b"\n\\")


def escape(data: bytes) -> bytes:
    """Return these bytes without LF and CR."""
    return data.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def unescape(data: bytes) -> bytes:
    """Return what ``escape`` was given. Raises ValueError for what it never returns."""
    if b"\n" in data:
        raise ValueError("a line feed is not escaped")
    if b"\\" not in data:
        return data
    # A line feed stands for each escaped backslash until the others are read. Everything is done
    # by whole passes over the data, which take milliseconds for a megabyte: the reactor waits.
    rest = data.replace(b"\\\\", b"\n")
    others = rest.count(b"\\") - rest.count(b"\\n")
    if others:
        if rest.count(b"\\r") != others:
            raise ValueError("a backslash stands before what it does not escape")
        rest = rest.replace(b"\\r", b"\r")
    return rest.replace(b"\\n", b"\\").translate(_SWAPPED)


def to_line(data: bytes) -> bytes:
    """Return ``data`` as a line can hold it."""
    if b"\n" in data or data.endswith(b"\r") or data.startswith(_MARKS):
        return ESCAPED + escape(data)
    return data


def compressed(data: bytes) -> bytes:
    """Return ``data`` compressed, as a line can hold it."""
    return COMPRESSED + escape(zlib.compress(data))


def from_line(content: bytes, most: int | None = None) -> bytes:
    """Return what ``to_line`` or ``compressed`` was given.

    Raises ValueError if ``content`` has a mark and they did not write it, ValueTooLarge if
    decompressing it gives more than ``most`` bytes (None: any number).
    """
    if not content.startswith(_MARKS):
        return content
    if content.startswith(ESCAPED):
        return unescape(content[len(ESCAPED) :])
    inflater = zlib.decompressobj()
    try:
        # Of 0 bytes at most, zlib makes any number.
        data = inflater.decompress(
            unescape(content[len(COMPRESSED) :]), 0 if most is None else most + 1
        )
    except zlib.error as error:
        raise ValueError(f"what is marked as compressed is not: {error}") from None
    if most is not None and len(data) > most:
        raise ValueTooLarge(f"the value has more than {most} bytes when it is decompressed")
    if not inflater.eof:
        raise ValueError("what is marked as compressed is cut short")
    return data


def plain(content: bytes, most: int) -> bytes:
    """Return the value that is stored as ``content``.

    That is ``content`` itself if it has no mark, or a mark that is followed by what no client
    writes. Raises ValueTooLarge as ``from_line`` does.
    """
    try:
        return from_line(content, most)
    except ValueError:
        return content
