"""The examples of docs/fastapi.md and of the docstring run as they are."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tagcache.client import Client
from tagcache.contrib.fastapi import ResponseCache
from tagcache.contrib.pytest_plugin import Server
from tests.contrib.fastapi_site import HIT, MISS, get, status, visit

PAGE = Path(__file__).parents[2] / "docs" / "fastapi.md"
SITE, LIFESPAN, TAGS, STARLETTE = re.findall(
    r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture
def run(tagcache_server: Server, tagcache_client: Client) -> Any:
    """Return a function that executes an example, and returns its application."""

    def run_it(code: str, **names: Any) -> Any:
        here = code.replace("127.0.0.1:1984", f"127.0.0.1:{tagcache_server.port}")
        assert here != code
        # FastAPI looks for the names of annotations in the module.
        module = {"__name__": "example", **names}
        exec(compile(here, "example", "exec"), module)
        return module["app"]

    return run_it


def test_the_site(run: Any) -> None:
    app = run(SITE)
    assert [status(get(app, "/posts/7")) for _ in range(2)] == [MISS, HIT]
    visit(app, lambda client: client.put("/posts/7", json={"title": "New"}))
    assert get(app, "/posts/7").json() == {"title": "New"}
    assert get(app, "/posts/8").status_code == 404


def test_a_lifespan(run: Any) -> None:
    app = run(LIFESPAN)

    async def start(client: Any) -> None:
        async with app.router.lifespan_context(app):
            pass

    visit(app, start)


def test_tags(run: Any, tagcache_client: Client) -> None:
    app = run(TAGS)
    assert get(app, "/posts?limit=1").json() == {"2": "Hello again"}
    assert tagcache_client.keys_by_tag("post:1") == []
    assert tagcache_client.keys_by_tag("posts") == tagcache_client.keys_by_tag("post:2") != []


def test_starlette(run: Any, tagcache_client: Client) -> None:
    app = run(STARLETTE)
    assert [get(app, "/posts/7").text for _ in range(2)] == ["Post 7"] * 2
    assert tagcache_client.invalidate_tag("post:7") == 1


def test_the_docstring(run: Any) -> None:
    lines = re.findall(r"^ *(?:>>>|\.\.\.) ?(.*)$", str(ResponseCache.__doc__), re.MULTILINE)
    imports = "from fastapi import FastAPI\nfrom tagcache.contrib.fastapi import ResponseCache\n"
    app = run(imports + textwrap.dedent("\n".join(lines)), titles={7: "Hello"})
    assert [get(app, "/posts/7").json() for _ in range(2)] == [{"title": "Hello"}] * 2
    assert visit(app, lambda client: client.put("/posts/7?title=New")).json() == 1
    assert get(app, "/posts/7").json() == {"title": "New"}
