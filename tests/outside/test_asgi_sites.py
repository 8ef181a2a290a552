"""Sites with uvicorn on uvloop, as in an installation with all extras."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.integration.running import RunningServer
from tests.outside.uvicorn_site import TIMEOUT, UvicornSite


def test_fastapi(server: RunningServer, tmp_path: Path) -> None:
    url = f"tagcache://127.0.0.1:{server.port}?timeout=30"
    with UvicornSite(tmp_path, "fastapi_site", TAGCACHE_URL=url) as site, site.client() as client:
        assert client.get("/loop").json() == "uvloop"
        first = {"page": "<p>Post 7</p>", "renderings": 1}
        assert [client.get("/posts/7").json() for _ in range(3)] == [first] * 3
        assert client.put("/posts/7", params={"title": "New"}).json() == 1
        assert client.get("/posts/7").json() == {"page": "<p>New</p>", "renderings": 2}


def test_fastapi_with_many_visitors(server: RunningServer, tmp_path: Path) -> None:
    async def visit(base_url: str) -> list[int]:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(
            base_url=base_url, timeout=TIMEOUT, limits=limits, trust_env=False
        ) as client:
            paths = [f"/posts/{number % 10}" for number in range(100)]
            return [
                response.status_code
                for response in await asyncio.gather(*(client.get(path) for path in paths))
            ]

    url = f"tagcache://127.0.0.1:{server.port}?timeout=30&pool_timeout=30"
    with UvicornSite(tmp_path, "fastapi_site", TAGCACHE_URL=url) as site:
        assert asyncio.run(visit(site.url())) == [200] * 100


def test_django(server: RunningServer, tmp_path: Path) -> None:
    url = f"tagcache://127.0.0.1:{server.port}?timeout=30"
    with UvicornSite(tmp_path, "django_site", TAGCACHE_URL=url) as site, site.client() as client:
        first = {"page": "<h1>Front</h1>", "renderings": 1}
        assert [client.get("/front").json() for _ in range(3)] == [first] * 3
        assert client.get("/front-in-a-thread").json() == first
        assert client.get("/invalidate").json() == {"removed": 1}
        assert client.get("/front").json() == {"page": "<h1>Front</h1>", "renderings": 2}
        seen = [client.get(path).json() for path in ("/visits", "/async-visits", "/visits")]
        assert seen == [{"visits": number} for number in (1, 2, 3)]


def test_visitors_of_django_do_not_see_each_others_pages(
    server: RunningServer, tmp_path: Path
) -> None:
    url = f"tagcache://127.0.0.1:{server.port}?timeout=30"
    with (
        UvicornSite(tmp_path, "django_site", TAGCACHE_URL=url) as site,
        site.client() as one,
        site.client() as other,
        site.client() as nobody,
    ):
        visitors = (one, one, other)
        assert [each.get("/visits").json()["visits"] for each in visitors] == [1, 2, 1]
        for path in ("/seen", "/async-seen"):
            before = nobody.get("/count").json()["renderings"]
            assert [each.get(path).json()["visits"] for each in visitors] == [2, 2, 1]
            assert nobody.get("/count").json()["renderings"] == before + 2
        assert nobody.get("/seen").json() == {"visits": 0}


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/page", "/page-in-a-thread"])
def test_one_of_several_processes_makes_a_page(
    server: RunningServer, path: str, tmp_path: Path
) -> None:
    async def visit(urls: list[str]) -> list[dict[str, str]]:
        # Pages of different hosts are different pages.
        host = {"Host": "shop.example"}
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, headers=host) as client:
            visits = (client.get(url + path) for url in urls * 8)
            return [response.json() for response in await asyncio.gather(*visits)]

    url = f"tagcache://127.0.0.1:{server.port}?timeout=30&pool_size=32"
    (tmp_path / "two").mkdir()
    with (
        UvicornSite(tmp_path, "django_site", TAGCACHE_URL=url) as one,
        UvicornSite(tmp_path / "two", "django_site", TAGCACHE_URL=url) as two,
        one.client() as client,
        two.client() as other,
    ):
        for number in (1, 2):
            pages = asyncio.run(visit([one.url(), two.url()]))
            assert pages == [{"page": "<h1>Page</h1>"}] * 16
            made = [each.get("/count").json()["renderings"] for each in (client, other)]
            assert sum(made) == number
            client.get("/invalidate")
