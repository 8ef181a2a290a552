"""The service: uvicorn examples.fastapi_service.service:app

TAGCACHE_URL names another server than tagcache://127.0.0.1:1984.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from examples.fastapi_service import database
from tagcache.contrib.fastapi import ResponseCache

cache = ResponseCache(
    os.environ.get("TAGCACHE_URL", "tagcache://127.0.0.1:1984"), key_prefix="books:"
)
PAGE = Path(__file__).with_name("page.html")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    database.create()
    async with cache:
        yield


app = FastAPI(title="Books", lifespan=lifespan)


class Book(BaseModel):
    id: int
    title: str
    author: str
    reviews: int
    stars: float | None


class Title(BaseModel):
    title: str = Field(min_length=1)


class Review(BaseModel):
    stars: int = Field(ge=1, le=5)


def opened() -> Iterator[sqlite3.Connection]:
    with database.connection() as connection:
        yield connection


Connection = Annotated[sqlite3.Connection, Depends(opened)]
SELECT = """
SELECT books.*, count(reviews.stars) AS reviews, round(avg(reviews.stars), 1) AS stars
FROM books LEFT JOIN reviews ON reviews.book = books.id
"""


def tags_of(result: list[Book], **arguments: object) -> list[str]:
    """Return the tags of a list: one for all lists, and those of its books."""
    return ["books", *(f"book:{book.id}" for book in result)]


# A connection is different for each request, and the response does not depend on it.
@app.get("/books")
@cache.cached(ttl="10m", grace="1m", tags=tags_of, ignore=["connection"])
def show_books(
    connection: Connection, author: str = "", limit: Annotated[int, Query(ge=1, le=50)] = 20
) -> list[Book]:
    """The books, or those of an author. Whoever changes one of them forgets the list."""
    rows = connection.execute(
        f"{SELECT} WHERE ? IN ('', author) GROUP BY books.id ORDER BY title LIMIT ?",
        (author, limit),
    )
    return [Book(**row) for row in rows]


@app.get("/books/{book_id}")
@cache.cached(ttl="10m", grace="1m", tags=["book:{book_id}"], ignore=["connection"])
def show_book(book_id: int, connection: Connection) -> Book:
    """One book."""
    row = connection.execute(
        f"{SELECT} WHERE books.id = ? GROUP BY books.id", (book_id,)
    ).fetchone()
    if row is None:
        raise HTTPException(404, "there is no such book")
    return Book(**row)


@app.put("/books/{book_id}", status_code=204)
async def rename(book_id: int, new: Title) -> None:
    """Change a title."""
    await change(book_id, "UPDATE books SET title = ?2 WHERE id = ?1", new.title)


@app.post("/books/{book_id}/reviews", status_code=204)
async def add_review(book_id: int, review: Review) -> None:
    """Add a review. The average is in the list and in the book."""
    await change(
        book_id,
        "INSERT INTO reviews SELECT id, ?2 FROM books WHERE id = ?1",
        review.stars,
    )


async def change(book_id: int, statement: str, value: object) -> None:
    if await run_in_threadpool(database.execute, statement, book_id, value) == 0:
        raise HTTPException(404, "there is no such book")
    # After the commit: what is read from now on is new.
    await cache.invalidate_tag(f"book:{book_id}")


@app.get("/", include_in_schema=False)
async def page() -> HTMLResponse:
    """A page that shows the service at work."""
    return HTMLResponse(PAGE.read_text(encoding="utf-8"))
