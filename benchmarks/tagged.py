"""One job, done in several ways: store with two tags and a TTL, read, invalidate a tag.

TagCache beside tags that are built on Redis: sets, by hand and by a script, and two libraries.

python -m benchmarks.tagged [--quick] [--seconds N] [--rounds N]
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import latency, load, servers
from benchmarks.load import Load
from benchmarks.machine import bound_to_client_core
from benchmarks.servers import Server
from benchmarks.suite import Benchmark, Options, main, median, progress
from benchmarks.tables import number, table
from benchmarks.tagging import Commands, Lines, Script, Sets, Way, missing_library, ways

HOUR = 3600
TTL = f"{HOUR * 1000}:{HOUR * 1000}"
# Entries that no invalidation concerns. Others read them.
OTHERS = Load("get", connections=8, keys=100_000, prefix="other:")
READS_PER_SECOND = 4000
STORE = Load("put", ttl=TTL, tags="t:100,u:7", prefix="busy:")
RETAG = replace(STORE, retag=1, tags="v:100,w:7", prefix="retag:")
JOBS = {"store": STORE, "store with other tags": RETAG, "read": replace(OTHERS, connections=32)}
PLAIN, PLAIN_REDIS = "TagCache, RESP, without tags", "Redis, without tags"
# Entries of a tag, and how many such tags are invalidated one after the other.
SMALL = {1: 50, 100: 20}
LARGE = 100_000
TAG_OF_ALL = "everything"
# How long to go on reading for an invalidation of many entries.
PATIENCE, PATIENCE_WITH_LIBRARIES = 2.0, 8.0
# Entries of the checks of what is left, and how often each is overwritten.
CHECKED, OVERWRITTEN = 1000, 9

# A server is idle when it takes no more CPU time than this, in the second of these times.
IDLE_SECONDS, SETTLE_SECONDS = 0.001, 0.02

# Figures by way, and by what was done, one for each round.
Found = dict[str, dict[str, list[float]]]
# The same; latencies are lists.
Invalidations = dict[str, dict[str, list[Any]]]


def measure(options: Options) -> dict[str, Any] | None:
    if not servers.installed("redis-server") or missing_library(Sets) is not None:
        return None
    seconds, rounds = options.seconds_or(1, 0.3), options.rounds_or(5)
    large = LARGE // 10 if options.quick else LARGE
    with ExitStack() as stack:
        running = ways(stack)
        stack.enter_context(bound_to_client_core())
        for way in running:
            load.fill(way.server, OTHERS)
        return {
            "rounds": rounds,
            "seconds": seconds,
            "large": large,
            "busy": _busy(running, seconds, rounds),
            "calls": _calls(running, 200 if options.quick else 1000, rounds),
            "invalidation": _large(running, large, min(rounds, 3)),
            "left": {way.name: _left(way) for way in running},
        }


def _keep(found: Found, name: str, what: str, figure: float) -> None:
    found.setdefault(name, {}).setdefault(what, []).append(figure)


# Many clients at once, by the load generator


def _busy(running: Sequence[Way], seconds: float, rounds: int) -> Found:
    """Return the server's CPU time for an operation in µs."""
    found: Found = {}
    plain = {PLAIN: Commands, PLAIN_REDIS: Sets}
    rows: list[tuple[str, Server, dict[str, Any]]] = [
        (way.name, way.server, {"tagging": way.tagging}) for way in running if way.tagging
    ]
    rows += [
        (name, way.server, {"tagging": "sets", "tags": "", "prefix": "plain:"})
        for name, kind in plain.items()
        for way in running
        if type(way) is kind
    ]
    for turn in range(rounds):
        for what, job in JOBS.items():
            for name, server, changes in rows:
                if name in plain and job.retag:
                    continue
                work = replace(job, **changes) if job.mode == "put" else job
                cost = load.run(server, work, seconds).cpu_microseconds
                _keep(found, name, what, cost)
        progress(f"many clients: round {turn + 1} of {rounds}")
    return found


