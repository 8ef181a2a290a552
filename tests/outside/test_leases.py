"""Leases, grace and soft invalidations as curl, redis-cli and redis-py meet them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.redis_server import RedisServer
from tests.integration.running import TIMEOUT, RunningServer

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    return done.stdout


def curl(server: RunningServer, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    options: list[str] = []
    if body is not None:
        options = ["-H", "content-type: application/json", "-d", json.dumps(body)]
    url = f"http://127.0.0.1:{server.http_port}{path}"
    out = run("curl", "-sS", "-u", "admin:password", "-w", "\n%{http_code}", *options, url)
    content, _, status = out.rpartition("\n")
    return int(status), json.loads(content)


def test_curl(server: RunningServer) -> None:
    status, found = curl(server, "/get/page?lease_ms=5000&wait_ms=0")
    assert (status, found["state"]) == (200, "lease")
    assert curl(server, "/get/page?lease_ms=5000")[1]["state"] == "wait"
    entry = {"key": "page", "value": "v", "tags": ["t"], "ttl_ms": 60_000, "grace_ms": 60_000}
    curl(server, "/invalidate-tag", {"tag": "t"})
    status, answer = curl(server, "/put", {**entry, "lease": found["lease"]})
    assert (status, answer["error"]) == (409, "lease_refused")
    lease = curl(server, "/get/page?lease_ms=5000")[1]["lease"]
    assert curl(server, "/put", {**entry, "lease": lease}) == (200, {"ok": True, "ttl_ms": 60_000})
    assert curl(server, "/invalidate-tag", {"tag": "t", "soft": True})[1]["count"] == 1
    assert curl(server, "/get/page") == (200, {"error": "not_found"})
    stale = curl(server, "/get/page?lease_ms=5000")[1]
    assert (stale["state"], stale["value"]) == ("stale", "v")
    released = curl(server, "/release", {"key": "page", "lease": stale["lease"]})
    assert released == (200, {"ok": True, "released": True})


def test_curl_waits_for_the_value(server: RunningServer) -> None:
    lease = curl(server, "/get/page?lease_ms=60000")[1]["lease"]
    url = f"http://127.0.0.1:{server.http_port}/get/page?lease_ms=5000&wait_ms=60000"
    command = ["curl", "-sS", "-u", "admin:password", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as waiting:
        while not curl(server, "/info")[1]["cache"]["waiting_fetches"]:
            assert waiting.poll() is None
        curl(server, "/put", {"key": "page", "value": "v", "lease": lease})
        out, _ = waiting.communicate(timeout=TIMEOUT)
    assert json.loads(out) == {"state": "hit", "value": "v", "lease": None}


def test_curl_computes_after_a_flush(server: RunningServer) -> None:
    curl(server, "/get/page?lease_ms=60000")
    url = f"http://127.0.0.1:{server.http_port}/get/page?lease_ms=5000&wait_ms=60000"
    command = ["curl", "-sS", "-u", "admin:password", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as waiting:
        while not curl(server, "/info")[1]["cache"]["waiting_fetches"]:
            assert waiting.poll() is None
        assert run("redis-cli", "-p", server.port, "FLUSHALL") == "OK\n"
        out, _ = waiting.communicate(timeout=TIMEOUT)
    assert json.loads(out)["state"] == "lease"


def test_redis_cli(server: RunningServer) -> None:
    def cli(*words: object) -> list[str]:
        return run("redis-cli", "-p", server.port, *words).splitlines()

    state, value, token = cli("TAG.FETCH", "page", "LEASE", 5000)
    assert (state, value) == ("LEASE", "")
    store = ("TAG.SET", "page", "v", "EX", 60, "GRACE", 60_000, "LEASE")
    assert cli(*store, token, "TAGS", 1, "t") == ["OK"]
    assert cli("TAG.INVALIDATE", "SOFT", 1, "t") == ["1"]
    state, value, token = cli("TAG.FETCH", "page", "LEASE", 5000)
    assert (state, value) == ("STALE", "v")
    assert cli("TAG.INVALIDATE", 1, "t") == ["0"]
    assert cli(*store, token, "TAGS", 1, "t") == [""]
    state, _, token = cli("TAG.FETCH", "page", "LEASE", 5000)
    assert state == "LEASE"
    assert cli("TAG.RELEASE", "page", token) == ["1"]


def test_the_usual_recipe_keeps_the_old_value(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    try:
        out = run(sys.executable, EXAMPLES / "stale_redis.py", server.url)
    finally:
        server.stop()
    assert out == "the database says: new title\nthe cache says:    old title\n"


@pytest.mark.parametrize("number", [0, 3])
def test_with_a_lease_the_old_value_is_refused(server: RunningServer, number: int) -> None:
    url = f"redis://127.0.0.1:{server.port}/{number}"
    out = run(sys.executable, EXAMPLES / "fresh_page.py", url)
    assert out == (
        "the store of the old title was refused\n"
        "the database says: new title\nthe cache says:    new title\n"
    )
    # The recipe does not depend on the server that it uses.
    out = run(sys.executable, EXAMPLES / "stale_redis.py", url)
    assert out.endswith("the cache says:    old title\n")


def test_a_stop_answers_who_waits(server: RunningServer) -> None:
    with server.connect() as first, server.connect() as other:
        assert first.ask(b"FETCH\tk\t60000\n").startswith(b"LEASE\t")
        other.send(b"FETCH\tk\t60000\t60000\n")
        while not first.json(b"INFO\n")["cache"]["waiting_fetches"]:
            pass
        server.stop()
        assert other.line().startswith(b"WAIT\t")
