"""The examples in the README and the documentation, run literally."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.integration.running import RunningServer
from tests.integration.sessions import run_session

ROOT = Path(__file__).resolve().parents[2]
TLS = (ROOT / "docs/howto/tls.md").read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def environ(server: RunningServer) -> Mapping[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TAGCACHE_URL": f"http://127.0.0.1:{server.http_port}",
        "HOME": str(server.directory),
    }


@pytest.mark.needs("nc", "curl", "bash")
@pytest.mark.parametrize("document", ["protocol.md", "http.md", "cli.md", "operations.md"])
def test_the_session(server: RunningServer, environ: Mapping[str, str], document: str) -> None:
    (session,) = blocks(f"docs/{document}", "console")
    here = session.replace("127.0.0.1 1984", f"127.0.0.1 {server.port}")
    here = here.replace("127.0.0.1:8080", f"127.0.0.1:{server.http_port}")
    assert here != session or document == "cli.md"
    run_session(here, environ, server.directory)


def test_the_program_of_the_readme(server: RunningServer, environ: Mapping[str, str]) -> None:
    (program,) = blocks("README.md", "python")
    lines = [line for line in program.splitlines() if line]
    assert len(lines) <= 10
    here = program.replace("127.0.0.1:1984", f"127.0.0.1:{server.port}")
    command = [sys.executable, "-c", here]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == re.findall(r"^print.*  # (.*)$", program, re.MULTILINE)


@pytest.mark.needs("openssl", "curl", "bash")
def test_the_example_of_tls(start: Callable[..., RunningServer], tmp_path: Path) -> None:
    make, config, ask = re.findall(r"```\w+\n(.*?)```", TLS, re.DOTALL)
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
