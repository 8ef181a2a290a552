"""Output: JSON on request, tables and colours only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from tagcache.tables import table

Function = TypeVar("Function", bound=Callable[..., Any])

json_option: Callable[[Function], Function] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)


def print_json(content: Any) -> None:
    """Print JSON on one line."""
    click.echo(json.dumps(content, ensure_ascii=False))


def table_text(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table for a terminal, with headings in bold."""
    first, _, rest = table(headings, rows, "").text.partition("\n")
    return f"{click.style(first, bold=True)}\n{rest}"


def redraw(text: str) -> None:
    """Replace the content of the terminal."""
    # Move the cursor to the top, clear each line after its text, then everything below.
    lines = text.replace("\n", "\x1b[K\n")
    click.echo(f"\x1b[H{lines}\x1b[K\n\x1b[J", nl=False)


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print rows: a table on a terminal, else lines of fields separated by tabs."""
    if sys.stdout.isatty():
        click.echo(table_text(headings, rows) if rows else empty)
        return
    for row in rows:
        click.echo("\t".join("-" if cell is None else str(cell) for cell in row))
