"""What the benchmarks share: options, the files of results, the command line."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe

ROOT = Path(__file__).resolve().parent.parent
# Results of a quick run are not stored with those of full runs.
QUICK = ROOT / "build" / "benchmarks"


@dataclass(frozen=True)
class Options:
    """How thoroughly to measure. With None the benchmark decides."""

    quick: bool = False
    seconds: float | None = None
    rounds: int | None = None

    def seconds_or(self, thorough: float, quick: float) -> float:
        return self.seconds or (quick if self.quick else thorough)

    def rounds_or(self, thorough: int, quick: int = 1) -> int:
        return self.rounds or (quick if self.quick else thorough)

    @property
    def results(self) -> Path:
        """The folder of the results."""
        return QUICK / "results" if self.quick else ROOT / "benchmarks" / "results"

    @property
    def document(self) -> Path:
        """The report."""
        return (QUICK if self.quick else ROOT / "docs") / "performance.md"


@dataclass(frozen=True)
class Benchmark:
    """One section of the report.

    ``measure`` returns the result, which is stored as JSON; None if a program is missing.
    ``section`` returns Markdown for a result, and writes plots to the given folder.
    """

    name: str
    title: str
    measure: Callable[[Options], Any]
    section: Callable[[Any, Path], str]


def measure(benchmark: Benchmark, options: Options) -> bool:
    """Measure, and store the result with the machine and the date; False if it was skipped."""
    print(f"== {benchmark.name}", flush=True)
    found = benchmark.measure(options)
    if found is None:
        return False
    kept = {"date": datetime.now(UTC).date().isoformat(), "machine": describe(), "found": found}
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{benchmark.name}.json"
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return True


def kept(benchmark: Benchmark, options: Options) -> Any:
    """Return the stored result; None if there is none."""
    path = options.results / f"{benchmark.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for the fields of ``Options``."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument(
        "--quick", action="store_true", help="a short trial with fewer points; written to build/"
    )
    arguments.add_argument("--seconds", type=float, help="duration of each measurement")
    arguments.add_argument("--rounds", type=int, help="number of repetitions")
    return arguments


def options_of(read: argparse.Namespace) -> Options:
    return Options(read.quick, read.seconds, read.rounds)


def main(benchmark: Benchmark, argv: Sequence[str] | None = None) -> None:
    """Measure one section and print it. ``benchmarks.report`` writes it to the document."""
    options = options_of(parser(benchmark.title).parse_args(argv))
    if measure(benchmark, options):
        found = kept(benchmark, options)["found"]
        print(benchmark.section(found, options.document.parent / "performance"))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def progress(text: str) -> None:
    """Print the progress of a long run."""
    print(text, flush=True)
