"""Sweeps: throughput and CPU time by connections, pipelining, sizes, entries and tags.

python -m benchmarks.throughput [--quick] [--seconds N] [--rounds N]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import load, servers
from benchmarks.load import Load
from benchmarks.servers import Server
from benchmarks.suite import Benchmark, Options, main, median, progress
from benchmarks.tables import number, size, table

Start = Callable[[], AbstractContextManager[Server]]

# The values of all keys together in bytes, so that large ones fit.
MOST_VALUE_BYTES = 32 * 10**6
BASE = Load()


@dataclass(frozen=True)
class Sweep:
    """Loads that differ in one parameter."""

    name: str
    title: str
    axis: str
    points: Sequence[int]
    quick_points: Sequence[int]
    load: Callable[[int], Load]
    tagcache_only: bool = False
    # Whether each point needs a new, empty server.
    alone: bool = False
    show: Callable[[int], str] = "{:,}".format


def _of_size(value_size: int) -> Load:
    keys = min(BASE.keys, MOST_VALUE_BYTES // value_size)
    return replace(BASE, keys=keys, value_size=value_size, prefix=f"{value_size}:")


def _with_tags(count: int) -> Load:
    return replace(BASE, mode="put", tags=load.tag_patterns(count), prefix=f"{count}:")


SWEEPS = [
    Sweep(
        "connections",
        "GET over more connections",
        "connections",
        (1, 8, 32, 128, 1000),
        (1, 32, 1000),
        lambda count: replace(BASE, connections=count),
    ),
    Sweep(
        "pipeline",
        "GET, pipelined",
        "requests sent at once",
        (1, 4, 16, 64, 128),
        (1, 16),
        lambda depth: replace(BASE, pipeline=depth),
    ),
    Sweep(
        "value-size",
        "GET of larger values",
        "size of the value",
        (10, 100, 1000, 10_000, 100_000, 1_000_000),
        (10, 1000, 1_000_000),
        _of_size,
        show=size,
    ),
    Sweep(
        "entries",
        "GET from more entries",
        "entries",
        (1000, 10_000, 100_000, 1_000_000),
        (1000, 10_000),
        lambda count: replace(BASE, keys=count),
        alone=True,
    ),
    Sweep(
        "tags",
        "PUT with more tags",
        "tags of an entry",
        (0, 1, 2, 5, 10, 50),
        (0, 2),
        _with_tags,
        tagcache_only=True,
    ),
]


def starts(tagcache_only: bool = False) -> list[Start]:
    """Return the starters of all installed servers."""
    found: list[Start] = [lambda: servers.tagcache(servers.default_reactor())]
    if not tagcache_only:
        found += servers.others().values()
        found += [servers.memcached] if servers.installed("memcached") else []
    return found


def measure(options: Options) -> dict[str, Any]:
    """Measure all sweeps."""
    return {sweep.name: _measure_sweep(sweep, options) for sweep in SWEEPS}


def _measure_sweep(sweep: Sweep, options: Options) -> dict[str, Any]:
    seconds = options.seconds_or(2, 0.4)
    rounds = options.rounds_or(5)
    points = sweep.quick_points if options.quick else sweep.points
    with ExitStack() as stack:
        cells = list(_cells(sweep, points, starts(sweep.tagcache_only), stack))
        found: dict[str, dict[int, list[load.Measured]]] = {}
        for turn in range(rounds):
            for server, point in cells:
                measured = load.run(server, sweep.load(point), seconds)
                found.setdefault(server.name, {}).setdefault(point, []).append(measured)
            progress(f"{sweep.name}: round {turn + 1} of {rounds}")
    return {
        "points": list(points),
        "seconds": seconds,
        "servers": {
            name: [[asdict(measured) for measured in by_point[point]] for point in points]
            for name, by_point in found.items()
        },
    }


def _cells(
    sweep: Sweep, points: Sequence[int], begin: Iterable[Start], stack: ExitStack
) -> Iterator[tuple[Server, int]]:
    """Start and fill the servers, and yield them point by point."""
    begin = list(begin)
    shared = [] if sweep.alone else [stack.enter_context(start()) for start in begin]
    for point in points:
        these = [stack.enter_context(start()) for start in begin] if sweep.alone else shared
        for server in these:
            load.fill(server, sweep.load(point))
            yield server, point
            if server.has_tags:
                yield server.over_resp(), point


def _rounds(found: Mapping[str, Any], server: str, what: str) -> list[list[float]]:
    """Return the figures of each point, by rounds."""
    return [
        [float(getattr(load.Measured(**measured), what)) for measured in rounds]
        for rounds in found["servers"][server]
    ]


def section(found: Any, plots: Path) -> str:
    parts = [
        (
            "GETs of 100-byte values among 10,000 keys over 32 connections, each of which waits "
            "for a reply before its next request, except for the parameter that a table varies. "
            "The CPU time is that of all threads of the server. TagCache gets lines and RESP in "
            "turns, Redis and Valkey plain `GET` and `SET`, memcached (one worker thread) its text "
            "protocol. "
            "Medians of rounds, one server after the other.\n"
        )
    ]
    for sweep in SWEEPS:
        if sweep.name in found:
            parts.append(_sweep_section(sweep, found[sweep.name], plots))
    checks = _flatness(found)
    if checks:
        head = ("CPU time of a GET, relative (median of the rounds)", "ratio")
        parts += ["### Does it stay flat?\n", table(head, checks)]
    return "\n".join(parts)


def _sweep_section(sweep: Sweep, found: Any, plots: Path) -> str:
    from benchmarks.plots import panels

    points, names = found["points"], list(found["servers"])
    rates = {name: [median(x) for x in _rounds(found, name, "per_second")] for name in names}
    costs = {name: [median(x) for x in _rounds(found, name, "cpu_microseconds")] for name in names}
    head = [sweep.axis]
    head += [f"{name}, operations/s" for name in names]
    head += [f"{name}, CPU µs/operation" for name in names]
    rows = [
        [
            sweep.show(point),
            *(number(rates[name][place]) for name in names),
            *(number(costs[name][place]) for name in names),
        ]
        for place, point in enumerate(points)
    ]
    panels(
        plots / f"{sweep.name}.svg",
        sweep.axis,
        [sweep.show(point) for point in points],
        [("operations per second", rates), ("server's CPU time per operation, µs", costs)],
    )
    text = [f"### {sweep.title}\n"]
    if sweep.name == "value-size":
        text.append(
            "The number of keys is lower if their values would exceed "
            f"{size(MOST_VALUE_BYTES)} in total.\n"
        )
    if sweep.name == "tags":
        text.append(
            "PUT (RESP: `SET` and `TAG.SET`) instead of GET, of the same keys again and again, "
            "without a TTL. Each tag is one of a hundred, so that every PUT removes an entry from "
            "all its tags and adds it again.\n"
        )
    text += [table(head, rows), f"![{sweep.title}](performance/{sweep.name}.svg)\n"]
    return "\n".join(text)


def _flatness(found: Any) -> list[tuple[str, str]]:
    """Return the two checks for every server that was measured."""
    rows = []
    for name, high, low in (("entries", 10**6, 10**3), ("connections", 1000, 32)):
        points = found.get(name, {}).get("points", [])
        if high not in points or low not in points:
            continue
        for server in found[name]["servers"]:
            costs = _rounds(found[name], server, "cpu_microseconds")
            pairs = zip(costs[points.index(high)], costs[points.index(low)], strict=True)
            ratio = median([many / few for many, few in pairs])
            rows.append((f"{server}: {high:,} {name} to {low:,}", f"{ratio:.2f}"))
    return rows


BENCHMARK = Benchmark("throughput", "Throughput", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
