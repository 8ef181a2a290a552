"""Format tables for an interactive session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Report:
    """A text that is its own ``repr``, so that the prompt shows it unquoted."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> Report:
    """Lay out rows in columns under headings, numbers to the right. ``empty`` is for no rows."""
    rows = list(rows)
    cells = [[_text(cell) for cell in row] for row in rows]
    if not cells:
        return Report(empty)
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    numeric = [
        all(isinstance(cell, int | float) for cell in column) for column in zip(*rows, strict=True)
    ]

    def line(texts: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    return Report("\n".join([line(headings), line(["-" * w for w in widths]), *map(line, cells)]))


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.3f}"
    return "-" if cell is None else str(cell)
