"""One server and two before one Redis, and before a cluster of three: throughput and latency.

python -m benchmarks.distributed [--seconds N]
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psutil

from benchmarks.load import Load, Measured, fill, result, start
from benchmarks.servers import HOST, Server, free_ports, redis, tagcache

_LOADS = {
    "get, 1 at a time": Load("get", connections=32),
    "get, 16 pipelined": Load("get", connections=32, pipeline=16),
    "put with two tags": Load("put", connections=32, tags="t0:100,t1:100"),
}
_KEYS = 10_000


@contextmanager
def fronts(url: str, count: int) -> Iterator[list[Server]]:
    """Run so many servers before the Redis at a URL."""
    engine = {"backend": "redis", "url": f'"{url}"', "timeout_ms": 10_000}
    with ExitStack() as stack:
        yield [
            stack.enter_context(tagcache("uvloop", sections={"engine": engine}))
            for _ in range(count)
        ]


@contextmanager
def cluster() -> Iterator[str]:
    """Run three primaries; yields the URL."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                redis({"cluster-enabled": "yes", "cluster-port": str(free_ports(1)[0])})
            )
            for _ in range(3)
        ]
        places = [f"{HOST}:{node.port}" for node in nodes]
        subprocess.run(
            ["redis-cli", "--cluster", "create", *places, "--cluster-yes"],
            check=True,
            capture_output=True,
        )
        time.sleep(2)
        yield "redis+cluster://" + ",".join(places)


def measure(servers: list[Server], load: Load, seconds: float) -> tuple[list[Measured], float]:
    """Load all servers at once; returns also the CPU seconds that all of Redis took."""
    options = ["--seconds", str(seconds), "--warmup", "0.3"]
    before = _redis_seconds()
    running = [start(server, load, options) for server in servers]
    return [result(each) for each in running], _redis_seconds() - before


def _redis_seconds() -> float:
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        if process.name() == "redis-server":
            times = process.cpu_times()
            total += times.user + times.system
    return total


def rows(name: str, url: str, seconds: float) -> Iterator[str]:
    """Yield a line of the table for each load and number of fronts."""
    for count in (1, 2):
        with fronts(url, count) as servers:
            fill(servers[0], Load(keys=_KEYS, tags="t0:100,t1:100"))
            for what, load in _LOADS.items():
                measured, engine = measure(servers, replace(load, keys=_KEYS), seconds)
                total = sum(each.per_second for each in measured)
                operations = sum(each.operations for each in measured)
                front = sum(each.server_cpu_seconds for each in measured) * 1e6 / operations
                yield (
                    f"| {name} | {count} | {what} | {total:,.0f} "
                    f"| {max(each.p50_microseconds for each in measured) / 1000:.2f} "
                    f"| {max(each.p99_microseconds for each in measured) / 1000:.2f} "
                    f"| {front:.1f} | {engine * 1e6 / operations:.1f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    seconds = parser.parse_args().seconds
    print(
        "| engine | fronts | load | ops/s | p50 ms | p99 ms | front µs CPU/op | Redis µs CPU/op |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with redis() as server:
        for row in rows("one Redis", f"redis://{HOST}:{server.port}", seconds):
            print(row, flush=True)
    with cluster() as url:
        for row in rows("cluster of 3", url, seconds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
