"""Peers that disappear silently: a link between two network namespaces is cut."""

from __future__ import annotations

import os
import re
import socket
import statistics
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import skip
from tests.faults.network import SERVER, Namespaces, SlowLink
from tests.integration.running import TIMEOUT, Client, RunningServer
from tests.reliability import Measured

SECTION = "dead peers"
pytestmark = [pytest.mark.root, pytest.mark.needs("ip", "tc", "ssh", "ssh-keygen")]

DOORS = ("cache", "http", "manhole")
KEEPALIVE = {
    "tcp_keepalive_seconds": 2,
    "tcp_keepalive_interval_seconds": 1,
    "tcp_keepalive_probes": 3,
}
USER_TIMEOUT_MS = 2000
PASSWORD = "a password of our own"
WATCHED_SECONDS = 10.5


@pytest.fixture(scope="module")
def network() -> Iterator[Namespaces]:
    try:
        namespaces = Namespaces()
    except subprocess.CalledProcessError as error:
        skip(f"no network namespaces here: {error.stderr.strip()}")
        raise
    try:
        yield namespaces
    finally:
        namespaces.close()


def serve(network: Namespaces, directory: Path, **performance: object) -> RunningServer:
    """A server in its namespace, with all three listeners on the link."""
    directory.mkdir()
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "key"], check=True
    )
    server = RunningServer(
        directory,
        {
            "server": {"host": SERVER},
            "authentication": {"password": PASSWORD},
            "performance": {"tcp_keepalive_seconds": 0, **performance},
            "manhole": {
                "enabled": "true",
                "port": f"tcp:0:interface={SERVER}",
                "authorized_keys_file": directory / "key.pub",
                "host_key_file": directory / "host",
            },
        },
        prefix=network.prefix,
    )
    server.wait_for_log("manhole: listening on")
    server.addresses = dict(re.findall(r"(\w+): listening on (\S+);", server.text()))
    return server


def door_port(server: RunningServer, door: str) -> int:
    return int(server.addresses[door].rpartition(":")[2])


