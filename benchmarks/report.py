"""Measures, and writes the sections of docs/performance.md and their plots.

python -m benchmarks.report [--quick] [--seconds N] [--rounds N] [--write-only] [SECTION ...]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    attacks,
    clients,
    compare,
    estimate,
    eviction,
    http,
    latency,
    memory,
    parsers,
    shifting,
    tagged,
    throughput,
)
from benchmarks.machine import NOT_INSTALLED
from benchmarks.suite import Options, kept, measure, options_of, parser

SECTIONS = [
    module.BENCHMARK
    for module in (
        tagged,
        compare,
        throughput,
        latency,
        attacks,
        parsers,
        memory,
        estimate,
        shifting,
        eviction,
        http,
        clients,
    )
]
BY_HAND = "<!-- written by hand from here on -->"
INTRODUCTION = """# Performance

What a user needs to decide, then the figures.

- **One server is enough for most sites.** A look-up or a store takes microseconds of CPU
  time, so one core answers tens of thousands of requests a second, each with a round trip of its
  own, and hundreds of thousands if clients send several at once. [Standard
  workloads](#standard-workloads) compares this with Redis on the same machine.
- **Tags cost little.** A store with tags takes more CPU time than one without; in return it keeps
  an index that is always correct. [Caching with tags](#caching-with-tags) compares it with the
  usual ways to have tags on Redis, in CPU time, in how long other clients wait during an
  invalidation, and in what is left behind or removed wrongly.
- **Large invalidations do not hold up other clients.** A tag with a million entries is
  invalidated in a few milliseconds; its memory is reclaimed in slices. See [The tail](#the-tail)
  and [One client against the others](#one-client-against-the-others).
- **Size and number of entries matter little.** See [Throughput](#throughput) for more
  connections, larger values, more entries and more tags.
- **Memory**: [Size the machine](howto/sizing.md) has the formula; [Memory](#memory) and [The
  estimate of memory](#the-estimate-of-memory) show how well it holds.
- **Eviction**: `sieve`, the default, keeps more of what is read again than `lru`. See [Hit ratio
  of the eviction policies](#hit-ratio-of-the-eviction-policies).
- **Use the cache port for many small requests.** HTTP takes more CPU time for each; see
  [HTTP](#http) and [Python clients](#python-clients).

Measure with your own values on your own machine: `tagcache bench`, or `make bench`, which writes
this page. `make bench BENCH="tagged compare"` repeats some sections; each is named like its
script in `benchmarks/`. The results of every round are written to `benchmarks/results/`, which is
not kept in the repository; a section without results there stays as it is. Servers and load
generator run on the same machine, over the loopback, each bound to its own core if there are two.
The load generator is [our own](../benchmarks/load.c), has one thread, and checks every reply.
"""


def write(document: Path, results: Mapping[str, Any]) -> None:
    """Write the sections that have a result. The rest of the document stays as it is."""
    old = document.read_text(encoding="utf-8") if document.exists() else ""
    measured, mark, by_hand = old.partition(BY_HAND)
    before = _sections(measured)
    parts = [INTRODUCTION]
    for benchmark in SECTIONS:
        result = results.get(benchmark.name)
        if result is not None:
            text = benchmark.section(result["found"], document.parent / "performance")
            parts += [f"## {benchmark.title}\n", text, _measured_on(result)]
        elif benchmark.title in before:
            parts.append(before[benchmark.title])
    parts.append(f"{BY_HAND}{by_hand}" if mark else f"{BY_HAND}\n")
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text("\n".join(parts), encoding="utf-8")


def _sections(text: str) -> dict[str, str]:
    """Return the sections of a document by their titles, each with its heading."""
    found = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {
        section.partition("\n")[0].removeprefix("## "): f"{section.rstrip()}\n" for section in found
    }


def _measured_on(result: Mapping[str, Any]) -> str:
    """Return the note below a section: the date, the machine and the programs."""
    machine = ", ".join(
        f"{name} {what}" for name, what in result["machine"].items() if what != NOT_INSTALLED
    )
    return f"Measured on {result['date']}: {machine}.\n"


def main(argv: Sequence[str]) -> None:
    arguments = parser("Measure and write the report.")
    arguments.add_argument(
        "--write-only",
        action="store_true",
        help="measure nothing, only write the report from the results",
    )
    names = [benchmark.name for benchmark in SECTIONS]
    arguments.add_argument("section", nargs="*", help=f"one of {', '.join(names)}; default: all")
    read = arguments.parse_args(argv)
    unknown = set(read.section) - set(names)
    if unknown:
        arguments.error(f"no such section: {', '.join(sorted(unknown))}")
    options = options_of(read)
    if not read.write_only:
        _measure(read.section or names, options)
    results = {
        benchmark.name: result
        for benchmark in SECTIONS
        if (result := kept(benchmark, options)) is not None
    }
    if not results:
        arguments.error("there are no results yet")
    write(options.document, results)
    print(f"written: {options.document}")


def _measure(names: Sequence[str], options: Options) -> None:
    for benchmark in SECTIONS:
        if benchmark.name in names:
            measure(benchmark, options)


if __name__ == "__main__":
    main(sys.argv[1:])
