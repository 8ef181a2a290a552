"""Hit ratios of the eviction policies, and the best ratio that any policy could have.

python -m benchmarks.eviction [--quick]
"""

from __future__ import annotations

import itertools
import sys
from bisect import bisect
from collections.abc import Sequence
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.suite import Benchmark, Options, main, progress
from benchmarks.tables import table
from tagcache.engine.memory import MemoryCache, Policy
from tagcache.model.limits import Limits

POLICIES: tuple[Policy, ...] = ("sieve", "lru")
BEST = "best possible (Belady)"
KEYS = 20_000
# The share of the keys that fit into the cache.
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
VALUE = b"x" * 100


def zipf(random: Random, length: int) -> list[int]:
    """Requests of typical caches: the k-th most popular key is requested 1/k as often."""
    weights = list(itertools.accumulate(1 / rank for rank in range(1, KEYS + 1)))
    return [bisect(weights, random.random() * weights[-1]) for _ in range(length)]


def loop(random: Random, length: int) -> list[int]:
    """The same keys from first to last, over and over, as a nightly job requests them."""
    return [number % KEYS for number in range(length)]


def mixed(random: Random, length: int) -> list[int]:
    """Zipf, and after every 8,000 requests a scan of 2,000 keys that are requested only once."""
    requests = zipf(random, length)
    once = itertools.count(KEYS)
    for start in range(8000, length, 10_000):
        requests[start : start + 2000] = itertools.islice(once, len(requests[start : start + 2000]))
    return requests


PATTERNS = {"Zipf": zipf, "Zipf with scans": mixed, "loop": loop}


def measure(options: Options) -> dict[str, Any]:
    length = 40_000 if options.quick else 400_000
    found: dict[str, Any] = {}
    for name, pattern in PATTERNS.items():
        requests = pattern(Random(1), length)
        lines: dict[str, list[float]] = {policy: [] for policy in POLICIES}
        lines[BEST] = []
        for share in SHARES:
            entries = round(KEYS * share)
            progress(f"{name}: room for {entries:,} of {KEYS:,} keys")
            for policy in POLICIES:
                lines[policy].append(hit_ratio(requests, entries, policy))
            lines[BEST].append(best_hit_ratio(requests, entries))
        found[name] = lines
    return {"keys": KEYS, "requests": length, "shares": SHARES, "patterns": found}


def hit_ratio(requests: Sequence[int], entries: int, policy: Policy) -> float:
    """Return the hit ratio of a client that stores every key it did not find."""
    cache = MemoryCache(policy=policy)
    # All keys have the same length, and so all entries have the same size.
    cache.put(b"%07d" % 0, VALUE)
    cache.limits = Limits(max_memory=cache.memory * entries)
    cache.delete(b"%07d" % 0)
    for number in requests:
        key = b"%07d" % number
        if cache.get(key) is None:
            cache.put(key, VALUE)
    return cache.counters().hit_ratio


def best_hit_ratio(requests: Sequence[int], entries: int) -> float:
    """Return the best hit ratio: evict the key whose next request is the furthest away."""
    never = len(requests)
    following = [never] * len(requests)
    seen: dict[int, int] = {}
    for place in range(len(requests) - 1, -1, -1):
        following[place] = seen.get(requests[place], never)
        seen[requests[place]] = place
    # When each cached key is requested next. The heap has outdated entries too.
    held: dict[int, int] = {}
    farthest: list[tuple[int, int]] = []
    hits = 0
    for place, number in enumerate(requests):
        if number in held:
            hits += 1
        elif len(held) >= entries:
            while True:
                minus_next, victim = heappop(farthest)
                if held.get(victim) == -minus_next:
                    break
            if -minus_next <= following[place]:
                # The new key is requested even later: it is best not to store it.
                heappush(farthest, (minus_next, victim))
                continue
            del held[victim]
        held[number] = following[place]
        heappush(farthest, (-following[place], number))
    return hits / len(requests)


def section(found: Any, plots: Path) -> str:
    from benchmarks.plots import panels

    ticks = [f"{share:.0%}" for share in found["shares"]]
    panels(
        plots / "eviction.svg",
        "room, share of the keys",
        ticks,
        [(f"hit ratio, {name}", lines) for name, lines in found["patterns"].items()],
    )
    rows = [
        [f"{name}, {policy}", *(f"{ratio:.3f}" for ratio in ratios)]
        for name, lines in found["patterns"].items()
        for policy, ratios in lines.items()
    ]
    return (
        f"The engine itself, without a network: {found['requests']:,} requests for {KEYS:,} keys; "
        "a key that was not found is stored. `cache.max_memory` has room for a share of the "
        "keys.\n\n"
        f"{table(('pattern and policy', *ticks), rows)}\n"
        "![Hit ratios](performance/eviction.svg)\n"
    )


BENCHMARK = Benchmark("eviction", "Hit ratio of the eviction policies", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
