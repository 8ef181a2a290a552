"""JSON as the API understands it: strict, integers of 64 bits, 127 levels deep."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import orjson

from tagcache.model.work import run_to_end

MAX_DEPTH = 127
# Each repetition takes as much as it can, so that no text makes these go back.
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_STRUCTURE = re.compile(rb"(" + _STRING + rb")[ \t\r\n]*(:)?|[\[\]{}]", re.DOTALL)
_EXPONENT = re.compile(_STRING + rb"|e\+", re.DOTALL)
# How many tokens are looked at in one go.
_TOKENS_AT_ONCE = 512


class NotJson(ValueError):
    """The text is not one whole JSON text, or nested too deep; ``str`` says where."""


def parse(text: bytes) -> Any:
    """Return what a JSON text says; integers beyond 64 bits come as floats.

    Raises NotJson, also for what only Python takes for JSON (NaN, lone surrogates, ...).
    """
    return run_to_end(read(text))


def read(text: bytes) -> Generator[None, None, Any]:
    """Work that returns what ``parse`` does, and yields now and then."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from None
    if isinstance(value, list | dict) and not (yield from _is_shallow(text)):
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


def repeated_names(text: bytes) -> Generator[None, None, list[str]]:
    """Work that returns the names that the outermost object of a valid JSON text has repeatedly."""
    depth = 0
    seen: set[str] = set()
    repeated = []
    for number, match in enumerate(_STRUCTURE.finditer(text)):
        if number % _TOKENS_AT_ONCE == 0:
            yield
        depth += _step(match)
        if depth == 1 and match[2]:
            name = orjson.loads(match[1])
            if name in seen:
                repeated.append(name)
            seen.add(name)
    return repeated


def _is_shallow(text: bytes) -> Generator[None, None, bool]:
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return True
    depth = 0
    for number, match in enumerate(_STRUCTURE.finditer(text)):
        if number % _TOKENS_AT_ONCE == 0:
            yield
        depth += _step(match)
        if depth > MAX_DEPTH:
            return False
    return True


def _step(token: re.Match[bytes]) -> int:
    """Return by how many levels a token goes down."""
    if token[1] is not None:
        return 0
    return 1 if token[0] in b"[{" else -1
