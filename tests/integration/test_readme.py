"""The sessions in the README, run literally."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.running import RunningServer

README = Path(__file__).resolve().parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
SESSIONS = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
TLS = re.findall(r"```\w+\n(.*?)```", TEXT.partition("**TLS**")[2], re.DOTALL)[:3]


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
        # In a terminal the next prompt is on its own line anyway.
        assert done.stdout.rstrip("\n") == expected.rstrip("\n"), command


@pytest.mark.needs("openssl", "curl", "bash")
def test_the_example_of_tls(start: Callable[..., RunningServer], tmp_path: Path) -> None:
    make, config, ask = TLS
    subprocess.run(["bash", "-c", make], cwd=tmp_path, check=True, capture_output=True)
    # Free ports, and the paths of the files on this machine.
    config = re.sub(r"ssl:\d+:", "ssl:0:", config)
    config = re.sub(r"(\w+\.pem)", rf"{tmp_path}/\1", config)
    server = start(config=config)
    ask = ask.replace("localhost:8080", f"localhost:{server.http_port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", ask],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"hits"' in done.stdout
    assert "hits\t0\n" in done.stdout
