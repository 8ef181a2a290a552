"""Decorated functions keep their types, for mypy in strict mode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = """
from flask import Flask

from tagcache import AsyncClient, Client
from tagcache.contrib.cached import cached
from tagcache.contrib.dogpile import TagRegion
from tagcache.contrib.flask_caching import Cache

client, region, cache = Client(), TagRegion(), Cache(Flask(__name__))


@cached(client, tags=lambda post: [f"post:{post}"], ttl=60)
def show(post: int) -> str:
    return str(post)


@cached(AsyncClient(), key="k", tags=["t"])
async def ashow(post: int) -> str:
    return str(post)


@region.cache_on_arguments(tags=["t"])
def made(post: int) -> str:
    return str(post)


@cache.memoize(tags=["t"])
def memo(post: int) -> str:
    return str(post)


async def main() -> None:
    reveal_type(show(1))
    reveal_type(show.invalidate(1))
    reveal_type(await ashow(1))
    reveal_type(await ashow.invalidate(1))
    reveal_type(made(1))
    reveal_type(made.refresh(1))
    reveal_type(memo(1))
"""


@pytest.mark.slow
def test_types(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    wrong = "show('x')\n_ = ashow('x')\nmade('x')\nmemo('x')\n"
    sample.write_text(SAMPLE + wrong, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}"]
    command += ["--config-file=", str(sample), str(ROOT / "docs/examples/flask_page.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    revealed = [line.split('"')[1] for line in lines if "Revealed type" in line]
    short = [name.replace("builtins.", "") for name in revealed]
    assert short == ["str", "bool", "str", "bool", "str", "str", "str"], done.stdout
    errors = [line for line in lines if ": error: " in line]
    first = SAMPLE.count("\n") + 1
    assert [int(line.split(":")[1]) for line in errors] == list(range(first, first + 4)), errors
    assert all("[arg-type]" in line and "sample.py" in line for line in errors)
