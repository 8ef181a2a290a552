"""A serde that loads values as the expected type: ``serde=msgspec``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from zope.interface import implementer

from tagcache.errors import BadArgument
from tagcache.model.interfaces import ISerde


class ITypedSerde(ISerde):
    """A serde that can load values as an expected type."""

    def typed(expected: Any) -> ISerde:
        """Return the serde of values of a type (an annotation). Raises BadArgument."""


@implementer(ITypedSerde)
class MsgspecSerde:
    """Values of an annotated type, as MessagePack: dataclasses, attrs, TypedDict, datetime, UUID,
    Decimal, Enum, tuples, sets and more; and pydantic's models, by their class.

    Without a type, such values are loaded as dicts, lists and text. Needs
    ``tagcache-server[msgspec]``. Raises BadArgument.

    >>> import uuid
    >>> serde = MsgspecSerde().typed(tuple[uuid.UUID, set[int]])
    >>> value = (uuid.UUID(int=7), {1, 2})
    >>> serde.load(serde.dump(value)) == value
    True
    """

    name = "msgspec"

    def __init__(self, expected: Any = Any) -> None:
        try:
            msgpack: Any = import_module("msgspec.msgpack")
        except ImportError:
            raise BadArgument(
                "serde=msgspec needs: pip install 'tagcache-server[msgspec]'"
            ) from None
        self._expected = expected
        self._encode = msgpack.Encoder(enc_hook=_text_of_model).encode
        try:
            self._decode = msgpack.Decoder(expected, dec_hook=_model_of_text).decode
        except TypeError as error:
            raise BadArgument(f"serde=msgspec does not support {expected!r}: {error}") from None

    def typed(self, expected: Any) -> MsgspecSerde:
        """Return the serde of values of a type. Raises BadArgument."""
        return MsgspecSerde(expected)

    def dump(self, value: Any) -> bytes:
        data: bytes = self._encode(value)
        if self._expected is not Any:
            loaded = self.load(data)
            if type(loaded) is not type(value):
                raise TypeError(
                    f"{type(value).__qualname__} would come back as {type(loaded).__qualname__}"
                )
        return data

    def load(self, data: bytes) -> Any:
        try:
            return self._decode(data)
        except (TypeError, ValueError, OverflowError) as error:
            # The __post_init__ of a class may raise any exception, too.
            raise ValueError(f"this is not a {self._expected!r}: {error}") from error


def _text_of_model(value: Any) -> str:
    """Return a pydantic model, which msgspec does not know, as JSON text."""
    if hasattr(value, "model_dump_json"):
        text: str = value.model_dump_json(by_alias=False, round_trip=True)
        return text
    raise TypeError(f"{type(value).__qualname__} is not a type of msgspec")


def _model_of_text(expected: Any, value: Any) -> Any:
    if hasattr(expected, "model_validate_json"):
        return expected.model_validate_json(value, by_alias=False, by_name=True)
    raise TypeError(f"{expected!r} is not a type of msgspec")
