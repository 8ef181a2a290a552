"""Cached responses of FastAPI, with several workers of uvicorn on uvloop."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx

from tests.integration.running import RunningServer
from tests.outside.uvicorn_site import TIMEOUT, UvicornSite

# The visitors. Half of the connections to the cache may wait for a page.
MOST = 50


class Visitor(threading.Thread):
    """Visits a page over a connection of its own."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._seen: object = None

    def run(self) -> None:
        try:
            self._seen = httpx.get(self._url, timeout=TIMEOUT, trust_env=False).json()
        except httpx.HTTPError as error:
            self._seen = error

    def seen(self) -> object:
        """Return the page, or an error."""
        self.join()
        return self._seen


def numbers(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def visit_both(site: UvicornSite, page: str, arrived: Path) -> list[Visitor]:
    """Visit a page until both workers are about to answer; return all visitors."""
    end = time.monotonic() + TIMEOUT
    while site.text().count("Application startup complete") < 2:
        assert time.monotonic() < end, site.text()
        time.sleep(0.02)
    visitors: list[Visitor] = []
    while len(set(numbers(arrived))) < 2 or len(visitors) < 8:
        assert len(visitors) < MOST, site.text()
        visitors.append(Visitor(page))
        visitors[-1].start()
        while len(numbers(arrived)) < len(visitors):
            assert time.monotonic() < end, site.text()
            time.sleep(0.02)
    return visitors


def test_one_of_two_workers_makes_a_page(server: RunningServer, tmp_path: Path) -> None:
    url = f"tagcache://127.0.0.1:{server.port}?timeout=60&pool_size={2 * MOST}"
    environ = {"TAGCACHE_URL": url, "SITE_DIRECTORY": str(tmp_path)}
    options = ("--workers", "2", "--timeout-graceful-shutdown", "10")
    with UvicornSite(tmp_path, "fastapi_cached_site", *options, **environ) as site:
        try:
            visitors = visit_both(site, site.url() + "/pages/front", tmp_path / "arrived")
        finally:
            (tmp_path / "go").touch()
        (maker,) = numbers(tmp_path / "made-front")
        expected = {"name": "front", "by": int(maker)}
        assert [visitor.seen() for visitor in visitors] == [expected] * len(visitors)
        with site.client() as client:
            first = client.get("/pages/front")
            assert first.headers["cache-status"] == "tagcache; hit"
            known = {"if-none-match": first.headers["etag"]}
            assert client.get("/pages/front", headers=known).status_code == 304
            # Whichever worker has the request, all forget the page.
            assert client.put("/pages/front").json() == 1
            assert client.get("/pages/front").headers["cache-status"] == "tagcache; fwd=miss"
    assert len(numbers(tmp_path / "made-front")) == 2
