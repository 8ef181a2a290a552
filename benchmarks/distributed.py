"""One and two servers with one Redis, and with a cluster of three.

Throughput and latency, with and without a near cache; the staleness of the near cache; the time of
an invalidation; and what Redis has to do for an idle server, an invalidation and an entry.

python -m benchmarks.distributed [--seconds N] [--costs-only]
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import psutil
from redis import Redis

from benchmarks.load import Load, Measured, fill, result, start
from benchmarks.servers import HOST, Server, free_ports, redis, tagcache

_LOADS = {
    "get, 1 at a time": Load("get", connections=32),
    "get, 16 pipelined": Load("get", connections=32, pipeline=16),
    "put with two tags": Load("put", connections=32, tags="t0:100,t1:100"),
}
_KEYS = 10_000
_NEAR_MB = 64
_CHANGES = 2000
_CARRIERS = (10, 1000, 100_000)
_SETTLE_SECONDS = 4
_MEASURED_ENTRIES = 40_000
_INVALIDATIONS = 300


@contextmanager
def fronts(url: str, count: int, near_mb: int = 0) -> Iterator[list[Server]]:
    """Run several servers with the Redis at a URL."""
    engine = {
        "backend": "redis",
        "url": f'"{url}"',
        "timeout_ms": 10_000,
        "near_cache_mb": near_mb,
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(tagcache("uvloop", sections={"engine": engine}))
            for _ in range(count)
        ]


@contextmanager
def cluster() -> Iterator[str]:
    """Run a cluster of three primaries, and yield its URL."""
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
    """Load all servers at once; the second result is the CPU time of all Redis servers in s."""
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
    """Yield a row of the table for each load and number of servers."""
    for count, near_mb in ((1, 0), (2, 0), (1, _NEAR_MB), (2, _NEAR_MB)):
        with fronts(url, count, near_mb) as servers:
            fill(servers[0], Load(keys=_KEYS, tags="t0:100,t1:100"))
            if near_mb:
                # The filling of the near cache is not measured.
                measure(servers, Load("get", connections=32, pipeline=16, keys=_KEYS), 3.0)
            for what, load in _LOADS.items():
                measured, engine = measure(servers, replace(load, keys=_KEYS), seconds)
                total = sum(each.per_second for each in measured)
                operations = sum(each.operations for each in measured)
                front = sum(each.server_cpu_seconds for each in measured) * 1e6 / operations
                yield (
                    f"| {name} | {count} | {'yes' if near_mb else 'no'} | {what} | {total:,.0f} "
                    f"| {max(each.p50_microseconds for each in measured) / 1000:.2f} "
                    f"| {max(each.p99_microseconds for each in measured) / 1000:.2f} "
                    f"| {front:.1f} | {engine * 1e6 / operations:.1f} |"
                )


class _Client:
    """A connection that sends one request at a time and waits for the reply."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection((HOST, server.port))
        self._replies = self._socket.makefile("rb")

    def ask(self, line: bytes) -> bytes:
        self._socket.sendall(line + b"\n")
        return self._replies.readline()

    def put_many(self, lines: list[bytes]) -> None:
        for first in range(0, len(lines), 500):
            some = lines[first : first + 500]
            self._socket.sendall(b"\n".join([*some, b""]))
            for _ in some:
                self._replies.readline()


