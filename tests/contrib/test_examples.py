"""The examples of the documentation run as they are."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.contrib.django_project  # noqa: F401 - the settings that Django's modules need
from tagcache.client import Client
from tagcache.contrib._sync.cached import CachedFunction
from tagcache.contrib.cached import cached
from tagcache.contrib.django import TagCache, cache_tag, close_clients, models
from tagcache.contrib.django._sync.locks import Lock
from tagcache.contrib.django.lock_requests import LockError
from tagcache.contrib.django.pages import cache_page
from tagcache.contrib.django.reading import Reading
from tagcache.contrib.django.sessions import SessionStore
from tagcache.contrib.fastapi import ResponseCache
from tagcache.contrib.pytest_plugin import Server

_TIMEOUT = re.compile(r"""(timeout"?[=:] ?)0\.[0-9]+""")
DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCKS = re.findall(
    r"^## ([^\n]+)\n|```python\n(.*?)```",
    (DOCS / "frameworks.md").read_text(encoding="utf-8"),
    re.DOTALL | re.MULTILINE,
)


# The examples of these pages are one program each.
PAGES = {"Django": "django.md", "From django-redis": "coming-from-django-redis.md"}


def examples() -> list[tuple[str, str]]:
    """Return the section and the code of each example."""
    found, section = [], ""
    for title, code in BLOCKS:
        section = title or section
        if code:
            found.append((section, code))
    for page, file in PAGES.items():
        text = (DOCS / file).read_text(encoding="utf-8")
        found.append((page, "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))))
    return found


def test_each_framework_has_an_example() -> None:
    assert {section for section, _ in examples()} == {
        *("Serdes and serializers", "The decorator", "From django-redis"),
        *("Django", "Flask-Caching", "cachelib", "dogpile.cache", "pytest"),
    }


def public_names(facade: type) -> Iterator[tuple[Any, str]]:
    """Yield the methods and properties of a class that are not those of a framework."""
    for name in dir(facade):
        member = inspect.getattr_static(facade, name)
        function = getattr(member, "fget", member)
        if not name.startswith("_") and getattr(function, "__module__", "").startswith("tagcache"):
            yield function, name


FACADES = (TagCache, Lock, Reading, CachedFunction, ResponseCache)
FUNCTIONS = (cached, cache_page, cache_tag, close_clients, LockError, SessionStore, ResponseCache)
# Called by Django, or for what its API does not have.
NOT_SHOWN = {"client", "async_client"}


def test_every_public_name_is_documented_and_in_an_example() -> None:
    """A coroutine stands for the method of the same name without its `a`, and the other way."""
    public = [(each, each.__name__) for each in FUNCTIONS]
    public += [(getattr(models, name), name) for name in models.__all__]
    for facade in FACADES:
        public += public_names(facade)
    files = [*DOCS.glob("examples/*.py"), *DOCS.parent.glob("examples/**/*.py")]
    code = [code for _, code in examples()] + [file.read_text(encoding="utf-8") for file in files]
    code += re.findall(r"```python\n(.*?)```", (DOCS / "fastapi.md").read_text(), re.DOTALL)
    words = set(re.findall(r"\w+", "\n".join(code))) | NOT_SHOWN
    assert [name for each, name in public if not inspect.getdoc(each)] == []
    assert [
        name for _, name in public if words.isdisjoint({name, f"a{name}", name.removeprefix("a")})
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize(("section", "code"), examples(), ids=lambda text: text[:12].split("\n")[0])
def test_an_example(
    section: str, code: str, tagcache_server: Server, tagcache_client: Client, tmp_path: Path
) -> None:
    here = code.replace("127.0.0.1:1984", f"127.0.0.1:{tagcache_server.port}")
    assert here != code or section == "pytest"
    # On a busy machine a short one, with ignore_exc, would let an answer be missing.
    here = _TIMEOUT.sub(r"\g<1>60", here)
    file = tmp_path / "test_example.py"
    file.write_text(here, encoding="utf-8")
    command = [sys.executable, *(["-m", "pytest", "-q"] if section == "pytest" else []), str(file)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


class Site:
    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, post: int) -> str:
        with urllib.request.urlopen(self.url.replace("/posts/1", f"/posts/{post}")) as response:
            return str(response.read().decode())

    def save(self, post: int, text: str) -> str:
        """Save, and return the page of the redirect."""
        where = self.url.replace("/posts/1", f"/posts/{post}")
        data = urllib.parse.urlencode({"text": text}).encode()
        with urllib.request.urlopen(where, data, timeout=60) as response:
            return str(response.read().decode())


@pytest.fixture(params=["django_page.py", "flask_page.py"])
def site(
    request: pytest.FixtureRequest, tagcache_server: Server, tagcache_client: Client, tmp_path: Path
) -> Iterator[Site]:
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, str(DOCS / "examples" / request.param), "0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "TAGCACHE_URL": tagcache_server.url, "TMPDIR": str(tmp_path)},
        )
    assert process.stdout is not None
    # If the site hangs, killing it ends readline.
    timer = threading.Timer(30, process.kill)
    timer.start()
    try:
        url = process.stdout.readline().strip()
        timer.cancel()
        assert url, log.read_text()
        yield Site(url)
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
    assert "Traceback" not in log.read_text(), log.read_text()


def test_a_page_is_cached_until_it_is_saved(site: Site, tagcache_client: Client) -> None:
    first = site.get(1)
    assert "<p>Hello</p>" in first
    assert "rendering 1<" in first
    hits = tagcache_client.stats().hits
    assert site.get(1) == first
    assert tagcache_client.stats().hits > hits
    other = site.get(2)
    assert "rendering 2<" in other

    saved = site.save(1, "Good <morning>")
    assert "<p>Good &lt;morning&gt;</p>" in saved
    assert "rendering 3<" in saved
    assert site.get(1) == saved
    assert site.get(2) == other
    assert sorted(map(len, (tagcache_client.keys_by_tag(f"post:{i}") for i in (1, 2)))) == [1, 1]
    assert tagcache_client.invalidate_tag("posts") == 2
    assert "rendering 4<" in site.get(1)


def test_a_missing_page(site: Site) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        site.get(9)
    caught.value.close()
