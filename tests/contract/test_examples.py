"""The example in the documentation runs, and its types are correct."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.running import RunningServer

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "clients.py"


def test_the_example_runs(running: RunningServer) -> None:
    url = f"tagcache://127.0.0.1:{running.port}"
    done = subprocess.run(
        [sys.executable, EXAMPLE, url], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "{'title': 'Hello'}",
        "{'title': 'Made now'}",
        "1 {'title': 'Again'}",
        "2 gone",
        "key_too_long",
        "1 10",
        "hello 1",
    ]


@pytest.mark.slow
def test_its_types_are_correct(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from tagcache import AsyncClient, Client\n"
        "count: str = Client().invalidate_tag('t')\n"
        "Client(timout=1)\n"
        "Client().put('key', 1, ttl='5')\n"
        "async def main() -> None:\n"
        "    found: bytes = await AsyncClient().keys_by_tag('t')\n"
        "    AsyncClient().invalidate_tags(['t'], mode='some')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", EXAMPLE, wrong],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=EXAMPLE.parents[2],
    )
    faults = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert {int(line.split(":")[1]) for line in faults if "wrong.py" in line} == {2, 3, 4, 6, 7}
    assert not [line for line in faults if "clients.py" in line], done.stdout