def staleness(name: str, url: str) -> str:
    """Return a row: how long one server returns an old value after a change on the other."""
    with fronts(url, 2, _NEAR_MB) as servers:
        writer, reader = map(_Client, servers)
        time.sleep(2)
        ages = []
        for number in range(_CHANGES):
            value = b"VALUE\t%d\n" % number
            writer.ask(b"PUT\tk\t-\t-\t%d" % number)
            changed = time.perf_counter()
            while reader.ask(b"GET\tk") != value:
                pass
            ages.append((time.perf_counter() - changed) * 1000)
            for _ in range(3):
                reader.ask(b"GET\tk")
    ages.sort()
    middle, late = ages[len(ages) // 2], ages[len(ages) * 99 // 100]
    return f"| {name} | {middle:.2f} | {late:.2f} | {ages[-1]:.2f} |"


def _look(client: _Client, waits: list[float], over: threading.Event) -> None:
    while not over.is_set():
        begun = time.perf_counter()
        client.ask(b"GET\tx")
        waits.append(time.perf_counter() - begun)


def invalidations(name: str, url: str) -> Iterator[str]:
    """Yield a row for each number of entries: the time of INV_TAG, and of GETs during it."""
    for count in _CARRIERS:
        with fronts(url, 1) as servers:
            client, other = _Client(servers[0]), _Client(servers[0])
            times, waits = [], [0.0]
            for _ in range(20 if count <= 1000 else 3):
                client.put_many([b"PUT\tk%d\t-\tt\tv" % number for number in range(count)])
                over = threading.Event()

                looking = threading.Thread(target=_look, args=(other, waits, over))
                looking.start()
                begun = time.perf_counter()
                client.ask(b"INV_TAG\tt")
                times.append((time.perf_counter() - begun) * 1000)
                over.set()
                looking.join()
        times.sort()
        middle = times[len(times) // 2]
        yield f"| {name} | {count:,} | {middle:.1f} | {max(waits) * 1000:.1f} |"


class _Nodes:
    """The servers at a URL, and the sums of what they count."""

    def __init__(self, url: str) -> None:
        places = url.rpartition("//")[2].split(",")
        self._nodes: list[Any] = [Redis.from_url(f"redis://{place}") for place in places]

    def calls(self, *names: str) -> int:
        """Return how often commands were called, also by scripts."""
        each = [node.info("commandstats") for node in self._nodes]
        return sum(
            stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for stats in each for name in names
        )

    def total(self, section: str, *fields: str) -> float:
        """Return the sum of fields of INFO."""
        return float(sum(node.info(section)[field] for node in self._nodes for field in fields))

    def cpu_microseconds(self) -> float:
        """Return the CPU time."""
        return self.total("cpu", "used_cpu_user", "used_cpu_sys") * 1e6


# What servers send; scripts call other commands.
_SENT = ("evalsha", "eval", "info", "cluster|slots", "ping")


def costs(name: str, url: str) -> str:
    """Return a row: calls in a second of idleness, and the cost of invalidations and entries."""
    nodes = _Nodes(url)
    idle = []
    for count in (1, 3):
        with fronts(url, count):
            time.sleep(3 * _SETTLE_SECONDS)
            before = nodes.calls(*_SENT)
            time.sleep(2 * _SETTLE_SECONDS)
            idle.append((nodes.calls(*_SENT) - before) / (2 * _SETTLE_SECONDS))
    with fronts(url, 1) as servers:
        client = _Client(servers[0])
        client.ask(b"FLUSH")
        time.sleep(_SETTLE_SECONDS)
        memory = nodes.total("memory", "used_memory")
        client.put_many(
            [
                b"PUT\tkey:%016d\t-\tt,u%d\t%b" % (n, n % 70, b"x" * 100)
                for n in range(_MEASURED_ENTRIES)
            ]
        )
        memory = nodes.total("memory", "used_memory") - memory
        times, scripts = [], nodes.calls("evalsha")
        for _ in range(_INVALIDATIONS):
            begun = time.perf_counter()
            client.ask(b"INV_TAG\tnone")
            times.append((time.perf_counter() - begun) * 1000)
        scripts = nodes.calls("evalsha") - scripts
        cpu = nodes.cpu_microseconds()
        client.ask(b"INV_TAG\tt")
        time.sleep(_SETTLE_SECONDS)
        cpu = nodes.cpu_microseconds() - cpu
    return (
        f"| {name} | {idle[0]:.1f} | {idle[1]:.1f} | {scripts / _INVALIDATIONS:.0f} "
        f"| {sorted(times)[_INVALIDATIONS // 2]:.2f} | {cpu / _MEASURED_ENTRIES:.1f} "
        f"| {memory / _MEASURED_ENTRIES:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--costs-only", action="store_true")
    arguments = parser.parse_args()
    with redis() as server, cluster() as nodes:
        engines = {"one Redis": f"redis://{HOST}:{server.port}", "cluster of 3": nodes}
        if not arguments.costs_only:
            measure_all(engines, arguments.seconds)
        print(
            "\n| engine | calls/s, 1 idle front | 3 idle fronts | scripts of an INV_TAG of nothing "
            "| its ms | Redis µs CPU to remove an entry | bytes of an entry |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, url in engines.items():
            print(costs(name, url), flush=True)


def measure_all(engines: dict[str, str], seconds: float) -> None:
    """Print all tables but the one of costs."""
    print(
        "| engine | fronts | near | load | ops/s | p50 ms | p99 ms | front µs CPU/op "
        "| Redis µs CPU/op |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    aged: list[str] = []
    invalidated: list[str] = []
    for name, url in engines.items():
        for row in rows(name, url, seconds):
            print(row, flush=True)
        aged.append(staleness(name, url))
        invalidated += invalidations(name, url)
    print("\n| engine | old for ms, median | 99 % | longest |\n|---|---|---|---|")
    print("\n".join(aged))
    print("\n| engine | entries | INV_TAG ms | longest GET of another meanwhile, ms |")
    print("|---|---|---|---|")
    print("\n".join(invalidated))


if __name__ == "__main__":
    main()
