"""Match the patterns of KEYS, SCAN and CONFIG GET."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tagcache.server.commands.resp.table import RedisError

# Limits the cost of compiling a pattern, and of matching it.
_MAX_PATTERN_BYTES: Final = 256


def matcher(pattern: bytes) -> Callable[[bytes], bool] | None:
    r"""Return a test of names for a pattern with ``* ? [a-z] [^a] \x``; None: all names match.

    A part between two stars matches at the first possible place, without backtracking, so no match
    takes longer than the product of both lengths. Raises RedisError.
    """
    if len(pattern) > _MAX_PATTERN_BYTES:
        raise RedisError(f"ERR the pattern is longer than {_MAX_PATTERN_BYTES} bytes")
    parts = _parts(pattern)
    if parts == [b"", b""]:
        return None
    first, *others = parts
    expression = first
    if others:
        *middle, last = others
        expression += b"".join(b"(?>.*?%b)" % part for part in middle if part) + b".*" + last
    found = re.compile(expression, re.DOTALL).fullmatch
    return lambda name: found(name) is not None


def _parts(pattern: bytes) -> list[bytes]:
    """Return the expressions for the parts between the stars."""
    parts = [b""]
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        at += 1
        if char == b"*":
            # Several stars match the same as one.
            if len(parts) == 1 or parts[-1]:
                parts.append(b"")
        elif char == b"?":
            parts[-1] += b"."
        elif char == b"[":
            piece, at = _set(pattern, at)
            parts[-1] += piece
        elif char == b"\\" and at < len(pattern):
            parts[-1] += re.escape(pattern[at : at + 1])
            at += 1
        else:
            parts[-1] += re.escape(char)
    return parts


def _set(pattern: bytes, at: int) -> tuple[bytes, int]:
    """Return the expression for a set that begins at ``at``, and where it ends."""
    inverted = pattern[at : at + 1] == b"^"
    at += inverted
    pieces: list[bytes] = []
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            pieces.append(_range(pattern[at + 1], pattern[at + 1]))
            at += 2
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            pieces.append(_range(*sorted((pattern[at], pattern[at + 2]))))
            at += 3
        else:
            pieces.append(_range(pattern[at], pattern[at]))
            at += 1
    if not pieces:
        return b"." if inverted else b"(?!)", at + 1
    return b"[%b%b]" % (b"^" * inverted, b"".join(pieces)), at + 1


def _range(low: int, high: int) -> bytes:
    return b"\\x%02x-\\x%02x" % (low, high)
