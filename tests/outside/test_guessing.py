"""Password guessing with curl, and a valid log-in meanwhile."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import server, start
from tests.integration.running import RunningServer

__all__ = ["server", "start"]

pytestmark = pytest.mark.needs("curl")
Start = Callable[..., RunningServer]


def curl(server: RunningServer, path: str, *more: str) -> int:
    """Return the status that curl receives."""
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *more]
    command.append(f"http://127.0.0.1:{server.http_port}{path}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


def login(server: RunningServer, password: str) -> tuple[int, dict[str, Any]]:
    body = json.dumps({"username": "admin", "password": password})
    command = ["curl", "-s", "-w", "\n%{http_code}", "-H", "content-type: application/json"]
    command += ["-d", body, f"http://127.0.0.1:{server.http_port}/auth/login"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    answer, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(answer)


def test_all_of_loopback_guesses_as_one(server: RunningServer) -> None:
    token = login(server, "password")[1]["token"]
    seen = [
        curl(server, "/stats", "--interface", f"127.0.{n}.{n + 1}", "-u", f"admin:guess{n}")
        for n in range(12)
    ]
    assert seen[:5] == [401] * 5
    assert 429 in seen
    while curl(server, "/stats", "-u", "admin:another") != 429:
        pass
    # The throttle is for passwords only. Other requests are answered as usual.
    assert curl(server, "/stats") == 401
    assert curl(server, "/stats", "-H", "Authorization: Bearer nonsense") == 401
    assert curl(server, "/stats", "-H", f"Authorization: Bearer {token}") == 200


def test_failures_count_in_a_row(server: RunningServer) -> None:
    assert curl(server, "/stats", "-u", "admin:password") == 200
    for number in range(4):
        for guess in range(4):
            assert curl(server, "/stats", "-u", f"admin:{number}-{guess}") == 401
        assert curl(server, "/stats", "-u", "admin:password") == 200


def test_a_login_while_no_thread_can_be_had(start: Start) -> None:
    server = start({"authentication": {"password": "plain"}})
    # Then the password is stored as a hash, and checked in a thread. A new server has no hash.
    body = json.dumps({"new_password": "right"})
    kind = "content-type: application/json"
    changed = ("-u", "admin:plain", "-H", kind, "-d", body)
    assert curl(server, "/auth/change_password", *changed) == 200
    server = start(config=server.config.read_text())
    pid = server.process.pid
    status = Path(f"/proc/{pid}/status").read_text()
    size = int(status.partition("VmSize:")[2].split()[0]) * 1024
    before = resource.prlimit(pid, resource.RLIMIT_AS, (size + 2**20, resource.RLIM_INFINITY))
    assert login(server, "right")[0] == 507
    assert curl(server, "/stats", "-u", "admin:right") == 507
    with server.connect() as client:
        assert client.ask(b"AUTH\tadmin\tright") == b"ERR out_of_memory\n"
    assert "no thread for a password" in server.text()
    resource.prlimit(pid, resource.RLIMIT_AS, before)
    assert login(server, "right")[0] == 200
    assert curl(server, "/stats", "-u", "admin:right") == 200
    with server.connect() as client:
        assert client.ask(b"AUTH\tadmin\tright") == b"OK\n"
