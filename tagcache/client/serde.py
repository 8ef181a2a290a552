"""Serdes convert objects to bytes and back; each can be chosen by name."""

from __future__ import annotations

import hmac
import marshal
import math
import pickle
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import orjson
from zope.interface import implementer

from tagcache.client.typed_serde import MsgspecSerde
from tagcache.errors import BadArgument
from tagcache.model.interfaces import ISerde


@implementer(ISerde)
class BytesSerde:
    """Bytes, unchanged; a bytearray or memoryview comes back as bytes. Others raise TypeError.

    >>> BytesSerde().load(BytesSerde().dump(b"a"))
    b'a'
    """

    name = "bytes"

    def dump(self, value: Any) -> bytes:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise TypeError(f"expected bytes, not {type(value).__name__}")

    # Returns the bytes themselves, without calling a Python function.
    load = staticmethod(bytes.__bytes__)


@implementer(ISerde)
class TextSerde:
    """Text (str) as UTF-8. Anything else raises TypeError.

    >>> TextSerde().load(TextSerde().dump("a"))
    'a'
    """

    name = "text"

    def dump(self, value: Any) -> bytes:
        if isinstance(value, str):
            return value.encode()
        raise TypeError(f"expected a str, not {type(value).__name__}")

    load = staticmethod(bytes.decode)


