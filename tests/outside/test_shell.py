"""The command in a terminal, in a real shell."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.running import TIMEOUT, RunningServer
from tests.outside.terminal import BIN, CTRL_C, Terminal


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer(tmp_path) as running:
        yield running


@pytest.mark.needs("bash")
def test_bash_completes_commands_and_knobs(tmp_path: Path) -> None:
    shell = Terminal("bash", "--norc", "-i", cwd=tmp_path, environ={"PS1": "ready> "})
    try:
        shell.wait_for(rb"ready> ")
        shell.type(b'eval "$(tagcache completion bash)"\n')
        shell.wait_for(rb"ready> ")
        shell.type(b"tagcache config get cache.ev\t")
        shell.wait_for(rb"cache\.eviction_policy ")
        shell.type(b"\n")
        shell.wait_for(rb"sieve\r\n")
        shell.wait_for(rb"ready> ")
        shell.type(b"tagcache inc\t")
        shell.wait_for(rb"tagcache increment ")
    finally:
        shell.close()


def test_watching_redraws_in_place_with_rates(server: RunningServer) -> None:
    url = f"http://127.0.0.1:{server.http_port}"
    screen = Terminal(
        *("tagcache", "stats", "--watch", "0.2"),
        cwd=server.directory,
        environ={"TAGCACHE_URL": url},
    )
    try:
        first = screen.wait_for(rb"(?s)\x1b\[H(.*?)\x1b\[J")[1]
        assert b"stop with Ctrl-C" in first
        assert b"per second" in first
        server.ask(b"PUT\tk\t-\t-\tv")
        # The display is redrawn from the top, and by now something was stored.
        screen.wait_for(rb"(?s)\x1b\[H[^H]*?puts +1 +[0-9.]*[1-9][0-9.]*\x1b\[K")
        screen.type(CTRL_C)
        assert screen.process.wait(TIMEOUT) == 0
    finally:
        screen.close()


def test_the_command_alone_starts_the_server(tmp_path: Path) -> None:
    screen = Terminal("tagcache", cwd=tmp_path, environ={"PORT": "0", "TCP_PORT": "0"})
    try:
        url = screen.wait_for(rb"dashboard: (http://\S+/) \(log in as admin")[1].decode()
        page = subprocess.run(["curl", "-fsS", url], capture_output=True, timeout=60, check=True)
        assert b"TagCache" in page.stdout
        screen.type(CTRL_C)
        # twistd stops cleanly, and then ends by the signal.
        assert screen.process.wait(TIMEOUT) == -signal.SIGINT
    finally:
        screen.close()


@pytest.mark.needs("bash")
def test_scripts_can_tell_not_found_from_unavailable(server: RunningServer) -> None:
    script = """
        tagcache put k v -t a,b; echo $?
        tagcache get key nope; echo $?
        tagcache flush tag a,x; echo $?
        tagcache put k; echo $?
        tagcache --password wrong get key k; echo $?
        TAGCACHE_URL=tagcache://127.0.0.1:1 tagcache get key k; echo $?
        TAGCACHE_URL=http://127.0.0.1:1 tagcache get key k; echo $?
        tagcache put text abc; tagcache increment text; echo $?
    """
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        env={
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(server.directory),
            "TAGCACHE_URL": f"http://127.0.0.1:{server.http_port}",
        },
    )
    assert done.stdout.split() == ["0", "1", "1", "0", "2", "3", "4", "4", "5"], done
