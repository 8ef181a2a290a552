"""Resident bytes of an entry with two tags.

python -m benchmarks.memory [--quick]
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import load, servers
from benchmarks.load import Load
from benchmarks.servers import HOST, Server
from benchmarks.suite import Benchmark, Options, main, progress
from benchmarks.tables import number, table

# With up to seven digits after it, a key has about 20 bytes.
PREFIX = "page:article:"
TAGS = {"t": 100, "g": 7}
VALUE = b"x" * 100
BATCH = 1000
# After this time the server is idle again.
SETTLE_SECONDS = 1.0


def measure(options: Options) -> dict[str, Any]:
    entries = 20_000 if options.quick else 1_000_000
    found = {}
    with servers.tagcache(servers.default_reactor()) as server:
        found["TagCache"] = _growth(server, entries, _fill_tagcache)
    if servers.installed("redis-server"):
        with servers.redis() as server:
            found["Redis"] = _growth(server, entries, _fill_redis)
    return {"entries": entries, "servers": found}


def _growth(server: Server, entries: int, fill: Callable[[Server, int], None]) -> dict[str, int]:
    progress(f"{server.name}: {entries:,} entries")
    time.sleep(SETTLE_SECONDS)
    before = server.resident_bytes()
    fill(server, entries)
    time.sleep(SETTLE_SECONDS)
    return {"before": before, "after": server.resident_bytes()}


def _fill_tagcache(server: Server, entries: int) -> None:
    tags = ",".join(f"{name}:{count}" for name, count in TAGS.items())
    load.fill(server, Load(keys=entries, value_size=len(VALUE), prefix=PREFIX, tags=tags))


def _fill_redis(server: Server, entries: int) -> None:
    """Store each value with SET, and its key with SADD in the set of each tag."""
    with socket.create_connection((HOST, server.port)) as client, client.makefile("rb") as replies:
        for begin in range(0, entries, BATCH):
            numbers = range(begin, min(begin + BATCH, entries))
            client.sendall(b"".join(_redis_entry(entry) for entry in numbers))
            for _ in range(len(numbers) * (1 + len(TAGS))):
                reply = replies.readline()
                if reply not in (b"+OK\r\n", b":1\r\n"):
                    raise RuntimeError(f"Redis says {reply!r}")


def _redis_entry(entry: int) -> bytes:
    key = f"{PREFIX}{entry}".encode()
    requests = [_resp(b"SET", key, VALUE)]
    for name, count in TAGS.items():
        requests.append(_resp(b"SADD", f"{name}:{entry % count}".encode(), key))
    return b"".join(requests)


def _resp(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def section(found: Any, plots: Path) -> str:
    entries = found["entries"]
    rows = [
        [
            name,
            number(sizes["before"] / 10**6),
            number(sizes["after"] / 10**6),
            number((sizes["after"] - sizes["before"]) / entries),
        ]
        for name, sizes in found["servers"].items()
    ]
    tags = " and ".join(f"one of {count} (`{name}:N`)" for name, count in TAGS.items())
    head = ("server", "empty, MB", "full, MB", "bytes per entry")
    return (
        f"The growth of the resident set by {entries:,} entries, divided by their number: keys of "
        f"about 20 bytes, values of {len(VALUE)}, two tags each, {tags}; in Redis a `SET` for the "
        "value and a `SADD` of the key to a set for each tag.\n\n"
        f"{table(head, rows)}"
    )


BENCHMARK = Benchmark("memory", "Memory", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