_PLAIN = frozenset((str, int, bool, type(None)))
_ORJSON_OPTIONS = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
# Matches how marshal writes a float that is not finite: a type code and the eight bytes of a
# double. Other data may match, too.
_PERHAPS_NOT_FINITE = re.compile(rb"[g\xe7].{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)


@implementer(ISerde)
class JsonSerde:
    """The types of JSON: None, bool, int (64 bits), finite float, str, list, dict with str keys.

    A tuple is written as a list, and comes back as one. Any other type raises TypeError, even a
    subclass, because it would come back as another type.

    >>> JsonSerde().load(JsonSerde().dump({"a": (1, None)}))
    {'a': [1, None]}
    """

    name = "json"

    def dump(self, value: Any) -> bytes:
        return _exact(_json, value)

    load = staticmethod(orjson.loads)


def _json(value: Any) -> bytes:
    """Return a value as JSON. Raises TypeError, ValueError for one that would not come back."""
    data = orjson.dumps(value, option=_ORJSON_OPTIONS)
    if type(value) in _PLAIN:
        return data
    # orjson cannot be told to reject a UUID or an Enum, so marshal checks the types: it accepts
    # only built-in ones, and walks through a value in C, as orjson does.
    written = marshal.dumps(value)
    if b"null" in data and _PERHAPS_NOT_FINITE.search(written):
        for part in _parts(value):
            if type(part) is float and not math.isfinite(part):
                raise ValueError("JSON has only finite numbers")
    return data


@implementer(ISerde)
class MsgpackSerde:
    """The types of MessagePack: as JSON, and bytes, any float, and keys of these types.

    A tuple is written as a list, and comes back as one, a bytearray as bytes; neither can be a
    key. Any other type raises TypeError. Needs ``tagcache-server[msgpack]``. Raises BadArgument.

    >>> serde = MsgpackSerde()
    >>> serde.load(serde.dump({7: (b"a", float("inf"))}))
    {7: [b'a', inf]}
    """

    name = "msgpack"

    def __init__(self) -> None:
        try:
            self._msgpack: ModuleType = import_module("msgpack")
        except ImportError:
            raise BadArgument(
                "serde=msgpack needs: pip install 'tagcache-server[msgpack]'"
            ) from None

    def dump(self, value: Any) -> bytes:
        return _exact(self.packed, value)

    def load(self, data: bytes) -> Any:
        return self._msgpack.unpackb(data, strict_map_key=False)

    def packed(self, value: Any) -> bytes:
        """Return a value as MessagePack. Raises TypeError, ValueError, OverflowError."""
        pack = self._msgpack.packb
        try:
            packed: bytes = pack(value, strict_types=True)
        except TypeError:
            packed = pack(value, strict_types=True, default=_list_of_tuple)
            # A tuple has become a list. If it is a key, reading raises TypeError.
            self.load(packed)
        return packed


def _list_of_tuple(value: Any) -> list[Any]:
    if type(value) is tuple:
        return list(value)
    raise TypeError(f"MessagePack has no {_type_name(value)}")


@implementer(ISerde)
class PickleSerde:
    """Any Python object. Whoever can write to the cache can run code in its readers.

    What cannot be pickled raises TypeError.

    >>> PickleSerde().load(PickleSerde().dump({1, 2}))
    {1, 2}
    """

    name = "pickle"

    def dump(self, value: Any) -> bytes:
        try:
            return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            # Objects that cannot be pickled raise many kinds of exceptions.
            raise TypeError(str(error)) from error

    def load(self, data: bytes) -> Any:
        try:
            return pickle.loads(data)  # noqa: S301 - documented, and chosen by name
        except Exception as error:
            # Data that is not a pickle may raise any exception.
            raise ValueError(f"this is not a pickle: {error}") from error


# Bytes of the signature before a signed pickle, and of the shortest secret.
_CODE_BYTES = 32
_SHORTEST_KEY = 16


@implementer(ISerde)
class SignedPickleSerde(PickleSerde):
    """Any Python object, after a signature (HMAC-SHA256) that is checked before it is read.

    So only those who know the ``secret`` (str, at least 16 bytes as UTF-8) can run code in
    readers. Anyone who can write to the cache can still replace one signed value by another.
    Raises BadArgument.

    >>> serde = SignedPickleSerde("a secret of the application")
    >>> serde.load(serde.dump({1, 2}))
    {1, 2}
    """

    name = "signed_pickle"

    def __init__(self, secret: str | None) -> None:
        self._secret = (secret or "").encode()
        if len(self._secret) < _SHORTEST_KEY:
            raise BadArgument(
                f"serde=signed_pickle needs serde_secret of at least {_SHORTEST_KEY} bytes"
            )

    def dump(self, value: Any) -> bytes:
        data = super().dump(value)
        return self._code(data) + data

    def load(self, data: bytes) -> Any:
        code, data = data[:_CODE_BYTES], data[_CODE_BYTES:]
        if not hmac.compare_digest(code, self._code(data)):
            raise ValueError("its signature is wrong")
        return super().load(data)

    def _code(self, data: bytes) -> bytes:
        return hmac.digest(self._secret, data, "sha256")


_SERDES = (BytesSerde, TextSerde, JsonSerde, MsgpackSerde, MsgspecSerde, PickleSerde)


def _exact(dump: Callable[[Any], bytes], value: Any) -> bytes:
    """Return ``dump(value)``, or raise a TypeError that names the part that ``dump`` rejects."""
    try:
        return dump(value)
    except (TypeError, ValueError, OverflowError) as error:
        for part in _parts(value):
            try:
                dump(part)
            except (TypeError, ValueError, OverflowError):
                raise TypeError(f"{_description(part)}{_advice(part)}") from error
        raise


def _parts(value: Any) -> Iterator[Any]:
    """Yield everything in lists, tuples and dicts; each dict key as a dict with only this key."""
    left = [value]
    seen: set[int] = set()
    while left:
        part = left.pop()
        kind = type(part)
        if kind not in (list, tuple, dict):
            yield part
        elif id(part) not in seen:
            seen.add(id(part))
            if kind is dict:
                yield from ({key: None} for key in part if type(key) is not str)
                part = part.values()
            left.extend(part)


def _description(part: Any) -> str:
    if type(part) is dict:
        return f"a dict key of type {_type_name(next(iter(part)))}"
    if type(part) is float:
        return str(part)
    if type(part) is int:
        return "an int of more than 64 bits"
    return "a str that is not valid Unicode" if type(part) is str else _type_name(part)


def _type_name(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def _advice(part: Any) -> str:
    """Return a hint that names a serde for what another one rejects."""
    if type(part) not in (bytearray, memoryview):  # msgpack would return bytes
        try:
            MsgpackSerde().packed(part)
        except (TypeError, ValueError, OverflowError):
            pass  # rejected, or not installed
        else:
            return ", which serde=msgpack can hold"
    try:
        PickleSerde().dump(part)
    except TypeError:
        return ""
    return ", which serde=pickle can hold"


def named(name: str, secret: str | None = None) -> ISerde:
    """Return the serde of this name; ``secret`` is for one that signs. Raises BadArgument."""
    if name == SignedPickleSerde.name:
        return SignedPickleSerde(secret)
    for serde in _SERDES:
        if serde.name == name:
            return serde()
    known = ", ".join(serde.name for serde in (*_SERDES, SignedPickleSerde))
    raise BadArgument(f"serde={name} is not known; the known ones are {known}")
