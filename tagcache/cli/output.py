"""Printing: JSON where it is asked for, tables and colour only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from tagcache.server.report import table

Function = TypeVar("Function", bound=Callable[..., Any])

json_option: Callable[[Function], Function] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)


def print_json(content: Any) -> None:
    """Print a JSON text, on one line."""
    click.echo(json.dumps(content, ensure_ascii=False))


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print rows: a table on a terminal, else lines of fields with tabs between them."""
    if sys.stdout.isatty():
        text = table(headings, rows, empty).text
        first, _, rest = text.partition("\n")
        click.echo(f"{click.style(first, bold=True)}\n{rest}" if rows else text)
        return
    for row in rows:
        click.echo("\t".join("-" if cell is None else str(cell) for cell in row))
