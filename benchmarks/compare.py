"""Four standard workloads: TagCache on each of its reactors, and Redis.

python -m benchmarks.compare [--quick] [--seconds N] [--rounds N]
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import load, servers
from benchmarks.load import Load
from benchmarks.suite import Benchmark, Options, main, median, progress
from benchmarks.tables import number, table

REFERENCE = "Redis"
TAGS = load.tag_patterns(2)
# An hour and up to a minute: nothing expires during the measurement.
TTL = "3600000:3660000"
WORKLOADS = {
    "PUT, 32 connections": Load("put", tags=TAGS, ttl=TTL),
    "GET, 32 connections": Load("get", tags=TAGS, ttl=TTL),
    "GET, 32 connections, 16 at once": Load("get", pipeline=16, tags=TAGS, ttl=TTL),
    "90 % GET, 10 % PUT, 256 connections": Load("mix", connections=256, tags=TAGS, ttl=TTL),
}


def measure(options: Options) -> dict[str, Any]:
    """In each round, measure every workload with every server."""
    seconds = options.seconds_or(3, 0.4)
    rounds = options.rounds_or(7)
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in WORKLOADS}
    with ExitStack() as stack:
        running = [stack.enter_context(servers.tagcache(reactor)) for reactor in servers.reactors()]
        if servers.installed("redis-server"):
            running.append(stack.enter_context(servers.redis()))
        for server in running:
            load.fill(server, WORKLOADS["GET, 32 connections"])
        for turn in range(rounds):
            for name, work in WORKLOADS.items():
                for server in running:
                    measured = load.run(server, work, seconds)
                    found[name].setdefault(server.name, []).append(asdict(measured))
            progress(f"round {turn + 1} of {rounds}")
    return {"seconds": seconds, "rounds": rounds, "workloads": found}


def section(found: Any, plots: Path) -> str:
    rows = []
    for name, by_server in found["workloads"].items():
        measured = {
            server: [load.Measured(**one) for one in rounds] for server, rounds in by_server.items()
        }
        reference = measured.get(REFERENCE)
        for server, rounds in measured.items():
            ratio = ""
            if reference is not None:
                pairs = zip(rounds, reference, strict=True)
                ratio = number(
                    median([one.cpu_microseconds / other.cpu_microseconds for one, other in pairs])
                )
            rows.append(
                [
                    name,
                    server,
                    number(median([one.per_second for one in rounds])),
                    number(median([one.cpu_microseconds for one in rounds])),
                    ratio,
                    number(median([one.p50_microseconds for one in rounds])),
                    number(median([one.p99_microseconds for one in rounds])),
                ]
            )
    head = [
        "workload",
        "server",
        "operations/s",
        "CPU µs/operation",
        f"CPU time to {REFERENCE}'s",
        "p50, µs",
        "p99, µs",
    ]
    text = (
        "10,000 keys with 100-byte values; a TagCache entry has two tags and a time to live, while "
        "Redis, which has no tags, does plain `SET` and `GET` (no TTL). "
        f"Medians of {found['rounds']} rounds of {found['seconds']:g} s, server after server; the "
        "ratio of CPU times is taken in each round. Latencies are those of a batch.\n"
    )
    return f"{text}\n{table(head, rows)}"


BENCHMARK = Benchmark("compare", "Four workloads", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
