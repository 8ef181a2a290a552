"""What documents say of tests is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import report
from tests.reliability import DOCUMENT, ROOT, with_tables

NAMED = re.compile(r"`(test_\w+)`")
FILE = re.compile(r"\((tests/[\w/]+\.py)\)")


@pytest.mark.parametrize("name", ["security.md", "reliability.md"])
def test_every_test_that_is_named_exists(name: str) -> None:
    found = 0
    text = (ROOT / "docs" / name).read_text()
    # A row of a table, or a paragraph.
    for line in re.split(r"\n(?=\|)|\n\n", text):
        names: list[str] = []
        for token in re.split(r"(\(tests/[\w/]+\.py\))", line):
            file = FILE.fullmatch(token)
            if file is None:
                names += NAMED.findall(token)
                continue
            assert names, line
            code = (ROOT / file[1]).read_text()
            for test in names:
                assert f"def {test}(" in code, (test, file[1])
                found += 1
            names = []
        assert not names, f"no file is named for {names}"
    assert found


def test_every_threat_is_held_by_a_test() -> None:
    document = (ROOT / "docs" / "security.md").read_text()
    table = document.partition("| threat |")[2].partition("## ")[0]
    rows = [line for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(rows) > 15
    assert all(NAMED.search(row) for row in rows)


def test_the_tables_name_tests_that_exist() -> None:
    document = DOCUMENT.read_text()
    assert with_tables(document, {}) == document


def test_a_row_that_was_measured_again_replaces_the_old_one() -> None:
    document = DOCUMENT.read_text()
    test = "tests/faults/test_load.py::test_a_client_that_reads_a_byte_a_second"
    row = ("a fault", "nothing | lost", "nothing lost")
    changed = with_tables(document, {test: {"section": "load and limits", "rows": [row]}})
    assert (
        f"| a fault | nothing \\| lost | nothing lost | `{test.removeprefix('tests/')}` |"
        in changed
    )
    assert len(changed.splitlines()) == len(document.splitlines())
    assert "10 MB of replies read a byte a second" not in changed


def test_a_section_that_was_not_measured_stays_in_the_report(tmp_path: Path) -> None:
    written = (ROOT / "docs" / "performance.md").read_text()
    copy = tmp_path / "performance.md"
    copy.write_text(written)
    report.write(copy, {})
    assert copy.read_text() == written
