"""Objects to what is stored, and back: by a serde, and with a mark where a line needs one."""

from __future__ import annotations

from typing import Any

from tagcache.errors import BadArgument, CannotDecode, ValueTooLarge
from tagcache.model.interfaces import ISerde
from tagcache.wire import marks

# What a compressed value may have when it is decompressed, unless a client was told otherwise.
MAX_BYTES = 64 * 1024 * 1024


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
            raise BadArgument(f"serde={self._serde.name} cannot hold this: {error}") from error
        over = self._compress_over
        if over is not None and over < len(data) <= self._max_bytes:
            compressed = marks.compressed(data)
            if len(compressed) < len(data):
                return compressed
        return marks.to_line(data)

    def load(self, content: bytes) -> Any:
        """Return the object. Raises CannotDecode."""
        try:
            return self._serde.load(marks.from_line(content, self._max_bytes))
        except ValueTooLarge:
            raise CannotDecode(
                f"decompressed it has more than max_value_bytes={self._max_bytes} bytes"
            ) from None
        except ValueError as error:
            raise CannotDecode(
                f"serde={self._serde.name} did not write this: {content[:80]!r} ({error})"
            ) from error
