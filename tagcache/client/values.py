"""Objects to stored bytes and back: by a serde, and with a mark where a line needs one."""

from __future__ import annotations

from typing import Any

from tagcache.errors import BadArgument, CannotDecode, ValueTooLarge
from tagcache.model.interfaces import ISerde
from tagcache.wire import marks

# The default maximum size of a decompressed value.
MAX_BYTES = 64 * 1024 * 1024


class Values:
    """Objects to the bytes that a line can hold, and back.

    Values of more than ``compress_over`` bytes are compressed if that makes them smaller; None:
    never. Values of more than ``max_bytes`` are neither compressed nor decompressed.
    """

    __slots__ = ("_compress_over", "_max_bytes", "_serde")

    def __init__(
        self, serde: ISerde, compress_over: int | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        self._serde = serde
        self._compress_over = compress_over
        self._max_bytes = max_bytes

    def dump(self, value: Any) -> bytes:
        """Return the object as bytes that a line can hold. Raises BadArgument."""
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
        """Return the object of stored bytes. Raises CannotDecode."""
        try:
            return self._serde.load(marks.from_line(content, self._max_bytes))
        except ValueTooLarge:
            raise CannotDecode(
                f"the decompressed value has more than max_value_bytes={self._max_bytes} bytes"
            ) from None
        except ValueError as error:
            raise CannotDecode(
                f"serde={self._serde.name} did not write this: {content[:80]!r} ({error})"
            ) from error
