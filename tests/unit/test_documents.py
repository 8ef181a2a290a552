"""What the documents say about tests and code is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tagcache
from benchmarks import report
from tests.reliability import DOCUMENT, ROOT, with_tables

NAMED = re.compile(r"`(test_\w+)`")
FILE = re.compile(r"\((tests/[\w/]+\.py)\)")
PACKAGE = ROOT / "tagcache"
PATH = re.compile(r"`([\w.-]+/[\w./-]*|\w+\.(?:py|ini|conf|md))`")
# A function followed by its module, and a function or method alone.
PLACED = re.compile(r"`([\w.]+)\(\)`\s\s*\(`([\w/]+\.py)`\)")
FUNCTION = re.compile(r"`([\w.]+)\(\)`")
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
METHODS = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize("name", ["security.md", "reliability.md"])
def test_every_test_that_is_named_exists(name: str) -> None:
    found = 0
    text = (ROOT / "docs" / name).read_text()
    # Each part is a row of a table, or a paragraph.
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


LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_the_site(name: str) -> None:
    links = LINK.findall((ROOT / name).read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 60


def test_the_notes_of_releases() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dates = dict(re.findall(r"(?m)^## (\S+) \((\S+)\)$", changelog))
    notes = {path.stem: path for path in (ROOT / "docs" / "releases").glob("*.md")}
    assert tagcache.__version__ in notes
    for version, path in notes.items():
        lines = path.read_text(encoding="utf-8").splitlines()
        first = re.fullmatch(rf"TagCache {re.escape(version)} \(([\d-]+)\)", lines[0])
        assert first is not None
        # The changelog has the version once its fragments are collected.
        assert dates.get(version, first[1]) == first[1]
        # Git takes these for comments, and leaves them out of the message of a tag.
        assert [line for line in lines if line.startswith("#")] == []


def test_a_section_that_was_not_measured_stays_in_the_report(tmp_path: Path) -> None:
    written = (ROOT / "docs" / "performance.md").read_text()
    copy = tmp_path / "performance.md"
    copy.write_text(written)
    report.write(copy, {})
    assert copy.read_text() == written


def defined_in(path: Path) -> set[str]:
    """Return the classes, functions and ``Class.method`` names of a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, DEFINITIONS):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, METHODS)}
    return found


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_paths_and_names_exist(name: str) -> None:
    """Paths may be relative to ``tagcache/``. A name before a path in brackets is defined there."""
    text = (ROOT / name).read_text(encoding="utf-8")
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for path in PATH.findall(text):
        if f"/{path}" in ignored:
            continue
        assert (ROOT / path).exists() or (PACKAGE / path).exists(), path
    for function, path in PLACED.findall(text):
        assert function in defined_in(PACKAGE / path), (function, path)
    everything = set().union(*map(defined_in, PACKAGE.rglob("*.py")))
    for function in FUNCTION.findall(text):
        assert function in everything, function