# One client, one call after the other


def _calls(running: Sequence[Way], calls: int, rounds: int) -> Found:
    found: Found = {}
    entries = {f"one:{place}": [f"t:{place % 100}", f"u:{place % 7}"] for place in range(calls)}
    for turn in range(rounds):
        for way in running:

            def store(way: Way = way) -> None:
                for key, tags in entries.items():
                    way.store(key, tags, HOUR)

            def read(way: Way = way) -> None:
                for key, tags in entries.items():
                    if way.read(key, tags) is None:
                        raise RuntimeError(f"{way.name} has lost {key}")

            _time(found, way, "store", store, calls)
            _time(found, way, "read", read, calls)
            for size, count in SMALL.items():
                _invalidate_small(found, way, size, count)
        progress(f"one client: round {turn + 1} of {rounds}")
    return found


def _time(found: Found, way: Way, what: str, work: Callable[[], None], calls: int) -> None:
    """Keep the server's CPU time and the whole time of a call, in µs."""
    spent, begin = _settled(way.server), time.perf_counter()
    work()
    took, spent = time.perf_counter() - begin, _settled(way.server) - spent
    _keep(found, way.name, what, spent * 1e6 / calls)
    _keep(found, way.name, f"{what}, whole", took * 1e6 / calls)


def _settled(server: Server) -> float:
    """Wait until the server also did what it does after its reply; return its CPU time in s."""
    before = -1.0
    while (spent := server.cpu_seconds()) > before + IDLE_SECONDS:
        before = spent
        time.sleep(SETTLE_SECONDS)
    return spent


def _invalidate_small(found: Found, way: Way, size: int, count: int) -> None:
    tags = [f"small:{place}" for place in range(count)]
    entries = {f"{tag}:{place}": [tag, f"u:{place % 7}"] for tag in tags for place in range(size)}
    way.fill(entries, HOUR)

    def invalidate() -> None:
        for tag in tags:
            way.invalidate(tag)

    _time(found, way, str(size), invalidate, count)
    if any(way.read(key, tags) is not None for key, tags in entries.items()):
        raise RuntimeError(f"{way.name} has left entries of an invalidated tag")


# Many entries of a tag


def _large(running: Sequence[Way], entries: int, rounds: int) -> Invalidations:
    found: Invalidations = {}
    for turn in range(rounds):
        alone: set[str] = set()
        for way in running:
            brand = way.server.name.partition(" ")[0]
            if brand not in alone:
                alone.add(brand)
                samples = latency.read_steadily(way.server, 1.0, OTHERS, READS_PER_SECOND)
                latencies = {"meanwhile": [long / 1000 for _, long in samples]}
                _keep_all(found, f"{brand}, no invalidation", latencies)
            _fill(way, entries)
            cost = _cost(way)
            _fill(way, entries)
            _keep_all(found, way.name, {"cpu": cost, **_beside_reads(way)})
            progress(f"{way.name}: {entries:,} entries, round {turn + 1} of {rounds}")
    return found


def _keep_all(found: Invalidations, name: str, figures: dict[str, Any]) -> None:
    for what, figure in figures.items():
        found.setdefault(name, {}).setdefault(what, []).append(figure)


def _fill(way: Way, entries: int) -> None:
    """Store entries that all have one tag, and one of a hundred others."""
    if way.tagging:
        tags = f"{TAG_OF_ALL},u:100"
        many = Load(keys=entries, prefix="many:", tags=tags, ttl=TTL, tagging=way.tagging)
        load.fill(way.server, many)
    else:
        tags_of = {f"many:{place}": [TAG_OF_ALL, f"u:{place % 100}"] for place in range(entries)}
        way.fill(tags_of, HOUR)


def _cost(way: Way) -> float:
    """Invalidate the tag of all; return the server's CPU time in µs."""
    spent = _settled(way.server)
    way.invalidate(TAG_OF_ALL)
    return (_settled(way.server) - spent) * 1e6


