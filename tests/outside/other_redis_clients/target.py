"""The server that the clients are pointed at.

With TAGCACHE_TEST_AGAINST=redis in the environment it is ``redis-server``. This proves the tests:
what they ask of TagCache, Redis does.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.distributed.redis_server import RedisServer, free_port
from tests.integration.running import TIMEOUT, RunningServer

AGAINST_REDIS = os.environ.get("TAGCACHE_TEST_AGAINST") == "redis"
HOST = "127.0.0.1"
USER, PASSWORD = "cook", "salt+pepper"

only_ours = pytest.mark.skipif(AGAINST_REDIS, reason="Redis does something else here")


class TagCache:
    """A server that can be stopped, and started again on the same port."""

    def __init__(self, directory: Path, login: bool) -> None:
        self.port = free_port()
        self._directory = directory
        self._sections: dict[str, dict[str, object]] = {"server": {"tcp_port": self.port}}
        if login:
            self._sections["authentication"] = {"username": USER, "password": PASSWORD}
            self._sections["security"] = {"require_tcp_auth": True}
        self.start()

    def start(self) -> None:
        self._server = RunningServer(self._directory, self._sections)

    def stop(self) -> None:
        """Stop it. It may not have logged a traceback."""
        with self._server:
            self._server.stop()
        assert "Traceback" not in self._server.text(), self._server.text()


Target = TagCache | RedisServer


def start_target(directory: Path, login: bool) -> Target:
    """Start a server. With ``login`` clients must log in as ``USER`` with ``PASSWORD``."""
    if not AGAINST_REDIS:
        return TagCache(directory, login)
    may = ("on", f">{PASSWORD}", "~*", "&*", "+@all")
    options = ("--requirepass", PASSWORD, "--user", USER, *may) if login else ()
    return RedisServer(directory, *options)


def empty(target: Target) -> None:
    with socket.create_connection((HOST, target.port), TIMEOUT) as sock:
        sock.sendall(b"*1\r\n$8\r\nFLUSHALL\r\n")
        assert sock.recv(100) == b"+OK\r\n"
