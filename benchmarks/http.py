"""The HTTP API, and nginx with constant responses of the same bytes.

python -m benchmarks.http [--quick] [--seconds N] [--rounds N]
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.machine import on_client_core
from benchmarks.servers import HOST, PASSWORD, USER, Server
from benchmarks.suite import Benchmark, Options, main, median, progress
from benchmarks.tables import number, table

CONNECTIONS = 32
GET_PATH = "/get/page:1"
PUT_PATH = "/put"
ENTRY = {"key": "page:1", "value": "x" * 100, "tags": ["t:1", "g:1"], "ttl_ms": 3_600_000}
BODY = json.dumps(ENTRY, separators=(",", ":"))
AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
HEADERS = {"Authorization": AUTHORIZATION, "Content-Type": "application/json"}
POST_SCRIPT = f"wrk.method = 'POST'\nwrk.body = '{BODY}'\n"
REFERENCE = "nginx"


def measure(options: Options) -> dict[str, Any] | None:
    """In each round, measure each request with each server; None if wrk is not installed."""
    if not servers.installed("wrk"):
        return None
    seconds = max(1, round(options.seconds_or(5, 1)))
    rounds = options.rounds_or(5)
    found: dict[str, dict[str, list[dict[str, float]]]] = {"GET /get/KEY": {}, "POST /put": {}}
    with ExitStack() as stack:
        running = [stack.enter_context(servers.tagcache(reactor)) for reactor in servers.reactors()]
        answers = [
            {PUT_PATH: _ask(one, PUT_PATH, BODY), GET_PATH: _ask(one, GET_PATH)} for one in running
        ]
        if servers.installed("nginx"):
            running.append(stack.enter_context(servers.nginx(answers[0])))
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="tagcache-wrk-"))
        script = Path(directory) / "post.lua"
        script.write_text(POST_SCRIPT, encoding="utf-8")
        for turn in range(rounds):
            for server in running:
                for name, path, more in (
                    ("GET /get/KEY", GET_PATH, []),
                    ("POST /put", PUT_PATH, ["-s", str(script)]),
                ):
                    measured = _wrk(server, path, seconds, more)
                    found[name].setdefault(server.name, []).append(measured)
            progress(f"round {turn + 1} of {rounds}")
    return {"seconds": seconds, "rounds": rounds, "requests": found}


def _ask(server: Server, path: str, body: str | None = None) -> str:
    """Send one request, and return the body of the response."""
    request = urllib.request.Request(
        f"http://{HOST}:{server.http_port}{path}", body.encode() if body else None, HEADERS
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _wrk(server: Server, path: str, seconds: int, more: list[str]) -> dict[str, float]:
    """Load one path; return the results of wrk, and the server's CPU time per request."""
    command = [*on_client_core(), "wrk", "--threads", "1", "--connections", str(CONNECTIONS)]
    command += ["--duration", f"{seconds}s", "--latency", *more]
    for name, value in HEADERS.items():
        command += ["--header", f"{name}: {value}"]
    command.append(f"http://{HOST}:{server.http_port}{path}")
    before = server.cpu_seconds()
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = server.cpu_seconds() - before
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{server.name}: not all requests succeeded:\n{output}")
    requests = int(_found(r"(\d+) requests in", output)[1])
    return {
        "requests": requests,
        "per_second": float(_found(r"Requests/sec:\s+([0-9.]+)", output)[1]),
        "cpu_microseconds": spent * 1e6 / requests,
        "p50_microseconds": _duration(output, "50%"),
        "p99_microseconds": _duration(output, "99%"),
    }


def _found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk does not report {pattern!r}:\n{text}")
    return match


def _duration(output: str, which: str) -> float:
    match = _found(rf"\n\s+{which}\s+([0-9.]+)(us|ms|s|m) *\n", output)
    return float(match[1]) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}[match[2]]


def section(found: Any, plots: Path) -> str:
    rows = []
    for name, by_server in found["requests"].items():
        reference = by_server.get(REFERENCE)
        for server, rounds in by_server.items():
            ratio = ""
            if reference is not None:
                pairs = zip(rounds, reference, strict=True)
                ratio = number(
                    median(
                        [
                            one["cpu_microseconds"] / other["cpu_microseconds"]
                            for one, other in pairs
                        ]
                    )
                )
            medians = {key: median([one[key] for one in rounds]) for key in rounds[0]}
            rows.append(
                [
                    name,
                    server,
                    number(medians["per_second"]),
                    number(medians["cpu_microseconds"]),
                    ratio,
                    number(medians["p50_microseconds"]),
                    number(medians["p99_microseconds"]),
                ]
            )
    head = [
        "request",
        "server",
        "requests/s",
        "CPU µs/request",
        f"CPU time to {REFERENCE}'s",
        "p50, µs",
        "p99, µs",
    ]
    return (
        f"`wrk` with {CONNECTIONS} connections, the same header lines in each request, `Basic` "
        "credentials, a 100-byte value with two tags and a time to live; one nginx worker answers "
        "every request with the same body, and neither checks credentials nor reads JSON nor "
        "stores anything. "
        f"Medians of {found['rounds']} rounds of {found['seconds']} s, server by server; the "
        "ratio of CPU times is taken in each round.\n\n"
        f"{table(head, rows)}"
    )


BENCHMARK = Benchmark("http", "HTTP", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