def _beside_reads(way: Way) -> dict[str, Any]:
    """Invalidate the tag while others read; return the time until the reply, and latencies."""
    told: dict[str, float] = {}

    def invalidate() -> None:
        # Of this thread only: the load generator, on the same core, always goes first.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        time.sleep(latency.WARMUP_SECONDS + 0.3)
        told["begin"] = time.monotonic_ns()
        way.invalidate(TAG_OF_ALL)
        told["end"] = time.monotonic_ns()

    thread = threading.Thread(target=invalidate)
    thread.start()
    patience = PATIENCE if way.tagging else PATIENCE_WITH_LIBRARIES
    samples = latency.read_steadily(way.server, patience, OTHERS, READS_PER_SECOND)
    thread.join()
    begin, end = told["begin"], told["end"]
    if end > samples[-1][0]:
        raise RuntimeError(f"{way.name}: the invalidation took longer than {patience} s")
    aftermath = end + latency.AFTERMATH_SECONDS * 1e9
    return {
        "milliseconds": (end - begin) / 1e6,
        "meanwhile": latency.in_flight(samples, begin, end),
        "longest": max(latency.in_flight(samples, begin, aftermath), default=0),
    }


# What is left


def _left(way: Way) -> dict[str, int]:
    progress(f"{way.name}: what is left")
    return {
        "overwritten": _left_by_overwriting(way),
        "expired": _left_by_expiry(way),
        "wrong": _removed_wrongly(way),
        "missed": _missed(way),
    }


def _left_by_overwriting(way: Way) -> int:
    """Return the superfluous records of tags after every entry was stored with other tags."""
    way.clear()
    for turn in range(OVERWRITTEN + 1):
        way.fill({f"k{place}": [f"a:{turn}", f"b:{turn}"] for place in range(CHECKED)}, HOUR)
    tags = [f"{name}:{turn}" for turn in range(OVERWRITTEN + 1) for name in "ab"]
    return way.recorded(tags) - 2 * CHECKED


def _left_by_expiry(way: Way) -> int:
    """Return the records of tags after their entries have expired, while one lives on."""
    way.clear()
    way.fill({f"k{place}": ["a", "b"] for place in range(CHECKED)}, 1)
    way.fill({"alive": ["a", "b"]}, HOUR)
    time.sleep(2)
    return way.recorded(["a", "b"]) - 2


def _removed_wrongly(way: Way) -> int:
    """Return how many entries an invalidation removes that do not have the tag any more."""
    way.clear()
    keys = [f"k{place}" for place in range(CHECKED)]
    way.fill({key: ["former", "b"] for key in keys}, HOUR)
    way.fill({key: ["new", "b"] for key in keys}, HOUR)
    way.invalidate("former")
    return sum(way.read(key, ["new", "b"]) is None for key in keys)


def _missed(way: Way) -> int:
    """Return how many entries an invalidation leaves, after one of a shorter life was stored."""
    way.clear()
    keys = [f"k{place}" for place in range(CHECKED)]
    way.fill({key: ["a", "b"] for key in keys}, HOUR)
    way.store("short", ["a", "b"], 1)
    time.sleep(2)
    way.invalidate("a")
    return sum(way.read(key, ["a", "b"]) is not None for key in keys)


# The report


