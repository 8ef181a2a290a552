"""The metrics for Prometheus, and the rules and panels that use them."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import signal
import socket
import subprocess
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagcache.config.passwords import hash_password
from tests.integration.running import ENGINE_URL, TIMEOUT, RunningServer, busy_seconds, eventually

Start = Callable[..., RunningServer]
MONITORING = Path(__file__).resolve().parents[2] / "docs" / "monitoring"
AUTHORIZATION = "Basic " + b64encode(b"admin:password").decode()


def get(server: RunningServer, path: str, status: int = 200) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    connection.request("GET", path, headers={"Authorization": AUTHORIZATION})
    with connection.getresponse() as response:
        content = response.read()
    connection.close()
    assert response.status == status, content
    return content


def promtool(*arguments: object, stdin: bytes = b"") -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], input=stdin, capture_output=True, cwd=MONITORING
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return (done.stdout + done.stderr).decode()


def names_told(server: RunningServer) -> set[str]:
    found = re.findall(rb"^(\w+)(?:\{| )", get(server, "/metrics"), re.MULTILINE)
    return {name.decode() for name in found}


def names_asked() -> set[str]:
    """The metrics that rules and panels use."""
    dashboard = json.loads((MONITORING / "grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) > 20
    asked.append((MONITORING / "alerts.yml").read_text())
    return set(re.findall(r"\b((?:tagcache|process)_\w+)\b", " ".join(asked)))


@pytest.mark.needs("promtool")
def test_prometheus_finds_nothing_wrong_with_the_metrics(server: RunningServer) -> None:
    server.ask(b"PUT\tk\t-\tt\tv")
    server.ask(b"GET\n")
    eventually(lambda: b"tagcache_command_duration_seconds_bucket" in get(server, "/metrics"))
    assert promtool("check", "metrics", stdin=get(server, "/metrics")) == ""


@pytest.mark.needs("promtool")
def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_rules_and_panels_ask_for_metrics_that_there_are(start: Start, tmp_path: Path) -> None:
    server = start(
        {"persistence": {"snapshot_file": tmp_path / "s", "snapshot_interval_seconds": 0.2}}
    )
    server.ask(b"GET\n")
    get(server, "/nowhere", status=404)
    eventually(lambda: b'code="404"' in get(server, "/metrics"))
    snapshot = "tagcache_snapshot_age_seconds"
    if not ENGINE_URL:
        eventually(lambda: snapshot.encode() in get(server, "/metrics"))
    told = names_told(server) | ({snapshot} if ENGINE_URL else set())
    # The metrics of the near cache exist only if there is one.
    assert {name for name in names_asked() - told if "_near_" not in name} == set()


@pytest.mark.needs("promtool")
def test_the_panels_ask_in_proper_promql(tmp_path: Path) -> None:
    dashboard = json.loads((MONITORING / "grafana.json").read_text())
    rules = [
        {"record": f"panel:{panel['id']}:{target['refId'].lower()}", "expr": expression}
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for expression in [
            target["expr"].replace("$__rate_interval", "1m").replace("$instance", "x")
        ]
    ]
    # JSON is valid YAML.
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "p", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", tmp_path / "panels.yml")
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_metrics_ask_for_credentials(server: RunningServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    connection.request("GET", "/metrics")
    with connection.getresponse() as response:
        assert response.status == 401
    connection.close()


def test_numbers_grow_with_what_is_done(server: RunningServer) -> None:
    def value(name: str) -> float:
        match = re.search(rf"^{re.escape(name)} (\S+)$", get(server, "/metrics").decode(), re.M)
        assert match is not None, name
        return float(match[1])

    with server.connect() as client:
        client.send(b"PUT\ta\t-\tt\tv\nGET\ta\nGET\tb\nINV_TAG\tt\n")
        for _ in range(4):
            client.line()
        assert value('tagcache_commands_total{cmd="get"}') == 2
        assert value('tagcache_keyspace_hits_total{db="0"}') == 1
        assert value('tagcache_invalidated_keys_total{db="0"}') == 1
        assert value("tagcache_connected_clients") == 2
        client.send(b"GET\ta\n" * 1000)
        for _ in range(1000):
            client.line()
        assert value('tagcache_commands_total{cmd="get"}') == 1002


def keys_among(noted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in noted if each["command"] == "keys"]


def test_checking_and_changing_a_password_is_not_a_slow_command(start: Start) -> None:
    # A hash takes tens of milliseconds on purpose.
    server = start(
        {
            "authentication": {"password": hash_password("secret", secrets.token_bytes)},
            "logging": {"slow_command_ms": 10},
        }
    )
    assert server.ask(b"AUTH\tadmin\tsecret") == b"OK\n"
    for method, path, body in (
        ("GET", "/get/k", None),
        ("POST", "/auth/login", {"username": "admin", "password": "secret"}),
        ("POST", "/auth/change_password", {"new_password": "other"}),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)
        headers = {"Content-Type": "application/json"}
        headers["Authorization"] = "Basic " + b64encode(b"admin:secret").decode()
        connection.request(method, path, json.dumps(body), headers)
        assert connection.getresponse().status == 200
        connection.close()
    told = server.ask(b"SLOWLOG").split(b"\t", 1)[1]
    commands = {each["command"] for each in json.loads(told)}
    hashing = {"auth", "GET /get/{key}", "POST /auth/login", "POST /auth/change_password"}
    assert not commands & hashing


def test_a_slow_command_is_in_the_slow_log_in_the_events_and_in_the_log(start: Start) -> None:
    server = start({"logging": {"slow_command_ms": 1, "level": "info"}})
    with server.connect() as client:
        client.send(b"".join(b"PUT\tk%d\t-\tt\tv\n" % n for n in range(30_000)))
        for _ in range(30_000):
            client.line()
        client.ask(b"KEYS\tt")
        # Other commands may have been slow too; on a busy machine, even those of this test.
        (slow,) = keys_among(client.json(b"SLOWLOG\t100"))
        assert slow["argument"] == "t"
        assert slow["duration_ms"] >= 1
    told = json.loads(get(server, "/slowlog?limit=100"))
    assert told["slow_command_ms"] == 1
    assert keys_among(told["slow"])
    assert keys_among(json.loads(get(server, "/events/log?kind=slow"))["events"])
    assert "slow: " in server.text()
    log = server.reload(logging={"slow_command_ms": 0, "level": "info"})
    assert "logging.slow_command_ms: 1 -> 0" in log
    count = json.loads(get(server, "/slowlog"))["total"]
    server.ask(b"KEYS\tt")
    assert json.loads(get(server, "/slowlog"))["total"] == count


def stream(server: RunningServer) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.http_port), 60)
    sock.sendall(
        f"GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTHORIZATION}\r\n\r\n".encode()
    )
    return sock


def test_events_come_as_they_happen_and_the_stream_ends_at_a_stop(server: RunningServer) -> None:
    with stream(server) as sock:
        data = sock.recv(65536)
        while b"event: hello" not in data:
            data += sock.recv(65536)
        assert data.startswith(b"HTTP/1.1 200 ")
        server.ask(b"PUT\tk\t-\tt\tv")
        server.ask(b"INV_TAG\tt")
        while b"event: log" not in data:
            data += sock.recv(65536)
        assert b'"command":"INV_TAG","names":["t"]' in data
        assert data.count(b"event: sample") >= 1
        server.process.terminate()
        while sock.recv(65536):
            pass
        assert server.process.wait(TIMEOUT) == -signal.SIGTERM


def test_a_large_dry_run_answers_while_others_are_served(server: RunningServer) -> None:
    with server.connect() as client:
        lines = [b"PUT\tk%d\t-\tt\tv\n" % n for n in range(100_000)]
        client.send(b"".join(lines))
        for _ in lines:
            client.line()
        body = json.dumps({"tag": "t"})
        with socket.create_connection(("127.0.0.1", server.http_port), 60) as sock:
            sock.sendall(
                "POST /invalidate-tag?dry_run=true HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: {AUTHORIZATION}\r\n"
                "Content-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            waits = []
            sock.setblocking(False)
            answer = b""
            while b'"count"' not in answer:
                before = busy_seconds(server.process.pid)
                client.ask(b"PING")
                waits.append(busy_seconds(server.process.pid) - before)
                try:
                    answer += sock.recv(4096)
                except BlockingIOError:
                    continue
        assert b'"count":100000,"dry_run":true' in answer
        # Redis counts at once. The memory engine counts in slices, between other work.
        assert len(waits) > (0 if ENGINE_URL else 10)
        assert sorted(waits)[len(waits) // 2] < 0.02
        assert client.ask(b"INV_TAG\tt") == b"INV_TAG\t100000\n"
