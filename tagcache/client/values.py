"""Convert objects to stored bytes and back: with a serde, and compressed if that saves space."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, TypeVar

from tagcache.client.typed_serde import ITypedSerde
from tagcache.errors import BadArgument, CannotDecode, ValueTooLarge
from tagcache.model.interfaces import ISerde
from tagcache.wire import values as wire

K = TypeVar("K")
_first_byte = itemgetter(0)

# The default maximum size of a decompressed value.
MAX_BYTES = 64 * 1024 * 1024


class Values:
    """Converts objects to stored bytes and back.

    Values of more than ``compress_over`` bytes (None: no values) are compressed if that makes them
    smaller. Values of more than ``max_bytes`` are neither compressed nor decompressed.

    Attributes:
        knows_types: whether the serde can load values as an expected type.
    """

    __slots__ = ("_compress_over", "_load", "_max_bytes", "_serde", "knows_types")

    def __init__(
        self, serde: ISerde, compress_over: int | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        self._serde = serde
        self.knows_types = ITypedSerde.providedBy(serde)
        self._load = serde.load
        self._compress_over = compress_over
        self._max_bytes = max_bytes

    def typed(self, expected: Any) -> Values:
        """Return the Values of one type (an annotation). Raises BadArgument."""
        if not self.knows_types:
            raise BadArgument(f"serde={self._serde.name} knows no types: use serde=msgspec")
        serde = ITypedSerde(self._serde).typed(expected)
        return Values(serde, self._compress_over, self._max_bytes)

    def dump(self, value: Any) -> bytes:
        """Return the object as bytes to store. Raises BadArgument."""
        try:
            data = self._serde.dump(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadArgument(f"serde={self._serde.name} cannot hold this: {error}") from error
        over = self._compress_over
        if over is not None and over < len(data) <= self._max_bytes:
            compressed = wire.compressed(data)
            if len(compressed) < len(data):
                return compressed
        return wire.stored(data)

    def load_all(self, keys: Sequence[K], contents: Sequence[bytes | None]) -> dict[K, Any]:
        """Return the objects of stored bytes by their keys, without those that are None.

        Raises CannotDecode for the first that cannot be read.
        """
        try:
            # None and an empty value have no first byte.
            if wire.FIRST_BYTES.isdisjoint(map(_first_byte, contents)):  # type: ignore[arg-type]
                loaded = map(self._load, contents)  # type: ignore[arg-type]
                return dict(zip(keys, loaded, strict=True))
        except (IndexError, TypeError, ValueError):
            pass
        pairs = zip(keys, contents, strict=True)
        there = {key: content for key, content in pairs if content is not None}
        if 0 < len(there) < len(keys):
            return self.load_all(list(there), list(there.values()))
        # The error of ``load`` names the value.
        return {key: self.load(content) for key, content in there.items()}

    def load(self, content: bytes) -> Any:
        """Return the object of stored bytes. Raises CannotDecode."""
        try:
            if content.startswith(wire.HEADERS):
                content = wire.original(content, self._max_bytes)
            return self._load(content)
        except ValueTooLarge:
            raise CannotDecode(
                f"the decompressed value has more than max_value_bytes={self._max_bytes} bytes"
            ) from None
        except ValueError as error:
            raise CannotDecode(
                f"serde={self._serde.name} did not write this: {content[:80]!r} ({error})"
            ) from error
