"""Tests of the page, with a real cache: the fixtures come with TagCache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tagcache import Client
from tagcache.contrib.pytest_plugin import Server


@pytest.fixture(scope="module")
def app(tagcache_server: Server) -> Iterator[Flask]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAGCACHE_URL", tagcache_server.url)
        # Imported when the environment is as it should be.
        from examples.flask_page import page
    yield page.app
    backend: Any = page.cache.cache
    backend.close()


@pytest.fixture
def visitor(
    app: Flask, tagcache_client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FlaskClient:
    # Of an empty cache and a new guest book.
    monkeypatch.setenv("GUESTS_DATABASE", str(tmp_path / "guests.sqlite3"))
    return app.test_client()


def write(visitor: FlaskClient, name: str, city: str, text: str = "Hello") -> None:
    data = {"name": name, "city": city, "text": text}
    assert visitor.post("/", data=data).status_code == 302


def test_the_page_is_cached_until_somebody_writes(visitor: FlaskClient) -> None:
    first = visitor.get("/").text
    assert "Nobody has written" in first
    # With the same time of making.
    assert visitor.get("/").text == first
    write(visitor, "Ann", "Oslo", "Hello <everyone>")
    assert "Hello &lt;everyone&gt;" in visitor.get("/").text


def test_the_pages_of_other_cities_stay(visitor: FlaskClient) -> None:
    write(visitor, "Ann", "Oslo")
    write(visitor, "Bob", "Rome, Italy")
    oslo, rome = (visitor.get(f"/cities/{city}").text for city in ("Oslo", "Rome, Italy"))
    assert "Ann" in oslo
    assert "Bob" not in oslo
    write(visitor, "Cid", "Oslo")
    assert "Cid" in visitor.get("/cities/Oslo").text
    assert visitor.get("/cities/Rome, Italy").text == rome
    assert visitor.post("/remove/2").status_code == 302
    assert "Bob" not in visitor.get("/cities/Rome, Italy").text


def test_wrong_requests(visitor: FlaskClient) -> None:
    assert visitor.post("/", data={"name": "Ann", "city": " "}).status_code == 400
    assert visitor.post("/remove/9").status_code == 404


def test_the_page_has_its_tag(visitor: FlaskClient, tagcache_client: Client) -> None:
    visitor.get("/")
    assert len(tagcache_client.keys_by_tag("guests")) == 1
    assert tagcache_client.invalidate_tag("guests") == 1
