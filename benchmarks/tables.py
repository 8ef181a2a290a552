"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. All columns but the first are aligned to the right."""
    lines = [_row(head), _row(["---", *("---:" for _ in head[1:])])]
    return "\n".join([*lines, *(_row(row) for row in rows)]) + "\n"


def number(value: float) -> str:
    """Format a number with at least three digits, and commas between thousands."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def size(value: int) -> str:
    """Format a number of bytes that is a power of ten."""
    for unit, name in ((10**6, "MB"), (10**3, "kB")):
        if value >= unit:
            return f"{value // unit} {name}"
    return f"{value} B"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
