"""Measures, and writes docs/performance.md with its plots from all results that are kept.

python -m benchmarks.report [--quick] [--seconds N] [--rounds N] [--write-only] [SECTION ...]
"""

from __future__ import annotations

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
    throughput,
)
from benchmarks.suite import Options, kept, measure, options_of, parser
from benchmarks.tables import table

SECTIONS = [
    module.BENCHMARK
    for module in (
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


def write(document: Path, results: Mapping[str, Any]) -> None:
    """Write the report from results by the names of sections; what is by hand at its end stays."""
    old = document.read_text(encoding="utf-8") if document.exists() else ""
    _, mark, by_hand = old.partition(BY_HAND)
    newest = max(results.values(), key=lambda result: str(result["date"]))
    parts = [
        "# Performance\n",
        (
            "Measured by `make bench`, which writes this page; the scripts are in "
            "[benchmarks/](../benchmarks), and so are the results of every round. Servers and load "
            "generator run on the same machine, over the loopback, each bound to a core of its "
            "own where there are two. The load generator is [our own](../benchmarks/load.c), one "
            "thread, and checks every reply.\n"
        ),
        table(("machine", ""), list(newest["machine"].items())),
    ]
    for benchmark in SECTIONS:
        result = results.get(benchmark.name)
        if result is None:
            continue
        text = benchmark.section(result["found"], document.parent / "performance")
        parts += [f"## {benchmark.title}\n", text, _measured_on(result, newest["machine"])]
    parts.append(f"{BY_HAND}{by_hand}" if mark else f"{BY_HAND}\n")
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text("\n".join(parts), encoding="utf-8")


def _measured_on(result: Mapping[str, Any], machine: Mapping[str, str]) -> str:
    """Say when a section was measured, and what was different from the machine at the top."""
    different = [
        f"{name} {what}" for name, what in result["machine"].items() if machine.get(name) != what
    ]
    return f"Measured on {', '.join([result['date'], *different])}.\n"


def main(argv: Sequence[str]) -> None:
    arguments = parser("Measure and write the report.")
    arguments.add_argument(
        "--write-only", action="store_true", help="measure nothing, write from what is kept"
    )
    names = [benchmark.name for benchmark in SECTIONS]
    arguments.add_argument(
        "section", nargs="*", help=f"of {', '.join(names)}; all if none is named"
    )
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
