"""Times to live on the command line."""

from __future__ import annotations

from typing import Any

import click

from tagcache.model import durations

_MOST_MILLISECONDS = 2**64 - 1


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic in older versions
    """A duration like ``500ms``, ``90``, ``1.5h`` or ``7d``; its value is in milliseconds (int)."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        try:
            milliseconds = durations.milliseconds(value)
        except ValueError as error:
            self.fail(str(error), param, context)
        if milliseconds > _MOST_MILLISECONDS:
            self.fail(f"{value} is too long", param, context)
        return milliseconds
