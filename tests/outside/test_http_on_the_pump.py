"""HTTP clients that keep their connections, against a server on the reactor with the pump."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import httpx
import pytest

from tagcache import native
from tests.integration.conftest import start
from tests.integration.running import TIMEOUT, RunningServer

__all__ = ["start"]

pytestmark = [
    pytest.mark.skipif(native.core is None, reason="the native core is not in use"),
    pytest.mark.slow,
]

AUTH = ("admin", "password")
VALUES = [
    "plain",
    "",
    'a "quoted" \\ text',
    "two\nlines",
    "\u20ac \U0001f600",
    "\\:mark",
    "x" * 70_000,
]


@pytest.fixture
def server(start: Callable[..., RunningServer]) -> RunningServer:
    return start(reactor="tagcache")


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    url = f"http://127.0.0.1:{server.http_port}"
    with httpx.Client(base_url=url, auth=AUTH, timeout=TIMEOUT) as client:
        yield client


def test_httpx_reads_what_it_wrote(client: httpx.Client) -> None:
    for turn in range(5):
        for number, value in enumerate(VALUES):
            body = {"key": f"k{number}", "value": value, "tags": ["t"], "ttl_ms": 60_000 + turn}
            stored = client.post("/put", json=body)
            assert stored.json() == {"ok": True, "ttl_ms": 60_000 + turn}
            assert client.get(f"/get/k{number}").json() == {"value": value}
    for _ in range(5):
        assert client.get("/get/none").json() == {"error": "not_found"}
    assert client.post("/invalidate-tag", json={"tag": "t"}).json()["count"] == len(VALUES)
    for _ in range(5):
        assert client.get("/get/k0").json() == {"error": "not_found"}
    (connection,) = (
        each
        for each in client.get("/connections").json()["connections"]
        if each["listener"] == "http"
    )
    assert connection["commands"] == 5 * 2 * len(VALUES) + 5 + 1 + 5 + 1
    metrics = client.get("/metrics").text
    assert f'requests_total{{route="POST /put"}} {5 * len(VALUES)}.0' in metrics
    assert f'requests_total{{route="GET /get/{{key}}"}} {5 * len(VALUES) + 10}.0' in metrics


def test_httpx_needs_the_new_password(client: httpx.Client) -> None:
    body = {"key": "k", "value": "v"}
    for _ in range(5):
        assert client.post("/put", json=body).status_code == 200
        assert client.get("/get/k").json() == {"value": "v"}
    changed = client.post("/auth/change_password", json={"new_password": "another password"})
    assert changed.status_code == 200
    assert client.get("/get/k").status_code == 401
    assert client.post("/put", json=body).status_code == 401
    client.auth = ("admin", "another password")
    for _ in range(5):
        assert client.get("/get/k").json() == {"value": "v"}


def test_curl_gets_many_on_one_connection(server: RunningServer) -> None:
    url = f"http://127.0.0.1:{server.http_port}"
    auth = ["-u", ":".join(AUTH)]
    body = json.dumps({"key": "k", "value": "v"})
    put = [*auth, "-H", "Content-Type: application/json", "-d", body, url + "/put"]
    get = [*auth, *[f"{url}/get/{key}" for key in ("k", "none", "k", "k")]]
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{num_connects}\n", *put, "--next", "-sS", *get],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    found = '{"value":"v"}'
    expected = f'{{"ok":true,"ttl_ms":null}}\n1\n{found}{{"error":"not_found"}}{found}{found}'
    assert done.stdout == expected
