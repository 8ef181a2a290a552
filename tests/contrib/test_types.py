"""Decorated functions and methods keep their types, for mypy in strict mode and pyright."""

from __future__ import annotations

import json
import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tagcache.client import AsyncClient, Client, DeferredClient, Pipeline

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = """
from flask import Flask

from tagcache import AsyncClient, Client
from tagcache.contrib.cached import cached
from tagcache.contrib.django.models import reads
from tagcache.contrib.dogpile import TagRegion
from tagcache.contrib.fastapi import ResponseCache
from tagcache.contrib.flask_caching import Cache

responses = ResponseCache()
client, region, cache = Client(), TagRegion(), Cache(Flask(__name__))
aclient = AsyncClient()


@cached(client, tags=lambda post: [f"post:{post}"], ttl=60)
def show(post: int) -> str:
    return str(post)


@cached(aclient, key="k", tags=["t"], ttl=lambda result: 5)
async def ashow(post: int) -> str:
    return str(post)


class Page:
    @cached(client, key="page:{number}", tags=["page:{number}"], ttl="5m")
    def render(self, number: int) -> str:
        return str(number)

    @cached(aclient, key="page:{number}")
    async def arender(self, number: int) -> str:
        return str(number)


@region.cache_on_arguments(tags=["t"])
def made(post: int) -> str:
    return str(post)


@cache.memoize(tags=["t"])
def memo(post: int) -> str:
    return str(post)


@responses.cached(ttl="5m", tags=["post:{post}"])
async def path_function(post: int) -> str:
    return str(post)


@responses.cached(ttl=lambda result: 5)
def path_function_in_a_thread(post: int) -> str:
    return str(post)


@reads(tags=["post:{post}"], timeout=300)
def read(post: int) -> str:
    return str(post)


@reads()
async def aread(post: int) -> str:
    return str(post)


async def main(page: Page) -> None:
    reveal_type(show(1))
    reveal_type(show.invalidate(1))
    reveal_type(show.key(1))
    reveal_type(await ashow(1))
    reveal_type(await ashow.invalidate(1))
    reveal_type(page.render(1))
    reveal_type(page.render.invalidate(1))
    reveal_type(await page.arender(1))
    reveal_type(Page.render(page, 1))
    reveal_type(client.get_or_set("k", lambda: 7, tags=lambda number: [str(number)]))
    reveal_type(await aclient.get_or_set("k", lambda: ashow(7)))
    reveal_type(client.put("k", 1))
    reveal_type(await aclient.put("k", 1))
    reveal_type(made(1))
    reveal_type(made.refresh(1))
    reveal_type(memo(1))
    reveal_type(await path_function(1))
    reveal_type(path_function_in_a_thread(1))
    reveal_type(read(1))
    reveal_type(read.invalidate(1))
    reveal_type(await aread(1))
"""
REVEALED = ["str", "bool", "str", "str", "bool", "str", "bool", "str", "str"]
REVEALED += ["int", "str", "bool", "bool", "str", "str", "str", "str", "str", "str", "bool", "str"]
WRONG = """
show('x')
_ = ashow('x')
Page().render('x')
made('x')
memo('x')
_ = path_function('x')
read('x')
"""
FIRST_WRONG = SAMPLE.count("\n") + 2


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    sample = tmp_path / "sample.py"
    sample.write_text(SAMPLE + WRONG, encoding="utf-8")
    return sample


def run(sample: Path, *command: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=sample.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


@pytest.mark.slow
def test_types(sample: Path, tmp_path: Path) -> None:
    page = ROOT / "docs/examples/flask_page.py"
    lines = run(
        sample, "mypy", "--strict", f"--cache-dir={tmp_path}", "--config-file=", sample, page
    )
    revealed = [line.split('"')[1] for line in lines if "Revealed type" in line]
    assert [name.replace("builtins.", "") for name in revealed] == REVEALED, lines
    errors = [line for line in lines if ": error: " in line]
    assert [int(line.split(":")[1]) for line in errors] == list(
        range(FIRST_WRONG, FIRST_WRONG + 7)
    ), errors
    assert all("[arg-type]" in line and "sample.py" in line for line in errors)


@pytest.mark.slow
def test_types_for_pyright(sample: Path) -> None:
    """It is what editors show."""
    command = ("pyright", "--outputjson", f"--pythonpath={sys.executable}", sample)
    found = json.loads("".join(run(sample, *command)))["generalDiagnostics"]
    told = [each["message"] for each in found if each["severity"] == "information"]
    assert [message.rpartition(' is "')[2].rstrip('"') for message in told] == REVEALED
    errors = [each for each in found if each["severity"] == "error"]
    lines = [each["range"]["start"]["line"] + 1 for each in errors]
    assert lines == list(range(FIRST_WRONG, FIRST_WRONG + 7)), errors


@pytest.mark.parametrize(
    ("kind", "returned"),
    [
        (Client, "bool"),
        (AsyncClient, "bool"),
        (DeferredClient, "Deferred[bool]"),
        (Pipeline, "Pending[bool]"),
    ],
)
def test_help_shows_what_a_method_returns(kind: Any, returned: str) -> None:
    assert f"ttl: 'Ttl | None' = None) -> '{returned}'" in pydoc.render_doc(kind.put)
    assert "Store ``value``" in pydoc.render_doc(kind.put)
