"""Numbered databases with redis-cli, curl, nc and promtool."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.integration.running import RunningServer

pytestmark = pytest.mark.needs("redis-cli", "curl", "nc", "promtool")


def run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def redis_cli(server: RunningServer, db: int, *words: str) -> str:
    return run("redis-cli", "-p", str(server.port), "-n", str(db), *words).strip()


def curl(server: RunningServer, path: str, *more: str) -> str:
    url = f"http://127.0.0.1:{server.http_port}{path}"
    return run("curl", "-s", "-u", "admin:password", *more, url)


def put(server: RunningServer, path: str, **body: Any) -> Any:
    kind = ("-H", "content-type: application/json")
    return json.loads(curl(server, path, *kind, "-d", json.dumps(body)))


def test_three_programs_see_the_same_databases(server: RunningServer) -> None:
    assert redis_cli(server, 3, "SET", "k", "three") == "OK"
    assert put(server, "/put?db=5", key="k", value="five", tags=["t"])["ok"]
    told = run(
        *("nc", "-N", "127.0.0.1", str(server.port)),
        stdin="GET\tk\nSELECT\t3\nGET\tk\nSELECT\t5\nGET\tk\nSELECT\t16\nINV_TAG\tt\n",
    )
    assert told == "NF\nOK\nVALUE\tthree\nOK\nVALUE\tfive\nERR invalid_db\nINV_TAG\t1\n"
    assert json.loads(curl(server, "/get/k?db=3")) == {"value": "three"}
    assert redis_cli(server, 5, "GET", "k") == ""
    assert redis_cli(server, 0, "INFO", "keyspace").split() == [
        *("#", "Keyspace", "db3:keys=1,expires=0,avg_ttl=0")
    ]
    assert "DB index is out of range" in redis_cli(server, 0, "SELECT", "16")
    assert curl(server, "/get/k?db=16", "-o", "/dev/null", "-w", "%{http_code}") == "400"
    assert redis_cli(server, 0, "FLUSHALL") == "OK"
    assert redis_cli(server, 3, "DBSIZE") == "0"


def test_promtool_accepts_the_metrics(server: RunningServer) -> None:
    for db in (0, 2):
        redis_cli(server, db, "SET", "k", "v")
    metrics = curl(server, "/metrics")
    assert 'tagcache_keys{db="2"} 1.0\n' in metrics
    assert run("promtool", "check", "metrics", stdin=metrics) == ""
