"""Builds the load generator (load.c) and runs it against a server."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import on_client_core
from benchmarks.servers import HOST, Server

SOURCE = Path(__file__).with_name("load.c")
FILL_CONNECTIONS = 4
FILL_PIPELINE = 64


@dataclass(frozen=True)
class Load:
    """The options of the generator; load.c explains them in its first comment."""

    mode: str = "get"
    connections: int = 32
    pipeline: int = 1
    keys: int = 10_000
    value_size: int = 100
    prefix: str = "key:"
    tags: str = ""
    ttl: str = ""
    tagging: str = "command"
    retag: int = 0


@dataclass(frozen=True)
class Measured:
    """The counts of the generator. A latency is that of a whole batch."""

    operations: int
    seconds: float
    errors: int
    misses: int
    p50_microseconds: float
    p99_microseconds: float
    p999_microseconds: float
    max_microseconds: float
    server_cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.operations / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        """The server's CPU time for one operation."""
        return self.server_cpu_seconds * 1e6 / self.operations


@functools.cache
def generator() -> Path:
    """Build the generator, once."""
    directory = tempfile.TemporaryDirectory(prefix="tagcache-load-")
    atexit.register(directory.cleanup)
    program = Path(directory.name) / "load"
    subprocess.run(["gcc", "-O2", "-Wall", "-o", str(program), str(SOURCE)], check=True)
    return program


def start(server: Server, load: Load, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start the generator. ``result`` returns its result."""
    told = asdict(load)
    if not server.has_tags and load.tagging == "command":
        told["tags"] = told["ttl"] = ""
    command = [*on_client_core(), str(generator()), "--host", HOST, "--port", str(server.port)]
    command += ["--protocol", server.protocol, "--pid", str(server.pid)]
    for name, value in told.items():
        if value != "":
            command += [f"--{name.replace('_', '-')}", str(value)]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> Measured:
    """Wait for the generator. Raises RuntimeError if it failed or a reply was wrong."""
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the load generator failed: {process.args!r}")
    measured = Measured(**json.loads(output))
    if measured.errors:
        raise RuntimeError(f"{measured.errors} replies were wrong: {process.args!r}")
    return measured


def run(server: Server, load: Load, seconds: float) -> Measured:
    """Load the server in a closed loop. Raises RuntimeError if a reply was wrong or a miss."""
    options = ["--seconds", str(seconds), "--warmup", str(min(seconds / 5, 0.5))]
    measured = result(start(server, load, options))
    if measured.misses:
        raise RuntimeError(f"{server.name}: {measured.misses} misses of keys that were stored")
    return measured


def fill(server: Server, load: Load) -> None:
    """Store every key once."""
    pipeline = max(1, min(FILL_PIPELINE, 2**20 // max(load.value_size, 1)))
    told = asdict(load) | {
        "mode": "fill",
        "connections": FILL_CONNECTIONS,
        "pipeline": pipeline,
    }
    measured = result(start(server, Load(**told)))
    if measured.operations != load.keys:
        raise RuntimeError(f"{server.name}: {measured.operations} of {load.keys} keys stored")


def tag_patterns(count: int) -> str:
    """Return patterns of ``count`` tags for an entry. Each tag is one of a hundred."""
    return ",".join(f"t{number}:100" for number in range(count))
