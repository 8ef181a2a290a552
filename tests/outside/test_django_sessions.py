"""Django's session middleware without a reachable cache: a page waits for one timeout at most."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.scripted import ScriptedServer, black_hole, silent
from tests.integration.running import RunningServer
from tests.outside.uvicorn_site import TIMEOUT, UvicornSite

# The circuit breaker stays open for the whole test, so the counts do not depend on the machine.
OPTIONS = {"timeout": 0.5, "connect_timeout": 0.5, "breaker_seconds": 600}


@contextmanager
def refusing() -> Iterator[int]:
    # Bound, but not listening.
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextmanager
def never_answering() -> Iterator[int]:
    with ScriptedServer(silent) as server:
        yield server.port


AWAY = {"refusing": refusing, "never answering": never_answering, "black hole": black_hole}


@pytest.fixture(params=AWAY)
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    with AWAY[request.param]() as port:
        yield port


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/visits", "/async-visits"])
@pytest.mark.parametrize("ignore", [False, True])
def test_sessions_outlive_the_absence_of_the_cache(
    server: RunningServer, path: str, ignore: bool, tmp_path: Path
) -> None:
    options = {"timeout": 0.5, "breaker_seconds": 0.01, "ignore_exc": ignore}
    site = UvicornSite(
        tmp_path,
        "django_site",
        TAGCACHE_URL=f"tagcache://127.0.0.1:{server.port}",
        TAGCACHE_OPTIONS=json.dumps(options),
        SESSIONS="tagcache.contrib.django.sessions",
    )
    with site, site.client() as client:
        assert [client.get(path).json()["visits"] for _ in range(2)] == [1, 2]
        cookie = client.cookies["sessionid"]
        server.process.send_signal(signal.SIGSTOP)
        try:
            assert [client.get(path).json()["visits"] for _ in range(2)] == [1, 1]
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert client.cookies["sessionid"] == cookie
        end = time.monotonic() + TIMEOUT
        while (visits := client.get(path).json()["visits"]) == 1:
            assert time.monotonic() < end
        assert visits == 3


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
        assert "has been unavailable" in site.text()
