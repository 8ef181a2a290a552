"""Standard workloads: TagCache on each of its reactors, by lines and by RESP, Redis and Valkey.

python -m benchmarks.compare [--quick] [--seconds N] [--rounds N]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import load, redis_benchmark, servers
from benchmarks.load import Load
from benchmarks.servers import Server
from benchmarks.suite import Benchmark, Options, main, median, progress
from benchmarks.tables import number, table

REFERENCE = "Redis"
TAGS = load.tag_patterns(2)
# An hour and up to a minute: nothing expires during the measurement.
TTL = "3600000:3660000"
WORKLOADS = {
    "PUT without tags, 32 connections": Load("put"),
    "PUT, 32 connections": Load("put", tags=TAGS, ttl=TTL),
    "GET, 32 connections": Load("get", tags=TAGS, ttl=TTL),
    "GET, 32 connections, 16 at once": Load("get", pipeline=16, tags=TAGS, ttl=TTL),
    "90 % GET, 10 % PUT, 256 connections": Load("mix", connections=256, tags=TAGS, ttl=TTL),
}
# The command of redis-benchmark, and how many requests it sends at once.
REDIS_BENCHMARKS = {
    "SET": ("SET", 1),
    "GET": ("GET", 1),
    "GET, 16 at once": ("GET", 16),
}
# As many operations as take about a second.
OPERATIONS = 100_000

# Figures by workload and by server, one for each round.
Rounds = dict[str, dict[str, list[dict[str, float]]]]


def measure(options: Options) -> dict[str, Any]:
    """In each round, measure every workload with every server."""
    seconds = options.seconds_or(3, 0.4)
    rounds = options.rounds_or(7)
    with ExitStack() as stack:
        running = [stack.enter_context(servers.tagcache(reactor)) for reactor in servers.reactors()]
        running += [stack.enter_context(start()) for start in servers.others().values()]
        for server in running:
            load.fill(server, WORKLOADS["GET, 32 connections"])
        running = [view for server in running for view in _views(server)]
        found: Rounds = {}
        for turn in range(rounds):
            for name, work in WORKLOADS.items():
                for server in running:
                    measured = load.run(server, work, seconds)
                    costs = {
                        "per_second": measured.per_second,
                        "cpu_microseconds": measured.cpu_microseconds,
                    }
                    _keep(found, name, server, asdict(measured) | costs)
            progress(f"round {turn + 1} of {rounds}")
        theirs = _redis_benchmarks(running, rounds, seconds)
    return {"seconds": seconds, "rounds": rounds, "workloads": found, "redis_benchmark": theirs}


def _views(server: Server) -> list[Server]:
    return [server, server.over_resp()] if server.has_tags else [server]


def _keep(found: Rounds, name: str, server: Server, figures: dict[str, float]) -> None:
    found.setdefault(name, {}).setdefault(server.name, []).append(figures)


def _redis_benchmarks(running: Sequence[Server], rounds: int, seconds: float) -> Rounds:
    found: Rounds = {}
    if not servers.installed("redis-benchmark"):
        return found
    for turn in range(rounds):
        for name, (command, pipeline) in REDIS_BENCHMARKS.items():
            operations = int(OPERATIONS * seconds) * (4 if pipeline > 1 else 1)
            for server in running:
                if server.protocol == "resp":
                    figures = redis_benchmark.run(server, command, pipeline, operations)
                    _keep(found, name, server, asdict(figures))
        progress(f"redis-benchmark: round {turn + 1} of {rounds}")
    return found


def section(found: Any, plots: Path) -> str:
    latencies = {"p50_microseconds": "p50, µs", "p99_microseconds": "p99, µs"}
    text = (
        "10,000 keys with 100-byte values. A TagCache entry has two tags and a time to live, "
        "except in PUT without tags; Redis and Valkey, which have no tags, do plain `SET` and "
        "`GET` without a TTL. One running TagCache is sent lines and RESP (`SET`, `TAG.SET`, "
        "`GET`) in turns. "
        f"Medians of {found['rounds']} rounds of {found['seconds']:g} s, server by server; the "
        "ratio of CPU times is taken in each round. Latencies are those of a batch.\n"
    )
    parts = [text, _table("workload", found["workloads"], latencies)]
    if found["redis_benchmark"]:
        parts.append(
            "The same without tags by `redis-benchmark`, a load generator that is not ours: 32 "
            "connections, 10,000 random keys, 100-byte values.\n"
        )
        parts.append(_table("redis-benchmark", found["redis_benchmark"], {}))
    return "\n".join(parts)


def _table(title: str, found: Rounds, more: Mapping[str, str]) -> str:
    """Return the table of rates, CPU times and their ratios, and ``more`` figures."""
    rows = []
    for name, by_server in found.items():
        reference = by_server.get(REFERENCE)
        for server, rounds in by_server.items():
            middle = {figure: median([one[figure] for one in rounds]) for figure in rounds[0]}
            ratio = number(cpu_ratio(rounds, reference)) if reference is not None else ""
            cells = [number(middle[figure]) for figure in ("per_second", "cpu_microseconds")]
            rows.append([name, server, *cells, ratio, *(number(middle[each]) for each in more)])
    head = [title, "server", "operations/s", "CPU µs/operation", f"CPU time to {REFERENCE}'s"]
    return table([*head, *more.values()], rows)


def cpu_ratio(
    rounds: Sequence[Mapping[str, float]], reference: Sequence[Mapping[str, float]]
) -> float:
    """Return the median of the ratios of CPU times that were measured in the same round."""
    pairs = zip(rounds, reference, strict=True)
    return median([one["cpu_microseconds"] / other["cpu_microseconds"] for one, other in pairs])


BENCHMARK = Benchmark("compare", "Standard workloads", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
