"""The estimate of memory compared with the resident set.

python -m benchmarks.estimate [--quick]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.suite import ROOT, Benchmark, Options, main, progress
from benchmarks.tables import number, size, table
from tagcache.server.upkeep.allocator import resident_bytes

# Sizes of values, and how many entries of each are enough for a measurable resident set.
SIZES = {10: 400_000, 100: 400_000, 1000: 200_000, 10_000: 30_000, 100_000: 4000}
TAGS = (0, 2, 5)


def measure(options: Options) -> list[dict[str, int]]:
    """Fill a cache for each size and number of tags, each in its own process."""
    found = []
    for value, entries in SIZES.items():
        for tags in TAGS:
            count = entries // 20 if options.quick else entries
            progress(f"{count:,} values of {size(value)}, {tags} tags each")
            ran = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.estimate",
                    "fill",
                    str(value),
                    str(tags),
                    str(count),
                ],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
            found.append(json.loads(ran.stdout))
    return found


def fill(value: int, tags: int, count: int) -> dict[str, int]:
    """Store entries; returns the growth of the resident set and the estimate, in bytes."""
    import gc

    from tagcache.engine.memory import MemoryCache

    # The same setting as in the server.
    gc.freeze()
    gc.set_threshold(700, 10, 2**31 - 1)
    cache = MemoryCache()
    before = resident_bytes()
    for entry in range(count):
        # Nearly every entry has another combination of tags: the worst case.
        names = [b"tag%d:%d" % (each, entry % (100 + each)) for each in range(tags)]
        content = (b"%010d" % entry) * (value // 10)
        cache.put(b"page:article:%07d" % entry, content, names, 3_600_000)
    resident = resident_bytes() - before
    return {
        "value": value,
        "tags": tags,
        "entries": count,
        "resident": resident,
        "estimate": cache.memory,
    }


def section(found: Any, plots: Path) -> str:
    rows = [
        [
            f"{size(each['value'])}, {each['tags']} tags",
            number(each["resident"] / each["entries"]),
            number(each["estimate"] / each["entries"]),
            f"{each['estimate'] / each['resident'] - 1:+.1%}",
        ]
        for each in found
    ]
    head = ("value", "resident bytes per entry", "estimate", "off by")
    return (
        "`cache.max_memory` bounds a running estimate. This compares it with the growth of the "
        "resident set, with keys of 20 bytes, and with nearly as many combinations of tags as "
        "there are entries.\n\n"
        f"{table(head, rows)}"
    )


BENCHMARK = Benchmark("estimate", "The estimate of memory", measure, section)

if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"]:
        print(json.dumps(fill(*map(int, sys.argv[2:]))))
    else:
        main(BENCHMARK, sys.argv[1:])
