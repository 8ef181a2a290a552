"""The JSON of the API: strict, with 64-bit integers, at most 127 levels deep."""

from __future__ import annotations

import re
from array import array
from collections.abc import Generator
from itertools import accumulate
from typing import Any

import orjson

from tagcache.model.work import run_to_end

MAX_DEPTH = 127
# Each repetition can match in one way only, so no text causes backtracking.
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_STRUCTURE = re.compile(rb"(" + _STRING + rb")[ \t\r\n]*(:)?|[\[\]{}]", re.DOTALL)
_EXPONENT = re.compile(_STRING + rb"|e\+", re.DOTALL)
_TOKENS_AT_ONCE = 512
# Brackets as signed bytes: 1 is one level down, -1 is one level up.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_BRACKETS_AT_ONCE = 1024


class NotJson(ValueError):
    """The text is not a complete JSON text, or nested too deeply; ``str(error)`` says where."""


def parse(text: bytes) -> Any:
    """Return the value of a JSON text; integers beyond 64 bits become floats.

    Raises NotJson, also for texts that only Python accepts as JSON (NaN, lone surrogates, ...).
    """
    return run_to_end(read(text))


def read(text: bytes) -> Generator[None, None, Any]:
    """Work that returns what ``parse`` returns; raises NotJson."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from None
    if isinstance(value, list | dict) and not (yield from _is_shallow(text)):
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels")
    return value


def canonical(value: Any) -> bytes:
    """Return compact JSON with sorted keys, the stored form of values that are not text."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    if b"e+" in text:
        text = _EXPONENT.sub(lambda match: b"e" if match[0] == b"e+" else match[0], text)
    return text


def repeated_names(text: bytes) -> Generator[None, None, list[str]]:
    """Work that returns the repeated names in the outermost object of a valid JSON text."""
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
    """Work that returns whether a valid JSON text is nested no deeper than MAX_DEPTH.

    No Python statement runs per token, because an attacker decides how many tokens there are.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return True
    # With escapes removed, every second part between quotes is a string.
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(text.split(b'"')[::2])
    steps = array("b", outside.translate(_STEPS, _NOT_BRACKETS))
    depth = 0
    for start in range(0, len(steps), _BRACKETS_AT_ONCE):
        yield
        depths = list(accumulate(steps[start : start + _BRACKETS_AT_ONCE], initial=depth))
        if max(depths) > MAX_DEPTH:
            return False
        depth = depths[-1]
    return True


def _step(token: re.Match[bytes]) -> int:
    """Return by how many levels a token changes the depth."""
    if token[1] is not None:
        return 0
    return 1 if token[0] in b"[{" else -1
