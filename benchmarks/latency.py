"""Tail latency: GETs at a steady rate, to an empty cache and to a large and busy one.

python -m benchmarks.latency [--quick] [--seconds N]
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from array import array
from pathlib import Path
from typing import Any

from benchmarks import load, servers
from benchmarks.load import Load
from benchmarks.servers import HOST, Server
from benchmarks.suite import Benchmark, Options, main, progress
from benchmarks.tables import number, table

READS_PER_SECOND = 1000
WRITES_PER_SECOND = 2000
READ = Load("get", connections=8, keys=10_000, prefix="read:")
TAG_OF_ALL = "everything"
# From the tenth second on, some expire every second.
TTL = "10000:610000"
WARMUP_SECONDS = 1.0
# How long after the invalidation GETs still count as affected by it.
AFTERMATH_SECONDS = 1.0
INVALIDATION_TIMEOUT = 60.0

# The time at which a request was due, and its latency, in ns of the monotonic clock.
Samples = list[tuple[int, int]]


def measure(options: Options) -> dict[str, Any]:
    seconds = options.seconds_or(60, 3)
    entries = 50_000 if options.quick else 1_000_000
    reactor = servers.default_reactor()
    with servers.tagcache(reactor) as server:
        load.fill(server, READ)
        progress("reading from an empty cache")
        empty = read_steadily(server, seconds)
    with servers.tagcache(reactor) as server:
        load.fill(server, READ)
        write = Load(
            "put",
            connections=4,
            keys=entries,
            prefix="entry:",
            tags=f"{TAG_OF_ALL},t:1000",
            ttl=TTL,
        )
        load.fill(server, write)
        progress(f"reading from a cache of {entries:,} entries, with writes")
        full = _read_beside_writes(server, write, seconds)
        progress("again, with an invalidation of them all")
        invalidation = _invalidate(server, write, max(seconds / 4, 2.0))
    return {
        "seconds": seconds,
        "entries": entries,
        "reactor": reactor,
        "empty": _summary(empty),
        "full": _summary(full),
        "invalidation": invalidation,
    }


def _paced(rate: int, seconds: float) -> list[str]:
    return ["--rate", str(rate), "--seconds", str(seconds), "--warmup", str(WARMUP_SECONDS)]


def read_steadily(
    server: Server, seconds: float, read: Load = READ, rate: int = READS_PER_SECOND
) -> Samples:
    """Read at a steady rate; return all latencies in the order of the replies."""
    with tempfile.NamedTemporaryFile(prefix="tagcache-samples-") as file:
        pace = _paced(rate, seconds)
        measured = load.result(load.start(server, read, [*pace, "--samples", file.name]))
        if measured.misses:
            raise RuntimeError(f"{measured.misses} misses of keys that were stored")
        numbers = array("q", Path(file.name).read_bytes())
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _read_beside_writes(server: Server, write: Load, seconds: float) -> Samples:
    writer = load.start(server, write, _paced(WRITES_PER_SECOND, seconds))
    try:
        samples = read_steadily(server, seconds)
    finally:
        load.result(writer)
    return samples


def _invalidate(server: Server, write: Load, seconds: float) -> dict[str, float]:
    """Invalidate the tag of all entries while clients read and write."""
    told: dict[str, float] = {}

    def invalidate() -> None:
        time.sleep(WARMUP_SECONDS + seconds / 3)
        with socket.create_connection((HOST, server.port), INVALIDATION_TIMEOUT) as client:
            told["begin"] = time.monotonic_ns()
            client.sendall(f"INV_TAG\t{TAG_OF_ALL}\n".encode())
            reply = client.makefile("rb").readline()
            told["end"] = time.monotonic_ns()
        told["removed"] = int(reply.removeprefix(b"INV_TAG\t"))

    thread = threading.Thread(target=invalidate)
    thread.start()
    samples = _read_beside_writes(server, write, seconds)
    thread.join()
    begin, end = told["begin"], told["end"]
    aftermath = end + AFTERMATH_SECONDS * 1e9
    return {
        "removed": told["removed"],
        "reply_microseconds": (end - begin) / 1000,
        "longest_meanwhile_microseconds": _longest(samples, begin, end),
        "longest_after_microseconds": _longest(samples, begin, aftermath),
    }


def in_flight(samples: Samples, begin: float, end: float) -> list[float]:
    """Return the latencies of the requests in flight within a time span, in µs, in order."""
    return sorted(long / 1000 for due, long in samples if due <= end and due + long >= begin)


def _longest(samples: Samples, begin: float, end: float) -> float:
    return max(in_flight(samples, begin, end), default=0)


def at(ordered: list[float], share: float) -> float:
    """Return the value below which a share of the others is."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _summary(samples: Samples) -> dict[str, Any]:
    ordered = sorted(long / 1000 for _, long in samples)
    shares = [1 - 10 ** (-step / 20) for step in range(200)]
    # Up to the maximum.
    shares = [share for share in shares if 1 - share >= 1 / len(ordered)]
    return {
        "requests": len(ordered),
        "p50": at(ordered, 0.5),
        "p99": at(ordered, 0.99),
        "p999": at(ordered, 0.999),
        "max": ordered[-1],
        "curve": [(share, at(ordered, share)) for share in shares],
    }


def section(found: Any, plots: Path) -> str:
    from benchmarks.plots import tail

    entries = f"{found['entries']:,}"
    busy = f"{entries} entries, {WRITES_PER_SECOND:,} PUT/s"
    lines = {"empty cache": found["empty"], busy: found["full"]}
    tail(plots / "latency.svg", {name: content["curve"] for name, content in lines.items()})
    rows = [
        [name, *(number(content[which]) for which in ("p50", "p99", "p999", "max"))]
        for name, content in lines.items()
    ]
    invalidation = found["invalidation"]
    facts = [
        ("`INV_TAG`, time until its reply", "reply_microseconds"),
        ("longest GET under way in that time", "longest_meanwhile_microseconds"),
        ("longest GET until a second after it", "longest_after_microseconds"),
    ]
    return "\n".join(
        [
            (
                f"{READS_PER_SECOND:,} GETs a second for {found['seconds']:g} s "
                f"(TagCache on {found['reactor']}), "
                "sent at fixed moments and timed from these, so that a stall counts for every "
                "request that it delays. One server holds only the 10,000 keys that are read; the "
                f"other has {entries} entries (100-byte values, two tags, times to live of 10 s to "
                "610 s, so that entries expire all the time), and gets a steady "
                f"{WRITES_PER_SECOND:,} PUTs a second.\n"
            ),
            table(("GET latency, µs", "p50", "p99", "p99.9", "longest"), rows),
            "![Latency by share of the requests](performance/latency.svg)\n",
            (
                "Then, with the same reads and writes, one `INV_TAG` of the tag that all these "
                f"entries have; it removed {invalidation['removed']:,}.\n"
            ),
            table(
                ("invalidation of them all", "µs"),
                [(name, number(invalidation[which])) for name, which in facts],
            ),
        ]
    )


BENCHMARK = Benchmark("latency", "The tail", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