class Cut:
    """The link is cut while clients are connected, and each server is watched for a while.

    ``seconds`` has the time until a server dropped its client, by server and listener. Clients that
    are not in it were still connected at the end. The connections of the server ``idle`` are idle;
    those of ``busy`` have replies in flight.
    """

    def __init__(self, network: Namespaces, directory: Path) -> None:
        network.join()
        self.seconds: dict[tuple[str, str], float] = {}
        impatient = {"tcp_user_timeout_ms": USER_TIMEOUT_MS}
        self._servers = {
            "keepalive": serve(network, directory / "keepalive", **KEEPALIVE),
            "nothing": serve(network, directory / "nothing"),
            "idle": serve(network, directory / "idle", **impatient),
            "busy": serve(network, directory / "busy", **impatient),
        }
        self._sockets: list[socket.socket] = []
        self._names: dict[tuple[str, str], str] = {}
        self._ssh: subprocess.Popen[bytes] | None = None
        try:
            self._connect(network)
            time.sleep(0.5)
            network.cut()
            self._watch()
            for server in self._servers.values():
                assert server.process.poll() is None
                assert "Traceback" not in server.text(), server.text()
        finally:
            self.close()

    def _connect(self, network: Namespaces) -> None:
        # First, because a client that asks for it before it exists would get a small reply.
        store(network, self._servers["busy"])
        for name, server in self._servers.items():
            for door in DOORS:
                if (name, door) == ("busy", "manhole"):
                    continue
                sock = network.connect(door_port(server, door))
                self._sockets.append(sock)
                self._names[name, door] = "{}:{}".format(*sock.getsockname())
                server.wait_for_log(f"from {self._names[name, door]} opened")
                if name == "busy":
                    threading.Thread(
                        target=keep_reading, args=(sock, ASKED[door]), daemon=True
                    ).start()
        # A shell that prints something now and then, whenever the link is cut.
        busy = self._servers["busy"]
        arguments = ["ip", "netns", "exec", network.client, "ssh", "-F/dev/null", "-tt"]
        arguments += [f"-i{busy.directory / 'key'}", "-oStrictHostKeyChecking=no"]
        arguments += ["-oUserKnownHostsFile=/dev/null", f"-p{door_port(busy, 'manhole')}"]
        self._ssh = subprocess.Popen(
            [*arguments, f"admin@{SERVER}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._ssh.stdin is not None
        assert self._ssh.stdout is not None
        self._ssh.stdin.write(
            b"from twisted.internet import reactor, task\r"
            b"for n in range(100): task.deferLater(reactor, n / 5, lambda: 'x' * 1000)\r\r"
            b"'li' + 'stening'\r"
        )
        self._ssh.stdin.flush()
        text = b""
        while b"'listening'" not in text:
            text += os.read(self._ssh.stdout.fileno(), 4096)
        found = re.search(r"manhole: connection \d+ from (\S+) opened", busy.text())
        assert found is not None
        self._names["busy", "manhole"] = found[1]

    def _watch(self) -> None:
        begin = time.monotonic()
        dropped = {(name, door) for name in ("keepalive", "busy") for door in DOORS}
        while (passed := time.monotonic() - begin) < WATCHED_SECONDS or (
            passed < TIMEOUT and not dropped <= self.seconds.keys()
        ):
            texts = {name: server.text() for name, server in self._servers.items()}
            for key, peer in self._names.items():
                if key not in self.seconds and f"from {peer} closed" in texts[key[0]]:
                    self.seconds[key] = passed
            time.sleep(0.02)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        if self._ssh is not None:
            self._ssh.kill()
            self._ssh.communicate()
        for server in self._servers.values():
            with server:
                pass


SIZE = 500_000
AUTHORIZATION = b64encode(f"admin:{PASSWORD}".encode())


ASKED = {
    "cache": b"GET\tbig\n",
    "http": b"GET /get/big HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %b\r\n\r\n" % AUTHORIZATION,
}


def store(network: Namespaces, server: RunningServer) -> None:
    """Store a large value."""
    with network.connect(door_port(server, "cache")) as sock:
        sock.sendall(b"PUT\tbig\t-\t-\t" + b"x" * SIZE + b"\n")
        assert sock.recv(10) == b"OK\n"


def keep_reading(sock: socket.socket, request: bytes) -> None:
    """Request and read without end, so that replies are always in flight."""
    received = asked = 0
    with suppress(OSError):
        while True:
            while asked - received // SIZE < 20:
                sock.sendall(request)
                asked += 1
            received += len(sock.recv(65536))


@pytest.fixture(scope="module")
def cut(network: Namespaces, tmp_path_factory: pytest.TempPathFactory) -> Cut:
    return Cut(network, tmp_path_factory.mktemp("cut"))


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_keepalive_finds_a_dead_peer(cut: Cut, door: str, measured: Measured) -> None:
    seconds = cut.seconds["keepalive", door]
    assert seconds > 2
    measured(
        f"link cut under an idle {door} connection; keepalive 2 s, then 3 probes 1 s apart",
        "dropped within 6 s",
        f"dropped after {seconds:.1f} s",
    )


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_without_keepalive_a_dead_peer_is_kept(cut: Cut, door: str, measured: Measured) -> None:
    assert ("nothing", door) not in cut.seconds
    measured(
        f"the same, {door}, keepalive off",
        "still there after 10 s",
        f"still there after {WATCHED_SECONDS:.1f} s",
    )


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_unsent_replies_give_a_dead_peer_away(cut: Cut, door: str, measured: Measured) -> None:
    seconds = cut.seconds["busy", door]
    # The kernel checks at each retransmission, and the time between them grows.
    assert seconds > USER_TIMEOUT_MS / 1000 - 0.3
    measured(
        f"link cut while {door} replies are on their way; tcp_user_timeout_ms = 2000",
        "dropped after 2 s, at the next retransmission",
        f"dropped after {seconds:.1f} s",
    )


@pytest.mark.parametrize("door", DOORS)
def test_without_unsent_replies_a_user_timeout_waits(
    cut: Cut, door: str, measured: Measured
) -> None:
    """It limits how long sent data may stay unacknowledged, and no data were sent."""
    assert ("idle", door) not in cut.seconds
    measured(
        f"link cut under an idle {door} connection; tcp_user_timeout_ms = 2000, keepalive off",
        "still there after 10 s: nothing was unacknowledged",
        f"still there after {WATCHED_SECONDS:.1f} s",
    )


@pytest.fixture(params=["tun", "netem"])
def slow_network(request: pytest.FixtureRequest) -> Iterator[Namespaces]:
    """A link with a delay of 50 ms in each direction, by tun or by netem."""
    namespaces = Namespaces()
    try:
        if request.param == "netem":
            namespaces.join()
            try:
                namespaces.delay(50)
            except NotImplementedError as error:
                # It depends on the kernel, not on packages. The other link tests the same.
                pytest.skip(f"this kernel has no netem: {error}")
            yield namespaces
        else:
            if not Path("/dev/net/tun").exists():
                skip("there is no /dev/net/tun")
            link = SlowLink(namespaces, 0.05)
            try:
                yield namespaces
            finally:
                link.close()
    finally:
        namespaces.close()


def test_no_delay_on_a_slow_link(
    slow_network: Namespaces, tmp_path: Path, measured: Measured, request: pytest.FixtureRequest
) -> None:
    """Two requests in a row: is the second reply held back until the first is acknowledged?"""
    took = {}
    for nodelay in ("true", "false"):
        server = serve(slow_network, tmp_path / nodelay, tcp_nodelay=nodelay)
        with server, Client(slow_network.connect(server.port)) as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.ask(b"PING")
            seen: list[float] = []
            # On a busy machine some take longer, and the server may read both requests at once.
            while len(seen) < 11 or (nodelay == "true" and min(seen) > 0.15 and len(seen) < 100):
                begin = time.monotonic()
                client.send(b"PING\n")
                time.sleep(0.01)
                client.send(b"PING\n")
                assert client.line() + client.line() == b"PONG\n" * 2
                seen.append(time.monotonic() - begin)
            took[nodelay] = (min(seen) if nodelay == "true" else statistics.median(seen)) * 1000
    # A round trip takes 100 ms. A held reply is sent when the first one is acknowledged.
    assert 100 < took["true"] < 150
    assert took["false"] > took["true"] + 60
    measured(
        f"a link with 50 ms of delay each way ({request.node.callspec.params['slow_network']}); "
        "two requests 10 ms apart",
        "tcp_nodelay on: both replies after one round trip; off: the second reply needs two",
        f"on: {took['true']:.0f} ms, off: {took['false']:.0f} ms",
    )
