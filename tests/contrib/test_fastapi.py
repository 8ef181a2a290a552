"""Path functions of FastAPI, endpoints of Starlette, and their responses in the cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import Mount, Route

from tagcache.client import Client
from tagcache.contrib.fastapi import ResponseCache, cache_tag
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import BadArgument
from tests.contrib.fastapi_site import HIT, MISS, get, status, visit


class Post(BaseModel):
    number: int
    title: str = Field(serialization_alias="headline")
    note: str | None = None


class Draft(Post):
    secret: str = "hidden"


class Session:
    """What a dependency yields that is different for each request."""


@pytest.fixture
def cache(tagcache_server: Server, tagcache_client: Client) -> ResponseCache:
    return ResponseCache(tagcache_server.url, timeout=60.0)


@pytest.fixture
def app(cache: ResponseCache) -> FastAPI:
    return FastAPI(lifespan=cache.lifespan)


@pytest.fixture
def calls() -> list[Any]:
    return []


def test_a_model_is_cached_until_its_tag_is_invalidated(
    app: FastAPI, cache: ResponseCache, calls: list[Any], tagcache_client: Client
) -> None:
    @app.get("/posts/{number}")
    @cache.cached(ttl=60, tags=["post:{number}", "posts"])
    async def show(number: int) -> Post:
        calls.append(number)
        return Draft(number=number, title=f"Post {number}")

    @app.put("/posts/{number}")
    async def change(number: int) -> int:
        return await cache.invalidate_tag(f"post:{number}")

    first = get(app, "/posts/7")
    assert first.json() == {"number": 7, "headline": "Post 7", "note": None}
    assert status(first) == MISS
    second = get(app, "/posts/7")
    assert (second.content, second.status_code) == (first.content, 200)
    assert status(second) == HIT
    assert get(app, "/posts/8").json()["number"] == 8
    assert visit(app, lambda client: client.put("/posts/7")).json() == 1
    assert status(get(app, "/posts/8")) == HIT
    assert status(get(app, "/posts/7")) == MISS
    assert calls == [7, 8, 7]
    assert sorted(tagcache_client.keys_by_tag("posts")) == [
        f"{show.__module__}.{show.__qualname__}(/posts/{number})" for number in (7, 8)
    ]
    schema = app.openapi()["paths"]["/posts/{number}"]["get"]
    assert [each["name"] for each in schema["parameters"]] == ["number"]
    assert "Post" in str(schema["responses"]["200"])


def test_the_options_of_the_route_apply(
    app: FastAPI, cache: ResponseCache, calls: list[Any]
) -> None:
    options: dict[str, Any] = {"response_model": Post, "response_model_exclude_unset": True}
    options |= {"status_code": 203, "response_model_by_alias": False}

    @app.get("/posts", **options)
    @cache.cached()
    def show() -> Any:
        calls.append(1)
        return {"number": 1, "title": "One"}

    for _ in range(2):
        response = get(app, "/posts")
        assert response.json() == {"number": 1, "title": "One"}
        assert response.status_code == 203
    assert calls == [1]


def test_a_result_that_is_no_model_is_an_error_as_ever(
    app: FastAPI, cache: ResponseCache, calls: list[Any]
) -> None:
    @app.get("/")
    @cache.cached()
    async def show() -> Post:
        calls.append(1)
        return {"number": "seven"}  # type: ignore[return-value]

    assert [get(app).status_code for _ in range(2)] == [500, 500]
    assert calls == [1, 1]


def test_the_defaults_of_routers_apply(cache: ResponseCache) -> None:
    inner = APIRouter(prefix="/inner")

    @inner.get("/{name}")
    @cache.cached()
    async def show(name: str) -> str:
        return f"<h1>{name}</h1>"

    outer = APIRouter(prefix="/outer")
    outer.include_router(inner)
    app = FastAPI()
    app.include_router(outer, prefix="/html", default_response_class=HTMLResponse)
    app.include_router(outer, prefix="/json")
    for _ in range(2):
        page = get(app, "/html/outer/inner/a")
        assert (page.text, page.headers["content-type"]) == (
            "<h1>a</h1>",
            "text/html; charset=utf-8",
        )
        assert get(app, "/json/outer/inner/a").json() == "<h1>a</h1>"
    assert status(page) == HIT


def test_the_request_and_the_response_are_injected(
    app: FastAPI, cache: ResponseCache, calls: list[Any]
) -> None:
    def dependency(response: Response) -> None:
        calls.append("dependency")
        response.headers["x-request"] = str(len(calls))

    @app.get("/", dependencies=[Depends(dependency)])
    @cache.cached()
    async def show(request: Request, response: Response) -> dict[str, str]:
        calls.append("function")
        response.headers["x-color"] = "red"
        response.status_code = 203
        return dict(request.query_params)

    first, second = (get(app, "/", params={"a": "1"}) for _ in range(2))
    assert first.json() == second.json() == {"a": "1"}
    assert first.status_code == second.status_code == 203
    assert second.headers["x-color"] == "red"
    assert (first.headers["x-request"], second.headers["x-request"]) == ("1", "3")
    assert get(app, "/", params={"b": "2"}).json() == {"b": "2"}
    assert calls.count("function") == 2


def test_a_response_is_cached_with_its_headers_and_its_body(
    app: FastAPI, cache: ResponseCache, calls: list[Any]
) -> None:
    body = bytes(range(256)) * 10

    @app.get("/picture")
    @cache.cached()
    def show(tasks: BackgroundTasks) -> Response:
        tasks.add_task(calls.append, "later")
        calls.append("function")
        return Response(body, media_type="image/png", headers={"X-Name": "caf\xe9"})

    for _ in range(3):
        response = get(app, "/picture")
        assert response.content == body
        assert response.headers["content-type"] == "image/png"
        assert response.headers["content-length"] == str(len(body))
        assert dict(response.headers.raw)[b"X-Name".lower()] == b"caf\xe9"
    assert calls == ["function", "later"]


def test_dependencies_run_for_every_request(
    app: FastAPI, cache: ResponseCache, calls: list[Any]
) -> None:
    def opened() -> Iterator[Session]:
        calls.append("opened")
        yield Session()
        calls.append("closed")

    def allowed(key: str = "") -> None:
        if key == "wrong":
            raise RuntimeError("not allowed")

    @app.get("/", dependencies=[Depends(allowed)])
    @cache.cached(ignore=["session"])
    async def show(session: Session = Depends(opened)) -> str:  # noqa: B008
        calls.append("function")
        return "page"

    assert [get(app).json() for _ in range(2)] == ["page", "page"]
    assert calls == ["opened", "function", "closed", "opened", "closed"]
    assert get(app, "/", params={"key": "wrong"}).status_code == 500


def test_tags_of_the_arguments_of_the_result_and_of_the_code(
    app: FastAPI, cache: ResponseCache, tagcache_client: Client
) -> None:
    def listed(author: str, result: list[Post]) -> list[str]:
        return [f"author:{author}", *(f"post:{post.number}" for post in result)]

    @app.get("/{author}")
    @cache.cached(tags=listed)
    def show(author: str) -> list[Post]:
        # In a thread.
        cache_tag("from:code")
        return [Post(number=number, title="") for number in (1, 2)]

    @app.get("/callable/{author}")
    @cache.cached(tags=lambda author: [author])
    async def other(author: str) -> str:
        return author

    @app.get("/formats/{author}")
    @cache.cached(tags=["author:{author}", "title:{result.title}", b"{raw}"])
    async def formats(author: str) -> Post:
        return Post(number=1, title="One")

    get(app, "/ann")
    for tag in ("author:ann", "post:1", "post:2", "from:code"):
        assert len(tagcache_client.keys_by_tag(tag)) == 1, tag
    get(app, "/formats/bob")
    for tag in ("author:bob", "title:One", "{raw}"):
        assert len(tagcache_client.keys_by_tag(tag)) == 1, tag
    get(app, "/callable/ann")
    assert tagcache_client.invalidate_tag("ann") == 1
    assert visit(app, lambda client: cache.invalidate_tags(["post:1", "x"], "all")) == 0
    assert visit(app, lambda client: cache.invalidate_tags(["post:1", "x"])) == 1


def test_etags(app: FastAPI, cache: ResponseCache, calls: list[Any]) -> None:
    @app.get("/")
    @cache.cached(vary=["Accept-Language"])
    async def show(response: Response) -> str:
        calls.append(1)
        response.headers["x-color"] = "red"
        return "page"

    @app.get("/own")
    @cache.cached(cache_control="public, max-age=60")
    async def own() -> Response:
        return Response("text", headers={"ETag": '"mine"', "Cache-Control": "max-age=1"})

    first = get(app)
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["vary"] == "accept-language"
    etag = first.headers["etag"]
    assert etag.startswith('W/"')
    for known in (etag, etag[2:], f'"other", {etag}', "*", f'W/"a,b",{etag}'):
        response = get(app, headers={"if-none-match": known})
        assert (response.status_code, response.content) == (304, b""), known
        assert sorted(response.headers) == ["cache-control", "etag", "vary"]
        assert response.headers["etag"] == etag
    for known in ('"other"', "", etag.strip('"'), '"a'):
        assert get(app, headers={"if-none-match": known}).status_code == 200, known
    assert calls == [1]
    for _ in range(2):
        response = get(app, "/own")
        assert response.headers.get_list("cache-control") == ["max-age=1"]
        assert response.headers["etag"] == '"mine"'
        assert get(app, "/own", headers={"if-none-match": 'W/"mine"'}).status_code == 304


def test_a_new_response_has_a_new_etag(
    app: FastAPI, cache: ResponseCache, tagcache_client: Client
) -> None:
    text = ["old"]

    @app.get("/")
    @cache.cached(tags=["page"], cache_control=None)
    async def show() -> str:
        return text[0]

    first = get(app)
    assert "cache-control" not in first.headers
    text[0] = "new"
    known = {"if-none-match": first.headers["etag"]}
    assert get(app, headers=known).status_code == 304
    tagcache_client.invalidate_tag("page")
    # Also when it is not from the cache.
    assert get(app, headers=known).json() == "new"
    tagcache_client.invalidate_tag("page")
    assert get(app, headers={"if-none-match": get(app).headers["etag"]}).status_code == 304


def test_the_lifespan_opens_and_closes_the_cache(
    tagcache_server: Server, tagcache_client: Client
) -> None:
    cache = ResponseCache(tagcache_server.url, timeout=60.0)
    before = len(tagcache_client.clients())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with cache:
            yield

    async def run(one: Any) -> list[int]:
        app = FastAPI(lifespan=one)
        async with one(app):
            inside = len(tagcache_client.clients())
        while len(tagcache_client.clients()) > before:
            await asyncio.sleep(0)
        return [inside - before]

    # Twice, as tests do.
    assert [asyncio.run(run(each)) for each in (lifespan, cache.lifespan)] == [[1], [1]]


def test_starlette(cache: ResponseCache, calls: list[Any]) -> None:
    @cache.cached(tags=["page"])
    async def page(request: Request) -> Response:
        calls.append("page")
        return PlainTextResponse(f"hello {request.path_params['name']}")

    @cache.cached()
    def plain(request):  # type: ignore[no-untyped-def]
        calls.append("plain")
        return PlainTextResponse("plain")

    @cache.cached()
    async def wrong(request: Request) -> str:
        return "text"

    class Endpoint(HTTPEndpoint):
        @cache.cached()
        async def get(self, request: Request) -> Response:
            calls.append("endpoint")
            return PlainTextResponse("endpoint")

    inner = [Route("/page/{name}", page), Route("/plain", plain), Route("/endpoint", Endpoint)]
    app = Starlette(routes=[Mount("/inner", routes=inner), Route("/wrong", wrong), *inner])
    for path, text in [("/page/a", "hello a"), ("/plain", "plain"), ("/endpoint", "endpoint")]:
        for where in (path, path, f"/inner{path}"):
            assert get(app, where).text == text
        assert status(get(app, path)) == HIT
    assert calls == [each for each in ("page", "plain", "endpoint") for _ in range(2)]
    assert get(app, "/wrong").status_code == 500


def test_the_program_may_call_the_function_itself(cache: ResponseCache) -> None:
    @cache.cached()
    def plain(number: int) -> int:
        return number

    @cache.cached()
    async def coroutine(number: int) -> int:
        return number

    assert plain(7) == 7
    assert asyncio.run(coroutine(7)) == 7


def test_what_a_decorator_cannot_do(cache: ResponseCache) -> None:
    async def show(number: int) -> AsyncIterator[str]:
        yield "a"

    with pytest.raises(BadArgument, match="a stream cannot be cached"):
        cache.cached()(show)

    def plain(number: int) -> int:
        return number

    with pytest.raises(BadArgument, match="names 'x', not a parameter of .*plain"):
        cache.cached(tags=["post:{x}"])(plain)
    with pytest.raises(BadArgument, match="key=.* names 'x', not a parameter of .*plain"):
        cache.cached(key="post:{x.y}")(plain)
    with pytest.raises(BadArgument, match="tags=.* is not a format string"):
        cache.cached(tags=["post:{"])(plain)
    with pytest.raises(BadArgument, match="not a single str"):
        cache.cached(tags="post")(plain)
    with pytest.raises(BadArgument, match="ignore= names 'x', not a parameter"):
        cache.cached(ignore=["x"])(plain)
    with pytest.raises(BadArgument, match="ttl must be"):
        cache.cached(ttl=-1)
    with pytest.raises(BadArgument, match="serde cannot be chosen"):
        ResponseCache(serde="json")
    with pytest.raises(BadArgument, match="not an option"):
        ResponseCache(unknown=1)  # type: ignore[call-arg]
