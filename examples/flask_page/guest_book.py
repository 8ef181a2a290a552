"""The entries of the guest book, in SQLite."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

_FILE = "tagcache-example-guests.sqlite3"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, name TEXT, city TEXT, text TEXT)
"""


class Entry(NamedTuple):
    """What a guest wrote."""

    id: int
    name: str
    city: str
    text: str


@contextmanager
def _connection() -> Iterator[sqlite3.Connection]:
    """Yield a connection with a transaction, which is committed at the end."""
    path = os.environ.get("GUESTS_DATABASE", Path(tempfile.gettempdir()) / _FILE)
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute(_SCHEMA)
        yield opened


def entries(city: str | None = None) -> list[Entry]:
    """Return the entries, the newest first; of a city, or all."""
    with _connection() as opened:
        rows = opened.execute(
            "SELECT id, name, city, text FROM entries WHERE ?1 IS NULL OR city = ?1"
            " ORDER BY id DESC LIMIT 100",
            (city,),
        )
        return [Entry(*row) for row in rows]


def add(name: str, city: str, text: str) -> None:
    """Add an entry."""
    with _connection() as opened:
        opened.execute(
            "INSERT INTO entries (name, city, text) VALUES (?, ?, ?)", (name, city, text)
        )


def remove(number: int) -> str | None:
    """Remove an entry, and return its city; None if there is no such entry."""
    with _connection() as opened:
        row = opened.execute(
            "DELETE FROM entries WHERE id = ? RETURNING city", (number,)
        ).fetchone()
        return None if row is None else str(row[0])
