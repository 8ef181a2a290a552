"""Runs redis-benchmark, a load generator that is not ours, against a server that speaks RESP."""

from __future__ import annotations

import csv
import subprocess
from dataclasses import dataclass

from benchmarks.machine import on_client_core
from benchmarks.servers import HOST, Server

CONNECTIONS = 32
KEYS = 10_000
VALUE_SIZE = 100


@dataclass(frozen=True)
class Rate:
    per_second: float
    # The server's CPU time for one operation.
    cpu_microseconds: float


def run(server: Server, command: str, pipeline: int, operations: int) -> Rate:
    """Send ``operations`` of "SET" or "GET" with random keys. Raises CalledProcessError."""
    options = {
        "-h": HOST,
        "-p": str(server.port),
        "-t": command.lower(),
        "-c": str(CONNECTIONS),
        "-P": str(pipeline),
        "-n": str(operations),
        "-r": str(KEYS),
        "-d": str(VALUE_SIZE),
    }
    words = [word for option in options.items() for word in option]
    before = server.cpu_seconds()
    done = subprocess.run(
        [*on_client_core(), "redis-benchmark", "--csv", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    spent = server.cpu_seconds() - before
    return Rate(rate_of(done.stdout, command), spent * 1e6 / operations)


def rate_of(output: str, command: str) -> float:
    """Return the operations per second of a command. Raises ValueError if there are none."""
    for row in csv.reader(output.splitlines()):
        if len(row) > 1 and row[0] == command:
            return float(row[1])
    raise ValueError(f"redis-benchmark says nothing of {command}: {output!r}")
