"""JSON as the API understands it: strict, integers of 64 bits, 127 levels deep."""

from __future__ import annotations

import re
from typing import Any

import orjson

MAX_DEPTH = 127
_STRING = rb'"(?:[^"\\]|\\.)*"'
_BRACKETS = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_EXPONENT = re.compile(_STRING + rb"|e\+", re.DOTALL)


class NotJson(ValueError):
    """The text is not one whole JSON text, or nested too deep; ``str`` says where."""


def parse(text: bytes) -> Any:
    """Return what a JSON text says; integers beyond 64 bits come as floats.

    Raises NotJson, also for what only Python takes for JSON (NaN, lone surrogates, ...).
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from None
    if isinstance(value, list | dict) and not _is_shallow(text):
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels")
    return value


def dump(value: Any) -> bytes:
    """Return compact JSON, keys in the order given."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # Only nesting can be in the way of what was parsed before.
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels") from None


def canonical(value: Any) -> bytes:
    """Return compact JSON with sorted keys: how values that are not text are stored."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    if b"e+" in text:
        text = _EXPONENT.sub(lambda match: b"e" if match[0] == b"e+" else match[0], text)
    return text


def repeated_names(text: bytes) -> list[str]:
    """Return the names that the outermost object of a valid JSON text has more than once."""
    depth = 0
    seen: set[str] = set()
    repeated = []
    for match in _BRACKETS.finditer(text):
        token = match[0]
        if token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
        elif depth == 1 and text[match.end() :].lstrip(b" \t\r\n")[:1] == b":":
            name = orjson.loads(token)
            if name in seen:
                repeated.append(name)
            seen.add(name)
    return repeated


def _is_shallow(text: bytes) -> bool:
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return True
    depth = 0
    for match in _BRACKETS.finditer(text):
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return False
        elif token in b"]}":
            depth -= 1
    return True
