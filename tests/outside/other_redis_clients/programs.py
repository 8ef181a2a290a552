"""Programs in other languages that contain many tests, and print a line of JSON for each."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.outside.other_redis_clients.target import AGAINST_REDIS, HOST, PASSWORD, USER, Target

NODE = Path(__file__).parent / "node"
PHP = Path(__file__).parent / "php"
# A program ends by itself before that.
TIMEOUT = 300.0
NAME = re.compile(r'^(?:test|testOurs|simple)\(\s*"([^"]+)"', re.MULTILINE)


def cases(programs: Mapping[str, Path]) -> list[Any]:
    """The tests in the source of each program, for ``parametrize``: the program, and a name."""
    return [
        pytest.param(program, name, id=f"{program}: {name}")
        for program, source in programs.items()
        for name in names(source)
    ]


def names(source: Path) -> list[str]:
    """The names of the tests in the source of a program."""
    return NAME.findall(source.read_text())


def environ(target: Target, locked: Target) -> dict[str, str]:
    """Tell a program of two servers; clients have to log in to ``locked``."""
    return {
        **os.environ,
        "AGAINST": "redis" if AGAINST_REDIS else "tagcache",
        "HOST": HOST,
        "PORT": str(target.port),
        "LOCKED_PORT": str(locked.port),
        "USER_NAME": USER,
        "PASSWORD": PASSWORD,
    }


def run(
    source: Path, arguments: Sequence[str], target: Target, locked: Target
) -> dict[str, str | None]:
    """The tests of a program, and what went wrong in each."""
    interpreter = "node" if source.suffix == ".mjs" else "php"
    done = subprocess.run(
        [interpreter, str(source), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=environ(target, locked),
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["name"] for result in results] == names(source)
    return {result["name"]: result["error"] for result in results}
