"""Durations as text."""

from __future__ import annotations

import re
from decimal import Decimal

_MILLISECONDS = {"ms": 1, "s": 1000, "": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)(ms|s|m|h|d|)", re.ASCII)


def milliseconds(text: str) -> int:
    """Return the milliseconds in ``500ms``, ``90``, ``1.5h`` or ``7d``. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration: a number and ms, s, m, h or d, like 5m; "
            "a number alone is seconds"
        )
    exact = Decimal(match[1]) * _MILLISECONDS[match[2]]
    # A fraction of a millisecond must not become 0, which means no time to live.
    return max(int(exact), 1) if exact else 0
