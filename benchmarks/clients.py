"""The blocking client beside pymemcache and redis-py, each against its own server.

python -m benchmarks.clients [--quick] [--rounds N]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.machine import bound_to_client_core
from benchmarks.servers import HOST
from benchmarks.suite import Benchmark, Options, main, median, progress
from benchmarks.tables import number, table
from tagcache.client import Client

KEYS = [f"user:{number}" for number in range(100)]
VALUE = b"x" * 100
OURS = "tagcache.Client"
ONE, BATCH = "one key", "100 keys at once"
# Turns are short, so that other work of the machine affects all clients alike.
TURN = {ONE: 200, BATCH: 10}


def measure(options: Options) -> dict[str, Any] | None:
    """Measure the clients in turns; None if there is nothing to compare with."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {ONE: {}, BATCH: {}}
    rounds = options.rounds_or(300, 20)
    with ExitStack() as stack:
        running = list(_clients(stack))
        if len(running) < 2:
            return None
        stack.enter_context(bound_to_client_core())
        for turn in range(rounds):
            for name, calls in running:
                for what, call in calls.items():
                    found[what].setdefault(name, []).append(_time(call, TURN[what]))
            if not (turn + 1) % 100:
                progress(f"round {turn + 1} of {rounds}")
    return {"rounds": rounds, "calls": found}


def _clients(stack: ExitStack) -> Iterator[tuple[str, dict[str, Callable[[], object]]]]:
    """Start the servers, and yield the name of each client and its operations."""
    server = stack.enter_context(servers.tagcache(servers.default_reactor()))
    ours = stack.enter_context(Client(port=server.port, serde="bytes"))
    ours.put_many(dict.fromkeys(KEYS, VALUE))
    yield OURS, {ONE: lambda: ours.get("user:7"), BATCH: lambda: ours.get_many(KEYS)}
    if _has("pymemcache") and servers.installed("memcached"):
        port = stack.enter_context(servers.memcached()).port
        base = import_module("pymemcache.client.base")
        theirs = base.Client((HOST, port), connect_timeout=1, timeout=1, no_delay=True)
        theirs.set_many(dict.fromkeys(KEYS, VALUE))
        yield (
            "pymemcache",
            {ONE: lambda: theirs.get("user:7"), BATCH: lambda: theirs.get_many(KEYS)},
        )
    if _has("redis") and servers.installed("redis-server"):
        port = stack.enter_context(servers.redis()).port
        redis = import_module("redis").Redis(port=port, socket_timeout=1)
        redis.mset(dict.fromkeys(KEYS, VALUE))

        def batch() -> object:
            pipeline = redis.pipeline(transaction=False)
            for key in KEYS:
                pipeline.get(key)
            return pipeline.execute()

        parser = "hiredis" if find_spec("hiredis") else "its own parser"
        yield f"redis-py, {parser}", {ONE: lambda: redis.get("user:7"), BATCH: batch}
        yield f"redis-py, {parser}, MGET", {BATCH: lambda: redis.mget(KEYS)}


def _has(library: str) -> bool:
    if find_spec(library) is None:
        print(f"{library} is not installed: skipped", flush=True)
        return False
    return True


def _time(call: Callable[[], object], times: int) -> dict[str, float]:
    """Return the time of a call, and the client's CPU time in it."""
    call()
    wall, spent = time.perf_counter(), time.process_time()
    for _ in range(times):
        call()
    wall, spent = time.perf_counter() - wall, time.process_time() - spent
    return {"microseconds": wall * 1e6 / times, "cpu_microseconds": spent * 1e6 / times}


def section(found: Any, plots: Path) -> str:
    rows = []
    for what, clients in found["calls"].items():
        for name, turns in clients.items():
            medians = {key: median([turn[key] for turn in turns]) for key in turns[0]}
            pairs = zip(clients[OURS], turns, strict=True)
            ratio = median([ours["microseconds"] / other["microseconds"] for ours, other in pairs])
            rows.append(
                [
                    what,
                    name,
                    number(medians["microseconds"]),
                    number(medians["cpu_microseconds"]),
                    number(ratio),
                ]
            )
    head = [
        "call",
        "client",
        "µs/call",
        "CPU µs/call of the client",
        "time of tagcache.Client to it",
    ]
    return (
        "One thread, values of 100 bytes that no client converts, and a timeout of 1 s in each. "
        "Every client uses its own server, on the other core, and the time includes both. A "
        "hundred keys are `get_many` of tagcache.Client and pymemcache, and a pipeline or `mget` "
        "of redis-py. "
        f"Medians of {found['rounds']} rounds, in which the clients take short turns; the ratio is "
        f"taken in each round.\n\n{table(head, rows)}"
    )


BENCHMARK = Benchmark("clients", "Python clients", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
