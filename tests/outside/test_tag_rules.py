"""Programs that know nothing of tags: curl, and a Django site with Django's own cache API."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from configobj import ConfigObj

from tests.integration.running import RunningServer

pytestmark = pytest.mark.needs("curl")
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
OURS = "tagcache.contrib.django.TagCache"
Start = Callable[..., RunningServer]


@pytest.fixture
def server(start: Start) -> RunningServer:
    """A server with the rules of the example."""
    config = ConfigObj(str(EXAMPLES / "django_rules.conf"), interpolation=False)
    return start({"tag_rules": dict(config["tag_rules"])})


def curl(url: str, *more: str) -> str:
    command = ["curl", "-sS", "--fail", "-L", "--noproxy", "*", *more, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def keys(server: RunningServer, tag: str) -> list[str]:
    """Return the keys that carry the tag, without hashes and what follows them."""
    found = server.ask(b"KEYS\t" + tag.encode()).decode().strip("\n").split("\t")[1]
    return sorted(key.partition(".GET.")[0] for key in found.split(",") if key)


def test_what_curl_stores_without_tags_is_invalidated_by_tag(server: RunningServer) -> None:
    api = f"http://127.0.0.1:{server.http_port}"
    how = ("-u", "admin:password", "-H", "Content-Type: application/json", "-d")
    curl(f"{api}/put", *how, '{"key": ":1:post:7:words", "value": "two words"}')
    told = curl(f"{api}/invalidate-tag", *how, '{"tag": "post:7"}')
    assert told == '{"success":true,"count":1}'
    assert '"not_found"' in curl(f"{api}/get/:1:post:7:words", "-u", "admin:password")


@contextmanager
def site(server: RunningServer, directory: Path, **environ: str) -> Iterator[str]:
    """The URL of the example's posts. It may have logged no traceback."""
    log = directory / "site.log"
    settings = {
        **os.environ,
        **environ,
        "TAGCACHE_URL": f"tagcache://127.0.0.1:{server.port}",
        "TMPDIR": str(directory),
    }
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, str(EXAMPLES / "django_rules.py"), "0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=settings,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url, log.read_text()
            yield url.removesuffix("1")
        finally:
            process.kill()
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.mark.parametrize("backend", ["django.core.cache.backends.redis.RedisCache", OURS])
def test_a_django_site_that_stores_without_tags(
    server: RunningServer, tmp_path: Path, backend: str
) -> None:
    scheme = "tagcache" if backend == OURS else "redis"
    url = f"{scheme}://127.0.0.1:{server.port}/0"
    with site(server, tmp_path, CACHE_BACKEND=backend, CACHE_URL=url) as posts:
        first, second, both = (curl(f"{posts}{name}") for name in ("1", "2", ""))
        assert (curl(f"{posts}1"), curl(f"{posts}2"), curl(posts)) == (first, second, both)
        cached = ":1:views.decorators.cache.cache_page"
        assert keys(server, "post:1") == [":1:post:1:words", f"{cached}.post-1"]
        assert keys(server, "pages") == [f"{cached}.lists", f"{cached}.post-1", f"{cached}.post-2"]
        assert len(keys(server, "fragment:footer")) == 1

        saved = curl(f"{posts}1", "-d", "text=Good morning")
        assert "<p>Good morning</p><p>2 words</p>" in saved
        assert curl(f"{posts}1") == saved
        assert curl(f"{posts}2") == second
        assert curl(posts).startswith("Good morning, Hello again; ")
        assert server.ask(b"INV_TAG\tpages") == b"INV_TAG\t3\n"
        assert curl(f"{posts}2") != second
