"""The estimate of memory compared with the resident set, while the sizes of values shift.

python -m benchmarks.shifting [--quick]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.suite import ROOT, Benchmark, Options, main, progress
from benchmarks.tables import number, size, table
from tagcache.server.upkeep.allocator import resident_bytes, trim

# Small, large and small values again: memory freed by small values cannot hold large ones.
SHIFTS = (100, 10_000, 100, 10_000, 100)


def measure(options: Options) -> list[dict[str, Any]]:
    """Overwrite the same keys with other sizes; with a memory limit, store other keys."""
    found = []
    count = 1000 if options.quick else 30_000
    for limit in (0, 5_000_000 if options.quick else 100_000_000):
        progress(f"sizes that shift, max_memory = {limit:,}")
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.shifting", "shift", str(limit), str(count)],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        found += json.loads(ran.stdout)
    return found


def shift(limit: int, count: int) -> list[dict[str, Any]]:
    """Store the values of SHIFTS one after the other, and return the figures after each.

    Without a limit (bytes), the same ``count`` keys are overwritten in random order. With a limit,
    new keys are stored, half as many again as fit. Memory is returned to the system as in the
    server.
    """
    import gc
    from random import Random

    from tagcache.engine.memory import MemoryCache
    from tagcache.model.limits import Limits

    gc.freeze()
    gc.set_threshold(700, 10, 2**31 - 1)
    cache = MemoryCache(Limits(max_memory=limit))
    random = Random(1)
    before = resident_bytes()
    told = []
    last = 0
    for value in SHIFTS:
        keys = list(range(count))
        if limit:
            keys = list(range(last, last := last + limit * 3 // 2 // (value + 400)))
        else:
            random.shuffle(keys)
        for key in keys:
            names = [b"tag%d" % (key % 100), b"t%d" % (key % 7)]
            cache.put(b"page:article:%07d" % key, (b"%010d" % key) * (value // 10), names)
            for _ in cache.reclaim():
                pass
        trim()
        told.append(
            {
                "limit": limit,
                "value": value,
                "entries": len(cache),
                "resident": resident_bytes() - before,
                "estimate": cache.memory,
            }
        )
    return told


def section(found: Any, plots: Path) -> str:
    rows = [
        [
            "other keys, with eviction" if each["limit"] else "the same keys, overwritten",
            size(each["value"]),
            number(each["entries"]),
            f"{each['resident'] / 1e6:.0f} MB",
            f"{each['estimate'] / 1e6:.0f} MB",
            f"{each['resident'] / each['estimate']:.2f}",
        ]
        for each in found
    ]
    head = ("what is stored", "value", "entries", "resident", "estimate", "ratio")
    return (
        "Values of 100 bytes, then of 10 kB, and back, one after the other in the same process. "
        "[Operations](operations.md#memory) explains why the estimate is too low when small "
        f"entries have made room for large ones.\n\n{table(head, rows)}"
    )


BENCHMARK = Benchmark("shifting", "The estimate of memory when sizes shift", measure, section)

if __name__ == "__main__":
    if sys.argv[1:2] == ["shift"]:
        print(json.dumps(shift(*map(int, sys.argv[2:]))))
    else:
        main(BENCHMARK, sys.argv[1:])