def section(found: Any, plots: Path) -> str:
    large = f"{found['large']:,}"
    return "\n".join(
        [
            (
                "The same job in several ways: store 100 bytes with two tags and a TTL, read, and "
                "invalidate all entries of a tag. *Redis, sets* is the usual recipe: `SET` with "
                "`PX`, and `SADD` of the key to a set for each tag; `SMEMBERS`, `DEL` of a "
                "thousand keys at a time, and `DEL` of the set. *Redis, sets by script* avoids "
                "some errors: a Lua script also keeps the tags of each key, and removes the key "
                "from the sets of its former tags; another removes a thousand keys at a time. "
                "django-redis has no tags, so they are part of its keys, and `delete_pattern` "
                "searches for them. cashews has tags. Each variant on Redis has its own server, "
                f"without persistence. Each server holds {OTHERS.keys:,} other entries. "
                f"Medians of {found['rounds']} rounds, one variant after the other.\n"
            ),
            "The server's CPU time, with 32 connections that wait for each reply:\n",
            _busy_table(found["busy"]),
            _verdict(found["busy"]),
            (
                "The server's CPU time for consecutive calls on one connection, where each call "
                "wakes up the server. Work that it does after its reply is included. The last two "
                "columns are the total time of a call, client and server:\n"
            ),
            _calls_table(found["calls"], found["invalidation"], large),
            (
                f"GETs of other clients ({READS_PER_SECOND:,} a second, sent at fixed times) "
                f"during the invalidation of a tag of {large} entries:\n"
            ),
            _latency_table(found["invalidation"]),
            (
                f"Is it correct? {CHECKED:,} entries with two tags. *Left by overwriting*: "
                f"records of tags that no entry has, after each entry was stored {OVERWRITTEN} "
                "more times with other tags (django-redis: whole entries, under their former "
                "keys). *Left by expiry*: records of expired entries, while another entry has the "
                "tags. *Removed wrongly*: entries that were removed with a tag that they no longer "
                "had. *Missed*: entries that stayed when their tag was invalidated, after one with "
                "a shorter TTL was stored with it.\n"
            ),
            _left_table(found["left"]),
        ]
    )


def _busy_table(found: Found) -> str:
    rows = [
        [name, *(number(median(jobs[job])) if job in jobs else "" for job in JOBS)]
        for name, jobs in found.items()
    ]
    return table(["CPU µs/operation", *JOBS], rows)


def _verdict(found: Found) -> str:
    """Return how the costs of a store compare."""

    def ratio(one: str, other: str) -> str:
        pairs = zip(found[one]["store"], found[other]["store"], strict=True)
        return f"{median([ours / theirs for ours, theirs in pairs]):.2f}"

    return (
        f"Without tags, a store takes {ratio(PLAIN, PLAIN_REDIS)} times the CPU time of `SET` "
        f"with `PX` in Redis. With two tags it takes {ratio(Commands.name, Sets.name)} times that "
        f"of the sets by hand and {ratio(Commands.name, Script.name)} times that of the script "
        f"(RESP), and {ratio(Lines.name, Sets.name)} and {ratio(Lines.name, Script.name)} times "
        "(lines).\n"
    )


def _calls_table(found: Found, invalidation: Any, large: str) -> str:
    rows = []
    for name, calls in found.items():
        figures = [median(calls[what]) for what in ("store", "read", *map(str, SMALL))]
        figures.append(median(invalidation[name]["cpu"]))
        figures += [median(calls[what]) for what in ("store, whole", "read, whole")]
        rows.append([name, *map(number, figures)])
    sizes = [f"invalidate {size}" for size in (*SMALL, large)]
    return table(["CPU µs/call", "store", "read", *sizes, "store, whole", "read, whole"], rows)


def _latency_table(found: Invalidations) -> str:
    rows = []
    for name, figures in found.items():
        took = number(median(figures["milliseconds"])) if "milliseconds" in figures else ""
        ordered = sorted(one for some in figures["meanwhile"] for one in some)
        shown = [number(latency.at(ordered, share) / 1000) for share in (0.5, 0.99, 1)]
        after = number(max(figures["longest"]) / 1000) if "longest" in figures else ""
        rows.append([name, took, *shown, after])
    head = ["ms", "until the reply", "GET p50", "p99", "longest", "longest until 1 s after"]
    return table(head, rows)


def _left_table(found: Any) -> str:
    columns = {
        "overwritten": "left by overwriting",
        "expired": "left by expiry",
        "wrong": "removed wrongly",
        "missed": "missed",
    }
    rows = [[name, *(f"{left[what]:,}" for what in columns)] for name, left in found.items()]
    return table(["entries", *columns.values()], rows)


BENCHMARK = Benchmark("tagged", "Caching with tags", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
