"""What is never cached, and what happens without a cache."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.authentication import AuthCredentials, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware

from tagcache.client import Client
from tagcache.contrib.fastapi import ResponseCache
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import ClientError, Unavailable
from tests.contrib.fastapi_site import HIT, MISS, get, status, visit


@pytest.fixture
def cache(tagcache_server: Server, tagcache_client: Client) -> ResponseCache:
    return ResponseCache(tagcache_server.url, timeout=60.0)


@pytest.fixture
def app() -> FastAPI:
    return FastAPI()


@pytest.fixture
def calls() -> list[Any]:
    return []


def detail(why: str) -> str:
    return f'{MISS}; detail="{why}"'


def bypass(why: str) -> str:
    return f'tagcache; fwd=bypass; detail="{why}"'


def test_other_methods(
    app: FastAPI, cache: ResponseCache, calls: list[Any], tagcache_client: Client
) -> None:
    @app.api_route("/", methods=["GET", "POST", "HEAD"])
    @cache.cached()
    async def show(request: Request) -> str:
        calls.append(request.method)
        return "page"

    assert status(get(app)) == MISS
    for method in ("POST", "HEAD", "POST"):
        response = visit(app, lambda client, method=method: client.request(method, "/"))
        assert response.status_code == 200
        assert status(response) == bypass("method")
    assert calls == ["GET", "POST", "HEAD", "POST"]
    assert tagcache_client.flush() == 1


def test_cookies(app: FastAPI, cache: ResponseCache, tagcache_client: Client) -> None:
    def visitor(response: Response) -> None:
        response.set_cookie("visitor", "1")

    @app.get("/by-function")
    @cache.cached()
    async def by_function(response: Response) -> str:
        response.set_cookie("a", "b")
        return "page"

    @app.get("/by-response")
    @cache.cached()
    async def by_response() -> Response:
        response = Response("page")
        response.set_cookie("a", "b")
        return response

    @app.get("/by-dependency", dependencies=[Depends(visitor)])
    @cache.cached()
    async def by_dependency() -> str:
        return "page"

    @app.get("/all-the-same", dependencies=[Depends(visitor)])
    @cache.cached(authenticated=True)
    async def all_the_same() -> str:
        return "page"

    for path, said in [
        ("/all-the-same", bypass("Set-Cookie")),
        ("/by-function", detail("Set-Cookie")),
        ("/by-response", detail("Set-Cookie")),
        ("/by-dependency", bypass("Set-Cookie")),
    ]:
        for _ in range(2):
            response = get(app, path)
            assert status(response) == said
            assert len(response.headers.get_list("set-cookie")) == 1
    assert tagcache_client.flush() == 0


def test_authorization(app: FastAPI, cache: ResponseCache, calls: list[Any]) -> None:
    @app.get("/")
    @cache.cached()
    async def show(request: Request) -> str:
        calls.append(request.headers.get("authorization"))
        return "page"

    @app.get("/shared")
    @cache.cached(authenticated=True)
    async def shared() -> str:
        return "page"

    @app.get("/own")
    @cache.cached(authenticated=True, vary=["authorization"])
    async def own(request: Request) -> str | None:
        return request.headers.get("authorization")

    ann, bob = {"authorization": "Bearer ann"}, {"authorization": "Bearer bob"}
    assert status(get(app, headers=ann)) == bypass("Authorization")
    assert status(get(app)) == MISS
    assert status(get(app, headers=bob)) == bypass("Authorization")
    assert status(get(app)) == HIT
    assert calls == ["Bearer ann", None, "Bearer bob"]
    assert [status(get(app, "/shared", headers=each)) for each in (ann, bob)] == [MISS, HIT]
    for _ in range(2):
        assert [get(app, "/own", headers=each).json() for each in (ann, bob)] == [
            "Bearer ann",
            "Bearer bob",
        ]


def test_a_user_who_is_logged_in(cache: ResponseCache) -> None:
    class Backend:
        async def authenticate(self, conn: Any) -> Any:
            name = conn.query_params.get("name")
            return (AuthCredentials(), SimpleUser(name)) if name else None

    app = FastAPI()
    app.add_middleware(AuthenticationMiddleware, backend=Backend())  # type: ignore[arg-type]

    @app.get("/")
    @cache.cached()
    async def show(request: Request) -> str:
        return str(request.user.display_name)

    assert [status(get(app, "/?name=ann")) for _ in range(2)] == [bypass("user")] * 2
    assert [status(get(app)) for _ in range(2)] == [MISS, HIT]


class Sessions:
    """What SessionMiddleware does, whose library is not installed here."""

    def __init__(self, app: Any, session: dict[str, Any]) -> None:
        self._app = app
        self._session = session

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["session"] = self._session
        await self._app(scope, receive, send)


def test_sessions(app: FastAPI, cache: ResponseCache, tagcache_client: Client) -> None:
    @app.get("/reads")
    @cache.cached()
    async def reads(request: Request) -> str:
        return str(request.session.get("name"))

    @app.get("/writes")
    @cache.cached()
    async def writes(request: Request) -> str:
        request.session["name"] = "ann"
        return "page"

    @app.get("/other")
    @cache.cached()
    async def other() -> str:
        return "page"

    ann = Sessions(app, {"name": "ann"})
    assert [status(get(ann, path)) for path in ("/reads", "/other")] == [bypass("session")] * 2
    assert status(get(Sessions(app, {}), "/writes")) == detail("session")
    assert tagcache_client.flush() == 0
    assert [status(get(Sessions(app, {}), "/other")) for _ in range(2)] == [MISS, HIT]


@pytest.mark.parametrize("code", [201, 206, 302, 304, 307, 400, 401, 404, 410, 500, 503])
def test_statuses(app: FastAPI, cache: ResponseCache, tagcache_client: Client, code: int) -> None:
    @app.get("/returned")
    @cache.cached()
    async def returned() -> Response:
        return JSONResponse({}, code) if code != 304 else Response(status_code=304)

    @app.get("/raised")
    @cache.cached()
    async def raised() -> Response:
        raise HTTPException(code, headers={"x-why": "raised"})

    for _ in range(2):
        response = get(app, "/returned")
        assert (response.status_code, status(response)) == (code, detail(f"status {code}"))
        response = get(app, "/raised")
        assert (response.status_code, response.headers["x-why"]) == (code, "raised")
    assert tagcache_client.flush() == 0


@pytest.mark.parametrize("code", [200, 203, 204, 301, 308])
def test_statuses_that_are_cached(app: FastAPI, cache: ResponseCache, code: int) -> None:
    @app.get("/")
    @cache.cached()
    async def show() -> Response:
        return Response(status_code=code, headers={"location": "/there"})

    responses = [get(app, follow_redirects=False) for _ in range(2)]
    assert [response.status_code for response in responses] == [code] * 2
    assert [status(response) for response in responses] == [MISS, HIT]


def test_streams_and_files(app: FastAPI, cache: ResponseCache, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content")

    @app.get("/stream")
    @cache.cached()
    async def stream() -> Response:
        return StreamingResponse(iter([b"con", b"tent"]))

    @app.get("/file")
    @cache.cached()
    async def send() -> Response:
        return FileResponse(file)

    for path in ("/stream", "/file") * 2:
        response = get(app, path)
        assert (response.text, status(response)) == ("content", detail("streamed"))


@pytest.mark.parametrize("value", ["no-store", "max-age=1, Private", 'private="set-cookie"'])
def test_what_the_response_forbids(app: FastAPI, cache: ResponseCache, value: str) -> None:
    @app.get("/")
    @cache.cached()
    async def show(response: Response) -> str:
        response.headers["cache-control"] = value
        return "page"

    for _ in range(2):
        response = get(app)
        assert status(response) == detail("Cache-Control")
        assert response.headers["cache-control"] == value


def test_vary(app: FastAPI, cache: ResponseCache) -> None:
    @app.get("/language")
    @cache.cached(vary=["Accept-Language"])
    async def language(request: Request, response: Response) -> str:
        response.headers["vary"] = "Accept-Language"
        return request.headers.get("accept-language", "none")

    @app.get("/unknown")
    @cache.cached(vary=["accept-language"])
    async def unknown(response: Response) -> str:
        response.headers["vary"] = "accept-language, user-agent"
        return "page"

    @app.get("/all")
    @cache.cached(vary=["accept-language"])
    async def everything() -> Response:
        return Response("page", headers={"vary": "*"})

    for _ in range(2):
        for name in ("de", "en"):
            response = get(app, "/language", headers={"accept-language": name})
            assert response.json() == name
            assert response.headers.get_list("vary") == ["Accept-Language"]
        for path in ("/unknown", "/all"):
            assert status(get(app, path)) == detail("Vary")
    assert status(response) == HIT


def test_a_dependency_may_forbid_it(app: FastAPI, cache: ResponseCache) -> None:
    def dependency(response: Response, name: str = "vary", value: str = "cookie") -> None:
        response.headers[name] = value

    @app.get("/", dependencies=[Depends(dependency)])
    @cache.cached()
    async def show() -> str:
        return "page"

    for _ in range(2):
        response = get(app)
        assert (status(response), response.headers["vary"]) == (detail("Vary"), "cookie")
        response = get(app, "/?name=cache-control&value=no-store")
        assert response.headers.get_list("cache-control") == ["no-store"]
        assert status(response) == detail("Cache-Control")
    response = get(app, "/?name=cache-control&value=max-age=5")
    assert response.headers.get_list("cache-control") == ["max-age=5"]


def test_clients_may_ask_for_a_new_response(
    app: FastAPI, cache: ResponseCache, calls: list[Any]
) -> None:
    @app.get("/{name}")
    @cache.cached(refresh=True)
    async def show(name: str) -> int:
        calls.append(name)
        return len(calls)

    @app.get("/not/{name}")
    @cache.cached()
    async def other(name: str) -> int:
        calls.append(name)
        return len(calls)

    def asked(control: str, path: str = "/a") -> int:
        found: int = get(app, path, headers={"cache-control": control}).json()
        return found

    assert [asked("max-age=60") for _ in range(2)] == [1, 1]
    assert [asked("No-Cache"), asked("max-age=60")] == [2, 2]
    assert [asked("foo, max-age=0"), asked("")] == [3, 3]
    assert [asked("no-store"), asked("")] == [4, 3]
    assert [asked("no-cache", "/not/a") for _ in range(2)] == [5, 5]


def test_a_stale_response_instead_of_an_error(
    app: FastAPI, cache: ResponseCache, tagcache_client: Client, calls: list[Any]
) -> None:
    answers: Iterator[Any] = iter(
        [
            *("page", HTTPException(503), KeyError("database"), JSONResponse({}, 500)),
            *(HTTPException(404), JSONResponse({}, 404), "new page"),
        ]
    )

    @app.get("/")
    @cache.cached(ttl=60, grace=60, tags=["page"])
    async def show() -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert get(app).json() == "page"
    tagcache_client.invalidate_tag("page", soft=True)
    seen = [(response.status_code, response.json()) for response in (get(app) for _ in range(3))]
    assert seen == [(200, "page")] * 3
    assert [get(app).status_code for _ in range(2)] == [404, 404]
    assert [get(app).json() for _ in range(2)] == ["new page"] * 2


def test_a_response_that_was_outdated_meanwhile_is_not_stored(
    app: FastAPI, cache: ResponseCache, tagcache_client: Client
) -> None:
    @app.get("/")
    @cache.cached(tags=["page"])
    def show() -> str:
        tagcache_client.invalidate_tag("page")
        return "page"

    assert [status(get(app)) for _ in range(2)] == [MISS, MISS]
    assert tagcache_client.flush() == 0


def test_without_a_cache_the_function_runs(
    calls: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[ClientError] = []
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"tagcache://127.0.0.1:{closed.getsockname()[1]}"
    cache = ResponseCache(url, on_error=errors.append, breaker_seconds=1000)
    app = FastAPI(lifespan=cache.lifespan)

    @app.get("/")
    @cache.cached(tags=["page"])
    async def show(response: Response) -> str:
        calls.append(1)
        if len(calls) == 4:
            response.set_cookie("a", "b")
        if len(calls) == 5:
            raise HTTPException(404)
        return "page"

    async def main() -> None:
        async with cache.lifespan(app):
            with pytest.raises(Unavailable):
                await cache.invalidate_tag("page")

    asyncio.run(main())
    responses = [get(app) for _ in range(5)]
    assert [response.status_code for response in responses] == [200, 200, 200, 200, 404]
    assert [status(response) for response in responses[:3]] == [MISS] * 3
    assert len(calls) == 5
    known = {"if-none-match": responses[0].headers["etag"]}
    assert get(app, headers=known).status_code == 304
    assert len(errors) == 7
    # Once, and not for every request.
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "responses are not cached"
    ]


def test_an_error_of_another_cache_is_that_of_the_function(
    app: FastAPI, cache: ResponseCache, calls: list[Any]
) -> None:
    @app.get("/")
    @cache.cached()
    async def show() -> str:
        calls.append(1)
        raise Unavailable("another one")

    assert get(app).status_code == 500
    assert calls == [1]


def test_a_response_that_the_server_refuses(
    app: FastAPI, cache: ResponseCache, calls: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/{name}")
    @cache.cached(tags=["name:{name}"])
    async def show(name: str) -> str:
        calls.append(name)
        return name

    name = "a" * 30_000
    assert [get(app, f"/{name}").json() for _ in range(2)] == [name] * 2
    assert len(calls) == 2
    assert "responses are not cached" in caplog.text


def test_an_entry_that_is_not_a_response(
    app: FastAPI, cache: ResponseCache, tagcache_client: Client
) -> None:
    @app.get("/")
    @cache.cached(key="page")
    async def show() -> str:
        return "page"

    for wrong in ("text", "[1]\n", '[200,true,[["a"]]]\n', "[200,true,[[1,2]]]\n", "{}\n", "\n"):
        tagcache_client.put("page", 1)
        with Client(tagcache_client.options, serde="text") as client:
            client.put("page", wrong)
        assert get(app).json() == "page"
