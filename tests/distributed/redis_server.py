"""Real Redis processes for tests.

The environment variables TAGCACHE_TEST_REDIS_SERVER and TAGCACHE_TEST_REDIS_CLI name other
programs than ``redis-server`` and ``redis-cli``: another release, or Valkey's.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from tests.distributed.certificates import Certificates

SERVER = os.environ.get("TAGCACHE_TEST_REDIS_SERVER", "redis-server")
CLI = os.environ.get("TAGCACHE_TEST_REDIS_CLI", "redis-cli")


def has_tls() -> bool:
    """Say whether the server was built with TLS."""
    # It exits at once, because it has no certificate, or no TLS at all.
    done = subprocess.run(
        [SERVER, "--port", "0", "--tls-port", "1"], capture_output=True, text=True, timeout=60
    )
    return "Failed to configure TLS" in done.stdout + done.stderr


def free_port() -> int:
    """Return a free port; the port 10000 above, which a cluster node also uses, is free too.

    It is below the ephemeral ports of the system.
    """
    while True:
        port = 12000 + int.from_bytes(os.urandom(2), "big") % 8000
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port


class RedisServer:
    """``redis-server`` on a free loopback port, without persistence.

    With ``tls`` it accepts only TLS there; with ``socket`` it listens only at that path.
    """

    def __init__(
        self,
        directory: Path,
        *options: str,
        cluster: bool = False,
        tls: Certificates | None = None,
        socket: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.options = ["--port", "0" if tls or socket else str(self.port)]
        self.reach = ["-p", str(self.port)]
        if tls:
            self.options += ["--tls-port", str(self.port), *tls.server_options]
            self.reach += tls.cli_options
        if socket:
            self.options += ["--unixsocket", str(socket)]
            self.reach = ["-s", str(socket)]
        self.options += options
        if cluster and tls:
            self.options += ["--tls-cluster", "yes"]
        if cluster:
            self.options += ["--cluster-enabled", "yes"]
            self.options += ["--repl-diskless-sync-delay", "0"]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, wait: bool = True) -> None:
        self.process = subprocess.Popen(
            [
                SERVER,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                str(self.directory),
                *self.options,
            ],
            stdout=subprocess.DEVNULL,
        )
        if not wait:
            return
        end = time.monotonic() + 60
        while "PONG" not in (said := self.cli("ping")) and "NOAUTH" not in said:
            assert time.monotonic() < end, "redis-server does not answer"
            assert self.process.poll() is None, "redis-server has ended"
            time.sleep(0.02)

    def cli(self, *arguments: str) -> str:
        done = subprocess.run(
            [CLI, *self.reach, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout + done.stderr

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class RedisCluster:
    """Three primaries."""

    def __init__(
        self, directory: Path, *options: str, replicas: int = 0, tls: Certificates | None = None
    ) -> None:
        self.tls = tls is not None
        # A node that hangs for so long is declared dead. Without replicas, a busy machine must not
        # cause that.
        options += ("--cluster-node-timeout", "1000" if replicas else "60000")
        self.nodes = [
            RedisServer(directory / f"node{number}", *options, cluster=True, tls=tls)
            for number in range(3 * (1 + replicas))
        ]
        self._cli_options = tls.cli_options if tls else []
        places = [f"127.0.0.1:{node.port}" for node in self.nodes]
        said = self.manage("create", *places, "--cluster-replicas", str(replicas))
        assert "All 16384 slots covered" in said, said
        end = time.monotonic() + 60
        while any("cluster_state:ok" not in node.cli("cluster", "info") for node in self.nodes):
            assert time.monotonic() < end
            time.sleep(0.05)
        while any("master_link_status:down" in n.cli("info", "replication") for n in self.nodes):
            assert time.monotonic() < end
            time.sleep(0.05)

    @property
    def url(self) -> str:
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}+cluster://" + ",".join(f"127.0.0.1:{n.port}" for n in self.nodes[:2])

    def manage(self, *arguments: str) -> str:
        """Run ``redis-cli --cluster`` and answer yes to it; returns what it says."""
        done = subprocess.run(
            [CLI, "--cluster", *arguments, "--cluster-yes", *self._cli_options],
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.stdout + done.stderr

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
