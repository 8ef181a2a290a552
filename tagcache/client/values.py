"""Values on a line: whole, whatever bytes they hold.

What the line protocol can carry is sent as it is, so that any client can read it. The rest gets a
mark in front and its line feeds escaped; see "Values that a line can not hold" in
docs/protocol.md.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

from tagcache.errors import BadArgument, CannotDecode
from tagcache.interfaces import ISerde

# What a compressed value may have when it is decompressed, unless a client was told otherwise.
MAX_BYTES = 64 * 1024 * 1024
_ESCAPED = b"\\:"
_COMPRESSED = b"\\z:"
_MARKS = (_ESCAPED, _COMPRESSED)
_WORDS = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
_SPECIAL = re.compile(rb"[\\\n\r]")
_BYTES = {word: byte for byte, word in _WORDS.items()}
_ESCAPE = re.compile(rb"\\(?:[\\nr]|(.|\Z))", re.DOTALL)


def escape(data: bytes) -> bytes:
    """Return these bytes without LF and CR."""
    return _SPECIAL.sub(lambda match: _WORDS[match[0]], data)


def unescape(data: bytes) -> bytes:
    """Return what ``escape`` was given. Raises ValueError for what it never returns."""
    return _ESCAPE.sub(_byte, data) if b"\\" in data else data


def _byte(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        raise ValueError("a backslash stands before what it does not escape")
    return _BYTES[match[0]]


def to_line(data: bytes) -> bytes:
    """Return ``data`` as a line can hold it."""
    if b"\n" in data or data.endswith(b"\r") or data.startswith(_MARKS):
        return _ESCAPED + escape(data)
    return data


def from_line(content: bytes, max_bytes: int = MAX_BYTES) -> bytes:
    """Return what ``to_line`` or a compressing client was given. Raises ValueError.

    What has more than ``max_bytes`` when it is decompressed is given up there.
    """
    if not content.startswith(_MARKS):
        return content
    if content.startswith(_ESCAPED):
        return unescape(content[len(_ESCAPED) :])
    reading = zlib.decompressobj()
    try:
        data = reading.decompress(unescape(content[len(_COMPRESSED) :]), max_bytes)
        # The end of the stream may be all that is left.
        more = b"" if reading.eof else reading.decompress(reading.unconsumed_tail, 1)
    except zlib.error as error:
        raise ValueError(f"what is marked as compressed is not: {error}") from None
    if more:
        raise ValueError(f"decompressed it has more than max_value_bytes={max_bytes} bytes")
    if not reading.eof:
        raise ValueError("what is marked as compressed is cut off")
    return data


class Values:
    """Objects to what a line holds, and back.

    What has more than ``compress_over`` bytes is compressed, if that makes it smaller; None: never.
    What has more than ``max_bytes`` is neither compressed nor decompressed.
    """

    __slots__ = ("_compress_over", "_max_bytes", "_serde")

    def __init__(
        self, serde: ISerde, compress_over: int | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        self._serde = serde
        self._compress_over = compress_over
        self._max_bytes = max_bytes

    def dump(self, value: Any) -> bytes:
        """Return the object as a line holds it. Raises BadArgument."""
        try:
            data = self._serde.dump(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadArgument(f"serde={self._serde.name} can not hold this: {error}") from error
        over = self._compress_over
        if over is not None and over < len(data) <= self._max_bytes:
            compressed = _COMPRESSED + escape(zlib.compress(data))
            if len(compressed) < len(data):
                return compressed
        return to_line(data)

    def load(self, content: bytes) -> Any:
        """Return the object. Raises CannotDecode."""
        try:
            return self._serde.load(from_line(content, self._max_bytes))
        except ValueError as error:
            raise CannotDecode(
                f"serde={self._serde.name} did not write this: {content[:80]!r} ({error})"
            ) from error
