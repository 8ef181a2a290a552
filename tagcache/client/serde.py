"""How objects become bytes and back; each can be chosen by name."""

from __future__ import annotations

import pickle
from importlib import import_module
from types import ModuleType
from typing import Any

import orjson
from zope.interface import implementer

from tagcache.errors import BadArgument
from tagcache.interfaces import ISerde


@implementer(ISerde)
class BytesSerde:
    """Bytes as they are."""

    name = "bytes"

    def dump(self, value: Any) -> bytes:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise TypeError(f"bytes are expected, not {type(value).__name__}")

    def load(self, data: bytes) -> bytes:
        return data


@implementer(ISerde)
class TextSerde:
    """Text (str) as UTF-8."""

    name = "text"

    def dump(self, value: Any) -> bytes:
        if isinstance(value, str):
            return value.encode()
        raise TypeError(f"a str is expected, not {type(value).__name__}")

    def load(self, data: bytes) -> str:
        return data.decode()


@implementer(ISerde)
class JsonSerde:
    """What JSON can hold: None, bool, int (64 bits), float, str, list, dict with str keys.

    Dates and times are written as RFC 3339 strings, and stay strings.
    """

    name = "json"

    def dump(self, value: Any) -> bytes:
        return orjson.dumps(value)

    def load(self, data: bytes) -> Any:
        return orjson.loads(data)


@implementer(ISerde)
class MsgpackSerde:
    """What MessagePack can hold: as JSON, and bytes. Needs ``tagcache-server[msgpack]``."""

    name = "msgpack"

    def __init__(self) -> None:
        try:
            self._msgpack: ModuleType = import_module("msgpack")
        except ImportError:
            raise BadArgument(
                "serde=msgpack needs: pip install 'tagcache-server[msgpack]'"
            ) from None

    def dump(self, value: Any) -> bytes:
        packed: bytes = self._msgpack.packb(value)
        return packed

    def load(self, data: bytes) -> Any:
        return self._msgpack.unpackb(data, strict_map_key=False)


@implementer(ISerde)
class PickleSerde:
    """Any Python object. Who can write to the cache can then run code in who reads it."""

    name = "pickle"

    def dump(self, value: Any) -> bytes:
        try:
            return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            # What can not be pickled says so in many ways.
            raise TypeError(str(error)) from error

    def load(self, data: bytes) -> Any:
        try:
            return pickle.loads(data)  # noqa: S301 - who chose this serde by name was told
        except Exception as error:
            # It may be anything: data that is no pickle can name anything.
            raise ValueError(f"this is no pickle: {error}") from error


_SERDES = (BytesSerde, TextSerde, JsonSerde, MsgpackSerde, PickleSerde)


def named(name: str) -> ISerde:
    """Return the serde of this name. Raises BadArgument."""
    for serde in _SERDES:
        if serde.name == name:
            return serde()
    known = ", ".join(serde.name for serde in _SERDES)
    raise BadArgument(f"serde={name} is not known; there are {known}")
