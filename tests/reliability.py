"""Writes what the fault suite measured into docs/reliability.md.

A test that takes the fixture ``measured`` says what fault it caused, what was expected and what
it saw. With ``--write-reliability`` the figures of the tests that passed replace those that
docs/reliability/results.json had of them, and the tables of docs/reliability.md are made anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "docs" / "reliability" / "results.json"
_TABLE = re.compile(r"(<!-- table: (?P<name>[^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# By test: the section of the document, and for each fault what was expected and measured.
Results: TypeAlias = dict[str, dict[str, Any]]
Measured: TypeAlias = Callable[[str, str, str], None]

_noted = pytest.StashKey[Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-reliability",
        action="store_true",
        help="write what the fault tests measured into docs/reliability.md",
    )


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Iterator[Measured]:
    """Note a fault, what was expected, and what was measured; kept if the test passes."""
    rows: list[tuple[str, str, str]] = []

    def note(fault: str, expected: str, seen: str) -> None:
        rows.append((fault, expected, seen))

    yield note
    if not rows:
        return  # it failed before, or was skipped
    noted = request.config.stash.setdefault(_noted, {})
    path, _, name = request.node.nodeid.partition("::")
    noted[f"{path}::{name}"] = {"section": request.module.SECTION, "rows": rows}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Forget what a test noted that then failed."""
    if report.failed:
        _failed.add(report.nodeid)


_failed: set[str] = set()


def pytest_sessionfinish(session: pytest.Session) -> None:
    noted = session.config.stash.get(_noted, {})
    if session.config.getoption("--write-reliability") and noted:
        kept = {name: result for name, result in noted.items() if name not in _failed}
        write(kept)


def write(new: Results) -> None:
    """Merge new results into the file of all, and make the tables of the document anew."""
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results.update(new)
    there = {name: result for name, result in sorted(results.items()) if _is_there(name)}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(there, indent=1, ensure_ascii=False) + "\n")
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), there))


def with_tables(document: str, results: Results) -> str:
    """Return the document with its tables made of these results."""

    def table(match: re.Match[str]) -> str:
        lines = ["| fault | expected | measured | test |", "| --- | --- | --- | --- |"]
        for name, result in results.items():
            if result["section"] == match["name"]:
                test = name.removeprefix("tests/").partition("[")[0]
                for row in result["rows"]:
                    cells = [cell.replace("|", "\\|") for cell in row]
                    lines.append("| " + " | ".join([*cells, f"`{test}`"]) + " |")
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return _TABLE.sub(table, document)


def _is_there(name: str) -> bool:
    """Say whether there still is such a test."""
    path, _, test = name.partition("::")
    function = test.rpartition("::")[2].partition("[")[0]
    return (ROOT / path).exists() and f"def {function}(" in (ROOT / path).read_text()
