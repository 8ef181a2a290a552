"""Times to live on the command line."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import click

_MILLISECONDS = {"ms": 1, "s": 1000, "": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)(ms|s|m|h|d|)", re.ASCII)
_MOST_MILLISECONDS = 2**64 - 1


class Duration(click.ParamType):  # type: ignore[type-arg]  # older ones are not generic
    """A duration like ``500ms``, ``90``, ``1.5h`` or ``7d``; its value is in milliseconds (int)."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            self.fail(
                f"{value!r} is not a duration: a number and ms, s, m, h or d, like 5m; "
                "a number alone is seconds",
                param,
                context,
            )
        exact = Decimal(match[1]) * _MILLISECONDS[match[2]]
        # A fraction of a millisecond must not become 0, which means no time to live.
        milliseconds = max(int(exact), 1) if exact else 0
        if milliseconds > _MOST_MILLISECONDS:
            self.fail(f"{value} is too long", param, context)
        return milliseconds
