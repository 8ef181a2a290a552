"""The server that the Redis clients of these tests use.

With ``TAGCACHE_TEST_AGAINST=redis`` it is a real Redis, which shows that the tests are right. With
``TAGCACHE_TEST_ENGINE_URL``, which ``python -m tests.against_redis`` sets, it is a TagCache that
keeps its entries in that Redis.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.distributed.redis_server import RedisServer
from tests.integration.running import RunningServer

AGAINST = os.environ.get("TAGCACHE_TEST_AGAINST", "tagcache")
# What a client gets that was configured with a user and a password.
USER = "admin"


class Server:
    """TagCache or Redis on a port of 127.0.0.1; with a password, every client has to log in."""

    def __init__(self, directory: Path, password: str | None = None) -> None:
        self.directory = directory
        self.password = password
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, again on the same port."""
        self.process = self._redis() if AGAINST == "redis" else self._tagcache()
        self.port = self.process.port

    def _redis(self) -> RedisServer:
        if self.port:
            assert isinstance(self.process, RedisServer)
            self.process.start()
            return self.process
        options: list[str] = []
        if self.password:
            options += ["--requirepass", self.password]
            options += ["--user", USER, "on", f">{self.password}", "~*", "&*", "+@all"]
        return RedisServer(self.directory, *options)

    def _tagcache(self) -> RunningServer:
        self.directory.mkdir(parents=True, exist_ok=True)
        sections: dict[str, dict[str, object]] = {"server": {"tcp_port": self.port}}
        if self.password:
            sections["security"] = {"require_tcp_auth": "true"}
            sections["authentication"] = {"username": USER, "password": self.password}
        return RunningServer(self.directory, sections)

    def stop(self) -> None:
        if isinstance(self.process, RedisServer):
            self.process.stop()
        else:
            self.process.stop()

    def log(self) -> str:
        """What TagCache has logged; nothing of Redis."""
        return self.process.text() if isinstance(self.process, RunningServer) else ""
