"""Django's session middleware with a cache that is away: a page costs one timeout at most."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.scripted import ScriptedServer, silent
from tests.outside.uvicorn_site import UvicornSite

# The breaker stays open for the whole test: what is counted does not depend on the machine.
OPTIONS = {"timeout": 0.5, "connect_timeout": 0.5, "breaker_seconds": 600}


def refusing(stack: ExitStack) -> int:
    # Bound, but nobody listens.
    sock = stack.enter_context(socket.socket())
    sock.bind(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    return port


def silent_port(stack: ExitStack) -> int:
    return stack.enter_context(ScriptedServer(silent)).port


def black_hole(stack: ExitStack) -> int:
    """A port whose queue of connections is full, so that the system drops every further one."""
    listening = stack.enter_context(socket.socket())
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    port: int = listening.getsockname()[1]
    while True:
        filling = stack.enter_context(socket.socket())
        filling.settimeout(0.5)
        try:
            filling.connect(("127.0.0.1", port))
        except TimeoutError:
            return port


AWAY = {"refusing": refusing, "silent": silent_port, "black hole": black_hole}


@pytest.fixture(params=AWAY)
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    with ExitStack() as stack:
        yield AWAY[request.param](stack)


@pytest.mark.parametrize("path", ["/visits", "/async-visits"])
def test_what_is_ignored_is_tried_once(port: int, path: str, tmp_path: Path) -> None:
    options = json.dumps({**OPTIONS, "ignore_exc": True})
    url = f"tagcache://127.0.0.1:{port}"
    with (
        UvicornSite(tmp_path, "django_site", TAGCACHE_URL=url, TAGCACHE_OPTIONS=options) as site,
        site.client() as client,
    ):
        for _ in range(2):
            response = client.get(path)
            assert (response.status_code, response.json()) == (200, {"visits": 1})
        told = client.get("/errors").json()["told"]
        assert told[0] in ("ConnectionFailed", "TimedOut")
        assert set(told[1:]) == {"CircuitOpen"}
        assert len(told) < 20


def test_what_is_not_ignored_is_tried_once(tmp_path: Path) -> None:
    with ScriptedServer(silent) as server:
        site = UvicornSite(
            tmp_path,
            "django_site",
            TAGCACHE_URL=f"tagcache://127.0.0.1:{server.port}",
            TAGCACHE_OPTIONS=json.dumps(OPTIONS),
        )
        try:
            with site.client() as client:
                assert [client.get("/visits").status_code for _ in range(3)] == [500] * 3
        finally:
            site.process.kill()
            site.process.wait()
        assert server.connections == 1
        assert "is held to be away" in site.text()
