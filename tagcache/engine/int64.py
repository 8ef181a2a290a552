"""Decimal signed 64-bit integers, the kind that is counted up and down."""

from __future__ import annotations

import re

MIN = -(2**63)
MAX = 2**63 - 1
# Leading zeros may be many; of the digits after them no more than 19 can fit.
_DECIMAL = re.compile(rb"([+-]?)0*([0-9]{1,19})")


def parse(text: bytes) -> int | None:
    """Read ``[+-]?[0-9]+``; None where that is not what it says, or it does not fit."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return None
    number = int(match[1] + match[2])
    return number if MIN <= number <= MAX else None
