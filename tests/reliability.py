"""Writes what the fault suite measured into docs/reliability.md.

A test with the fixture ``measured`` records the fault that it caused, what it expected and what it
saw. With ``--write-reliability`` the rows of the tests that passed replace their old rows in the
tables of docs/reliability.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "reliability.md"
_TABLE = re.compile(
    r"(?P<head><!-- table: (?P<name>[^>]+) -->\n\|[^\n]+\n\|[^\n]+\n)"
    r"(?P<rows>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)
# The last cell of a row.
_TEST = re.compile(r"\| `([^`]+)` \|$")

# For each test: the section of the document, and the rows (fault, expected, measured).
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
    """Record a fault, what was expected, and what was measured; kept if the test passes."""
    rows: list[tuple[str, str, str]] = []

    def note(fault: str, expected: str, seen: str) -> None:
        rows.append((fault, expected, seen))

    yield note
    if not rows:
        return  # it failed earlier, or was skipped
    noted = request.config.stash.setdefault(_noted, {})
    path, _, name = request.node.nodeid.partition("::")
    noted[f"{path}::{name}"] = {"section": request.module.SECTION, "rows": rows}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Discard the rows of a test that failed."""
    if report.failed:
        _failed.add(report.nodeid)


_failed: set[str] = set()


def pytest_sessionfinish(session: pytest.Session) -> None:
    noted = session.config.stash.get(_noted, {})
    if session.config.getoption("--write-reliability") and noted:
        kept = {name: result for name, result in noted.items() if name not in _failed}
        write(kept)


def write(new: Results) -> None:
    """Write the rows of the tests that ran into the document."""
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), new))


def with_tables(document: str, new: Results) -> str:
    """Return the document with new rows for the tests that ran, and no rows of removed tests."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for name, result in new.items():
        test = name.removeprefix("tests/").partition("[")[0]
        for row in result["rows"]:
            cells = [cell.replace("|", "\\|") for cell in row]
            line = "| " + " | ".join([*cells, f"`{test}`"]) + " |"
            rows.setdefault(result["section"], []).append((test, line))

    def table(match: re.Match[str]) -> str:
        measured = rows.get(match["name"], [])
        ran = {test for test, _ in measured}
        kept = [
            (test[1], line)
            for line in match["rows"].splitlines()
            if (test := _TEST.search(line)) and test[1] not in ran and is_there(test[1])
        ]
        lines = [line for _, line in sorted([*kept, *measured], key=lambda row: row[0])]
        return match["head"] + "\n".join(lines) + "\n" + match["end"]

    return _TABLE.sub(table, document)


def is_there(test: str) -> bool:
    """Return whether a test exists, given as ``FILE::NAME`` with its file under tests/."""
    path, _, name = test.partition("::")
    file = ROOT / "tests" / path
    return file.exists() and f"def {name.rpartition('::')[2]}(" in file.read_text()
