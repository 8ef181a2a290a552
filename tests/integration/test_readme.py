"""The sessions in the README, run as they are written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.integration.running import RunningServer

README = Path(__file__).resolve().parents[2] / "README.md"
SESSIONS = re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_sessions() -> None:
    assert len(SESSIONS) >= 2


@pytest.mark.needs("nc", "bash")
@pytest.mark.parametrize("session", SESSIONS)
def test_session(server: RunningServer, session: str) -> None:
    steps = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", session, re.MULTILINE)
    assert steps
    for command, expected in steps:
        assert "127.0.0.1 1984" in command
        here = command.replace("127.0.0.1 1984", f"127.0.0.1 {server.port}")
        done = subprocess.run(["bash", "-c", here], capture_output=True, text=True, timeout=20)
        assert (done.stdout, done.stderr) == (expected, ""), command
