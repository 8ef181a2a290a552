"""Books and reviews in SQLite, which all workers share."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_FILE = "tagcache-example-books.sqlite3"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS books (id INTEGER PRIMARY KEY, title TEXT, author TEXT);
CREATE TABLE IF NOT EXISTS reviews (book INTEGER REFERENCES books, stars INTEGER);
"""
_BOOKS = [
    (1, "The Left Hand of Darkness", "Ursula K. Le Guin"),
    (2, "The Dispossessed", "Ursula K. Le Guin"),
    (3, "Solaris", "Stanis\N{LATIN SMALL LETTER L WITH STROKE}aw Lem"),
    (4, "Roadside Picnic", "Arkady and Boris Strugatsky"),
]
_REVIEWS = [(1, 5), (1, 4), (2, 5), (3, 4), (4, 5), (4, 4)]


def path() -> Path:
    """Return where the database is: BOOKS_DATABASE, or a file in the temporary directory."""
    return Path(os.environ.get("BOOKS_DATABASE", Path(tempfile.gettempdir()) / _FILE))


@contextmanager
def connection() -> Iterator[sqlite3.Connection]:
    """Yield a connection with a transaction, which is committed at the end."""
    # FastAPI opens it in one thread, and uses it in another.
    with closing(sqlite3.connect(path(), check_same_thread=False)) as opened:
        opened.row_factory = sqlite3.Row
        with opened:
            yield opened


def execute(statement: str, *values: object) -> int:
    """Execute a statement, and return how many rows it has changed."""
    with connection() as opened:
        return opened.execute(statement, values).rowcount


def create() -> None:
    """Create the tables and some books, if they are not there."""
    with connection() as opened:
        opened.executescript(_SCHEMA)
        # Several workers start at the same time.
        opened.execute("BEGIN IMMEDIATE")
        if opened.execute("SELECT count(*) FROM books").fetchone()[0] == 0:
            opened.executemany("INSERT INTO books VALUES (?, ?, ?)", _BOOKS)
            opened.executemany("INSERT INTO reviews VALUES (?, ?)", _REVIEWS)
