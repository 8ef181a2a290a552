"""Fixtures for the tests of programs that use TagCache: a real server, and a client for it.

pytest finds them when TagCache is installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tagcache.client import Client

_CONFIG = """\
[server]
host = 127.0.0.1
tcp_port = 0
http_port = 0
[authentication]
password = {password}
"""
# Does what the `twistd` command does, which may not be on the path.
_TWISTD = "from twisted.scripts.twistd import run; run()"
_LISTENING = re.compile(r"(\w+): listening on (\S+?):(\d+);")
# Seconds.
_START = 30.0
_STOP = 10.0


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, and its process.

    ``url`` is for clients, ``http_url`` for the HTTP API, with ``username`` and ``password``.
    """

    host: str
    port: int
    http_port: int
    process: subprocess.Popen[bytes]
    log: Path
    username: str = "admin"
    password: str = "password"  # noqa: S105 - of a server for tests, on 127.0.0.1

    @property
    def url(self) -> str:
        return f"tagcache://{self.host}:{self.port}"

    @property
    def http_url(self) -> str:
        return f"http://{self.host}:{self.http_port}"


_SERVER_VARIABLES = {"NOTIFY_SOCKET", "LISTEN_FDS", "PORT", "TCP_PORT", "HOST", "LOG_LEVEL"}


def _started(directory: Path) -> Iterator[Server]:
    """Run a server; stop it when the iteration continues. Raises RuntimeError."""
    config, log = directory / "tagcache.conf", directory / "tagcache.log"
    config.write_text(_CONFIG.format(password=Server.password), encoding="utf-8")
    command = [sys.executable, "-c", _TWISTD, "--nodaemon", "--pidfile=", "tagcache"]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, f"--config={config}"],
            cwd=directory,
            # The environment may configure another server.
            env={
                name: text
                for name, text in os.environ.items()
                if not name.startswith(("TAGCACHE_", "TC_")) and name not in _SERVER_VARIABLES
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        ports = _ports(process, log)
        yield Server("127.0.0.1", ports["cache"], ports["http"], process, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ports(process: subprocess.Popen[bytes], log: Path) -> dict[str, int]:
    """Wait until the server listens; return the ports of its listeners. Raises RuntimeError."""
    end = time.monotonic() + _START
    while True:
        # Check this before reading the log: if the process has ended, the log is complete.
        ended = process.poll() is not None
        text = log.read_text(encoding="utf-8", errors="replace")
        ports = {name: int(port) for name, _, port in _LISTENING.findall(text)}
        if {"cache", "http"} <= ports.keys() and not ended:
            return ports
        if ended or time.monotonic() > end:
            raise RuntimeError(f"the TagCache server did not start:\n{text}")
        time.sleep(0.02)


@pytest.fixture(scope="session")
def tagcache_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A TagCache server for the session: a separate process, on free ports of 127.0.0.1."""
    yield from _started(tmp_path_factory.mktemp("tagcache"))


@pytest.fixture
def tagcache_client(tagcache_server: Server) -> Iterator[Client]:
    """A blocking client of ``tagcache_server``, which is flushed before each test."""
    # Imported late: coverage does not count modules that are imported before it starts.
    from tagcache.client import Client

    with Client.from_url(tagcache_server.url, timeout=5.0, connect_timeout=5.0) as client:
        client.flush()
        yield client
