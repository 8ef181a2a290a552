"""What documents say of tests is so."""

from __future__ import annotations

import json
import re

import pytest

from tests.reliability import DOCUMENT, RESULTS, ROOT, with_tables

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


def test_the_tables_are_those_of_the_results() -> None:
    results = json.loads(RESULTS.read_text())
    document = DOCUMENT.read_text()
    assert with_tables(document, results) == document
    for test in results:
        path, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text()
