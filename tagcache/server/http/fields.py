"""The fields of requests, declared once for the checks and the API description."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from tagcache.model import int64
from tagcache.model.int64 import UINT64_MAX
from tagcache.server.http import jsontext

_BACKSLASH = b"\\"[0]


class InvalidField(ValueError):
    """A field is missing or of the wrong type; ``str(error)`` says which and why."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value: its name in errors, the check, the JSON Schema."""

    name: str
    accepts: Callable[[Any], bool]
    schema: Mapping[str, Any]


def _integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


TEXT = Kind("a string", lambda value: type(value) is str, {"type": "string"})
TEXTS = Kind(
    "a list of strings",
    lambda value: type(value) is list and all(type(item) is str for item in value),
    {"type": "array", "items": {"type": "string"}},
)
KEY = Kind(
    "a string that is not empty",
    lambda value: type(value) is str and value != "",
    {"type": "string", "minLength": 1},
)
KEYS = Kind(
    "a list of strings that are not empty",
    lambda value: type(value) is list and all(type(item) is str and item for item in value),
    {"type": "array", "items": {"type": "string", "minLength": 1}},
)
ANYTHING = Kind("any JSON value", lambda value: True, {})
UNSIGNED = Kind(
    "an integer from 0 to 2^64-1",
    _integer(0, UINT64_MAX),
    {"type": "integer", "minimum": 0, "maximum": UINT64_MAX},
)
SIGNED = Kind(
    "a signed 64-bit integer",
    _integer(int64.MIN, int64.MAX),
    {"type": "integer", "minimum": int64.MIN, "maximum": int64.MAX},
)
FLAG = Kind("true or false", lambda value: type(value) is bool, {"type": "boolean"})
TOKEN = Kind(
    "a string of up to 19 digits",
    lambda value: type(value) is str and value.isascii() and value.isdigit() and len(value) < 20,
    {"type": "string", "pattern": "^[0-9]{1,19}$"},
)


def one_of(*words: str) -> Kind:
    """Return the Kind of a value that must be one of these words."""
    return Kind(
        " or ".join(f'"{word}"' for word in words),
        lambda value: value in words,
        {"type": "string", "enum": list(words)},
    )


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a JSON body, or one parameter of a query.

    A null in an optional field means that it is absent.
    """

    name: str
    kind: Kind
    about: str
    required: bool = False
    # The name as JSON text.
    quoted: bytes = dataclass_field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quoted", b'"%b"' % self.name.encode())

    @property
    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        schema = dict(self.kind.schema)
        if not self.required and "type" in schema:
            schema["type"] = [schema["type"], "null"]
            if "enum" in schema:
                schema["enum"] = [*schema["enum"], None]
        return {**schema, "description": self.about}


KEY_FIELD = Field("key", KEY, "the key", required=True)
KEYS_FIELD = Field("keys", KEYS, "the keys", required=True)


def check_body(body: Any, fields: Sequence[Field]) -> dict[str, Any]:
    """Return the declared fields of a JSON object that are present and not null.

    Unknown fields are ignored. Raises InvalidField.
    """
    if type(body) is not dict:
        raise InvalidField("the body must be a JSON object")
    found = {}
    for field in fields:
        value = body.get(field.name)
        if value is None and not field.required:
            continue
        if field.name not in body:
            raise InvalidField(f"{field.name} is missing")
        if not field.kind.accepts(value):
            raise InvalidField(f"{field.name} must be {field.kind.name}")
        found[field.name] = value
    return found


def read_body(text: bytes, fields: Sequence[Field]) -> Generator[None, None, dict[str, Any]]:
    """Work that returns the fields of a JSON body. Raises jsontext.NotJson, InvalidField."""
    body = check_body((yield from jsontext.read(text)), fields)
    # If a name is repeated, the parser keeps the last. The exact check is slow and rarely needed.
    suspicious = _BACKSLASH in text and b"\\u" in text
    for field in fields:
        suspicious = suspicious or text.count(field.quoted) > 1
    if suspicious:
        declared = {field.name for field in fields}
        for name in (yield from jsontext.repeated_names(text)):
            if name in declared:
                raise InvalidField(f"{name} is given twice")
    return body


def check_query(pairs: Sequence[tuple[str, str]], fields: Sequence[Field]) -> dict[str, Any]:
    """Return the declared parameters of a query. Raises InvalidField."""
    found: dict[str, Any] = {}
    known = {field.name: field for field in fields}
    for name, text in pairs:
        field = known.get(name)
        if field is None:
            continue
        if name in found:
            raise InvalidField(f"{name} is given twice")
        value: Any = text
        if field.kind is UNSIGNED:
            value = int(text) if text.isascii() and text.isdigit() and len(text) < 21 else None
        if not field.kind.accepts(value):
            raise InvalidField(f"{name} must be {field.kind.name}")
        found[name] = value
    for field in fields:
        if field.required and field.name not in found:
            raise InvalidField(f"{field.name} is missing")
    return found
