"""Run the own tests of a client, from its source, against a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CONFIG = """\
[pytest]
anyio_mode = auto
"""


@dataclass(frozen=True)
class Suite:
    """The tests of a distribution.

    ``files`` are arguments of pytest, below the folder ``tests`` of the source. ``replaced`` maps
    texts in the files to others, in which {port} is that of the server.

    The keys of ``elsewhere`` are names of tests, or of modules, that fail with Redis as well; those
    of ``refused`` fail with TagCache alone. The values say why.
    """

    distribution: str
    files: Sequence[str]
    at_least: int
    replaced: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Outcomes:
    """Names of tests, and the text of each failure."""

    passed: list[str]
    skipped: list[str]
    failed: dict[str, str]


def run(suite: Suite, source: Path, folder: Path, port: int) -> Outcomes:
    """Run a suite in a copy of its tests, and once more what fails."""
    # Without the package beside it: the installed one is imported.
    copy = shutil.copytree(source / "tests", folder / "tests")
    (folder / "pytest.ini").write_text(CONFIG)
    for path in copy.rglob("*.py"):
        text = path.read_text()
        for old, new in suite.replaced.items():
            text = text.replace(old, new.format(port=port))
        path.write_text(text)
    found = _run(suite, folder, port)
    if found.failed:
        # Many wait for fractions of a second, in which a busy machine may do nothing.
        again = _run(suite, folder, port, "--last-failed")
        found = Outcomes(found.passed + again.passed, found.skipped, again.failed)
    return found


def _run(suite: Suite, folder: Path, port: int, *options: str) -> Outcomes:
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "-c", "pytest.ini"]
    command += ["-p", "their_fixtures", "-p", "no:twisted", *options]
    command += [each.format(port=port) for each in suite.arguments]
    done = subprocess.run(
        [*command, *(f"tests/{name}" for name in suite.files)],
        cwd=folder,
        env={
            **os.environ,
            # Of the plugin.
            "PYTHONPATH": str(Path(__file__).parent),
            "TAGCACHE_TEST_PORT": str(port),
            **{key: value.format(port=port) for key, value in suite.environ.items()},
        },
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return _outcomes(report)


def _outcomes(report: Path) -> Outcomes:
    found = Outcomes([], [], {})
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        bad = [each for each in case if each.tag in ("failure", "error")]
        if bad:
            found.failed[name] = f"{bad[0].get('message')}\n{bad[0].text}"
        elif case.find("skipped") is not None:
            found.skipped.append(name)
        else:
            found.passed.append(name)
    return found
