"""The sessions in the README, run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.running import RunningServer

README = Path(__file__).resolve().parents[2] / "README.md"
SESSIONS = re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_sessions() -> None:
    assert len(SESSIONS) >= 4


@pytest.mark.needs("nc", "curl", "bash")
@pytest.mark.parametrize("session", SESSIONS)
def test_session(server: RunningServer, session: str) -> None:
    steps = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", session, re.MULTILINE)
    assert steps
    for command, expected in steps:
        here = command.replace("127.0.0.1 1984", f"127.0.0.1 {server.port}")
        here = here.replace("127.0.0.1:8080", f"127.0.0.1:{server.http_port}")
        assert here != command or re.search(r"\btagcache ", command)
        environ = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TAGCACHE_URL": f"http://127.0.0.1:{server.http_port}",
            "HOME": str(server.directory),
        }
        done = subprocess.run(
            ["bash", "-c", here], capture_output=True, text=True, timeout=60, env=environ
        )
        assert done.stderr == "", command
        # A terminal puts the next prompt on a line of its own anyway.
        assert done.stdout.rstrip("\n") == expected.rstrip("\n"), command
