"""64-bit integers: their ranges, and decimal signed ones as text."""

from __future__ import annotations

MIN = -(2**63)
MAX = 2**63 - 1
UINT64_MAX = 2**64 - 1
# Digits of the longest number that fits, without leading zeros.
_MAX_DIGITS = 19


def parse(text: bytes) -> int | None:
    """Read ``[+-]?[0-9]+``; return None for other text, or for a number that does not fit.

    Takes linear time: a value may be a million zeros, and each step of a counter reads it.
    """
    digits = text[1:] if text[:1] in (b"+", b"-") else text
    if not digits.isdigit():
        return None
    digits = digits.lstrip(b"0") or b"0"
    if len(digits) > _MAX_DIGITS:
        return None
    number = -int(digits) if text[:1] == b"-" else int(digits)
    return number if MIN <= number <= MAX else None
