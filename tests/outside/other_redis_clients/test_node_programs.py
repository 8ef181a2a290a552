"""Programs of Node that run for a while: through a restart of the server, and a site."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.integration.running import TIMEOUT
from tests.outside.other_redis_clients.programs import NODE, environ
from tests.outside.other_redis_clients.target import Target

pytestmark = pytest.mark.needs("redis-server", "redis-cli", "node", "npm")


@contextmanager
def program(target: Target, source: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program of Node with pipes; it is killed at the end."""
    running = subprocess.Popen(
        ["node", str(NODE / source), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ(target, target),
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("module", ["ioredis", "redis"])
def test_a_restart_loses_no_request(module: str, restarted: Target, node_modules: None) -> None:
    with program(restarted, "restart.mjs", module) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline() == "connected\n"
        restarted.stop()
        running.stdin.write("go on\n")
        running.stdin.flush()
        assert running.stdout.readline() == "waiting\n"
        restarted.start()
        running.stdin.write("go on\n")
        running.stdin.flush()
        # The cache is empty after a restart.
        assert json.loads(running.stdout.readline()) == [None, "2"]
        assert running.wait(TIMEOUT) == 0


@pytest.fixture
def url(target: Target, node_modules: None) -> Iterator[str]:
    with program(target, "session_site.mjs") as site:
        assert site.stdout is not None
        yield f"http://127.0.0.1:{int(site.stdout.readline())}"


def test_sessions_of_a_site(url: str) -> None:
    with httpx.Client(base_url=url) as one, httpx.Client(base_url=url) as other:
        assert [one.get("/visit").json() for _ in range(3)] == [1, 2, 3]
        assert other.get("/visit").json() == 1
        # Without a change, only its time to live is renewed.
        assert one.get("/look").json() == 3
        assert sorted(one.get("/all").json()) == [1, 3]
        assert one.get("/count").json() == 2
        assert 0 < one.get("/milliseconds-left").json() <= 60_000
        assert one.get("/leave").json() == 0
        assert one.get("/look").json() == 0
        assert other.get("/look").json() == 1
        assert other.get("/clear").json() == 0
        assert other.get("/look").json() == 0
