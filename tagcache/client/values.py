"""Objects to what is stored, and back: by a serde, and with a mark where a line needs one."""

from __future__ import annotations

from typing import Any

from tagcache import marks
from tagcache.errors import BadArgument, CannotDecode
from tagcache.interfaces import ISerde


class Values:
    """Objects to what a line holds, and back.

    What has more than ``compress_over`` bytes is compressed, if that makes it smaller; None: never.
    """

    __slots__ = ("_compress_over", "_serde")

    def __init__(self, serde: ISerde, compress_over: int | None = None) -> None:
        self._serde = serde
        self._compress_over = compress_over

    def dump(self, value: Any) -> bytes:
        """Return the object as a line holds it. Raises BadArgument."""
        try:
            data = self._serde.dump(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadArgument(f"serde={self._serde.name} cannot hold this: {error}") from error
        if self._compress_over is not None and len(data) > self._compress_over:
            compressed = marks.compressed(data)
            if len(compressed) < len(data):
                return compressed
        return marks.to_line(data)

    def load(self, content: bytes) -> Any:
        """Return the object. Raises CannotDecode."""
        try:
            return self._serde.load(marks.from_line(content))
        except ValueError as error:
            raise CannotDecode(
                f"serde={self._serde.name} did not write this: {content[:80]!r} ({error})"
            ) from error
