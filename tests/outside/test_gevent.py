"""The blocking client in a program on gevent, where it must not block the thread."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.running import RunningServer


def test_greenlets_run_while_the_client_waits(server: RunningServer) -> None:
    program = Path(__file__).with_name("gevent_program.py")
    done = subprocess.run(
        [sys.executable, program, str(server.port)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "did not answer within 0.2 s" in done.stdout
