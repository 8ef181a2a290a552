"""The configured socket options, read from the server's own sockets."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.running import Client, RunningServer
from tests.integration.sockets import accepted, listen_queue, listening
from tests.integration.tls import tls_endpoint

TCP, SOCKET = socket.IPPROTO_TCP, socket.SOL_SOCKET
Start = Callable[..., RunningServer]

# knob, configured value, level, option, value from getsockopt
ON_EACH_CONNECTION = [
    ("tcp_nodelay", "true", TCP, socket.TCP_NODELAY, 1),
    ("tcp_nodelay", "false", TCP, socket.TCP_NODELAY, 0),
    ("tcp_keepalive_seconds", 33, SOCKET, socket.SO_KEEPALIVE, 1),
    ("tcp_keepalive_seconds", 33, TCP, socket.TCP_KEEPIDLE, 33),
    ("tcp_keepalive_seconds", 0, SOCKET, socket.SO_KEEPALIVE, 0),
    ("tcp_keepalive_interval_seconds", 7, TCP, socket.TCP_KEEPINTVL, 7),
    ("tcp_keepalive_interval_seconds", 0, TCP, socket.TCP_KEEPINTVL, None),
    ("tcp_keepalive_probes", 3, TCP, socket.TCP_KEEPCNT, 3),
    ("tcp_keepalive_probes", 0, TCP, socket.TCP_KEEPCNT, None),
    ("tcp_user_timeout_ms", 4321, TCP, socket.TCP_USER_TIMEOUT, 4321),
    ("tcp_user_timeout_ms", 0, TCP, socket.TCP_USER_TIMEOUT, 0),
    ("send_buffer_bytes", 60_000, SOCKET, socket.SO_SNDBUF, 120_000),
    ("receive_buffer_bytes", 60_000, SOCKET, socket.SO_RCVBUF, 120_000),
]
EVERYTHING = {
    "tcp_nodelay": "false",
    "tcp_keepalive_seconds": 33,
    "tcp_keepalive_interval_seconds": 7,
    "tcp_keepalive_probes": 3,
    "tcp_user_timeout_ms": 4321,
    "send_buffer_bytes": 60_000,
    "receive_buffer_bytes": 60_000,
}
EFFECTIVE: dict[str, int | bool] = {
    "tcp_nodelay": False,
    "tcp_keepalive_seconds": 33,
    "tcp_keepalive_interval_seconds": 7,
    "tcp_keepalive_probes": 3,
    "tcp_user_timeout_ms": 4321,
    "send_buffer_bytes": 120_000,
    "receive_buffer_bytes": 120_000,
}


def system_default(level: int, option: int) -> int:
    with socket.socket() as sock:
        return sock.getsockopt(level, option)


def of_this_connection(client: Client) -> dict[str, dict[str, Any]]:
    (connection,) = (each for each in client.json(b"CLIENTS") if each["last_verb"] == "CLIENTS")
    options: dict[str, dict[str, Any]] = connection["socket_options"]
    return options


@pytest.mark.parametrize(("knob", "asked", "level", "option", "raw"), ON_EACH_CONNECTION)
def test_option_of_an_accepted_socket(
    start: Start, knob: str, asked: object, level: int, option: int, raw: int | None
) -> None:
    server = start({"performance": {knob: asked}})
    expected = system_default(level, option) if raw is None else raw
    with server.connect() as client:
        told = of_this_connection(client)[knob]
        with accepted(server.process.pid, client.sock) as sock:
            assert sock.getsockopt(level, option) == expected
            if option != socket.SO_KEEPALIVE:
                assert told["effective"] == expected
        assert "error" not in told


def test_options_are_there_before_the_first_byte(start: Start) -> None:
    server = start({"performance": EVERYTHING})
    with server.connect() as client:
        server.wait_for_log("opened")
        with accepted(server.process.pid, client.sock) as sock:
            assert sock.getsockopt(TCP, socket.TCP_NODELAY) == 0
            assert sock.getsockopt(TCP, socket.TCP_KEEPIDLE) == 33
            assert sock.getsockopt(TCP, socket.TCP_USER_TIMEOUT) == 4321


def test_the_start_says_what_each_connection_gets(start: Start) -> None:
    text = start({"performance": {**EVERYTHING, "listen_backlog": 77}}).text()
    (line,) = (each for each in text.splitlines() if "cache: options of the" in each)
    for knob, effective in {**EFFECTIVE, "listen_backlog": 77}.items():
        assert re.search(rf"\b{knob}={effective}\b", line), knob
    assert "send_buffer_bytes=120000 (asked: 60000)" in line


@pytest.mark.parametrize(
    ("knob", "asked", "level", "option", "raw"),
    [
        # With "true" see tests/distributed/test_servers.py.
        ("reuse_port", "false", SOCKET, socket.SO_REUSEPORT, 0),
        # Rounded up to the time of three retransmissions.
        ("defer_accept_seconds", 5, TCP, socket.TCP_DEFER_ACCEPT, 7),
        ("defer_accept_seconds", 0, TCP, socket.TCP_DEFER_ACCEPT, 0),
        ("fast_open_queue", 5, TCP, socket.TCP_FASTOPEN, 5),
        ("fast_open_queue", 0, TCP, socket.TCP_FASTOPEN, 0),
        ("receive_buffer_bytes", 60_000, SOCKET, socket.SO_RCVBUF, 120_000),
    ],
)
def test_option_of_the_listening_socket(
    start: Start, knob: str, asked: object, level: int, option: int, raw: int
) -> None:
    server = start({"performance": {knob: asked}})
    with listening(server.process.pid, server.port) as sock:
        assert sock.getsockopt(level, option) == raw
    with server.connect() as client:
        listener = client.json(b"INFO")["listeners"][0]
    assert int(listener["socket_options"][knob]["effective"]) == raw


@pytest.mark.parametrize("backlog", [1, 300])
def test_backlog_of_the_listening_socket(start: Start, backlog: int) -> None:
    server = start({"performance": {"listen_backlog": backlog}})
    with listening(server.process.pid, server.port) as sock:
        assert listen_queue(sock) == backlog


def test_a_backlog_the_kernel_caps_is_told(start: Start) -> None:
    limit = int(Path("/proc/sys/net/core/somaxconn").read_text())
    if limit >= 65535:
        pytest.skip("this kernel caps nothing that can be asked for")
    server = start({"performance": {"listen_backlog": 65535}})
    assert f"listen_backlog={limit} (asked: 65535)" in server.text()


def test_deferred_connections_are_not_seen_before_their_data(start: Start) -> None:
    server = start({"performance": {"defer_accept_seconds": 5}})
    with server.connect() as silent, server.connect() as client:
        assert len(client.json(b"CLIENTS")) == 1
        silent.send(b"PING\n")
        assert silent.line() == b"PONG\n"
        assert len(client.json(b"CLIENTS")) == 2


@pytest.mark.memory_engine("what is kept by one process alone")
def test_a_port_for_several_caches_is_refused(start: Start) -> None:
    refused = start({"performance": {"reuse_port": "true"}}, wait=False)
    assert refused.process.wait(60) == 1
    assert "performance.reuse_port: with engine.backend = memory each process" in refused.text()
    server = start()
    said = server.reload(performance={"reuse_port": "true"})
    assert "nothing changed" in said
    assert "performance.reuse_port: with engine.backend = memory each process" in said


def test_a_refused_option_is_one_warning_and_the_connection_lives(start: Start) -> None:
    maximum = int(Path("/proc/sys/net/core/wmem_max").read_text())
    server = start({"performance": {"send_buffer_bytes": 1_073_741_823}})
    for _ in range(3):
        with server.connect() as client:
            assert client.ask(b"PING") == b"PONG\n"
            told = of_this_connection(client)["send_buffer_bytes"]
            assert told == {"asked": 1_073_741_823, "effective": maximum * 2}
    warnings = [line for line in server.text().splitlines() if " warn " in line]
    assert len(warnings) == 1
    assert f"asked 1073741823, in effect {maximum * 2}" in warnings[0]


def test_tls_connections_get_them_too(start: Start, tmp_path: Path) -> None:
    endpoint, context = tls_endpoint(tmp_path)
    server = start({"performance": EVERYTHING, "server": {"tcp_port": endpoint}})
    raw = socket.create_connection(("127.0.0.1", server.port))
    with Client(context.wrap_socket(raw, server_hostname="localhost")) as client:
        assert client.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"
        assert client.ask(b"GET\tk") == b"VALUE\tv\n"
        told = of_this_connection(client)
        assert {knob: each["effective"] for knob, each in told.items()} == EFFECTIVE
        with accepted(server.process.pid, client.sock) as sock:
            assert sock.getsockopt(TCP, socket.TCP_KEEPIDLE) == 33
            assert sock.getsockopt(TCP, socket.TCP_NODELAY) == 0


def test_tls_is_really_spoken(start: Start, tmp_path: Path) -> None:
    endpoint, context = tls_endpoint(tmp_path)
    server = start({"server": {"tcp_port": endpoint}})
    with server.connect() as plain:
        plain.send(b"PING\n" * 10)
        assert b"PONG" not in plain.rest()
    with pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(
            socket.create_connection(("127.0.0.1", server.port)), server_hostname="localhost"
        )
    raw = socket.create_connection(("127.0.0.1", server.port))
    with Client(context.wrap_socket(raw, server_hostname="localhost")) as client:
        client.send(b"PING\nQUIT\nPING\n")
        assert client.rest() == b"PONG\nOK\n"


def test_a_unix_socket_gets_what_applies(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = start({"performance": EVERYTHING, "server": {"tcp_port": f"unix:{path}:mode=600"}})
    assert path.stat().st_mode & 0o777 == 0o600
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    with Client(sock) as client:
        assert client.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"
        told = of_this_connection(client)
        assert {knob: each["effective"] for knob, each in told.items()} == {
            "send_buffer_bytes": 120_000,
            "receive_buffer_bytes": 120_000,
        }
    assert "performance.tcp_nodelay has no effect on the UNIX socket" in server.text()
    server.stop()
    assert not path.exists()


def test_ipv6(start: Start) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server = start({"performance": EVERYTHING, "server": {"host": "::1"}})
    with Client(socket.create_connection(("::1", server.port))) as client:
        told = of_this_connection(client)
        assert {knob: each["effective"] for knob, each in told.items()} == EFFECTIVE


@pytest.mark.needs("ss")
def test_ss_shows_the_keepalive_timer_that_was_asked_for(start: Start) -> None:
    server = start({"performance": {"tcp_keepalive_seconds": 1200}})
    with server.connect() as client:
        client.ask(b"PING")
        _, port = client.sock.getsockname()
        shown = subprocess.run(
            ["ss", "-tnoH", f"( sport = :{server.port} and dport = :{port} )"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    # 19 minutes and some seconds of the twenty minutes are left.
    assert re.search(r"timer:\(keepalive,(19min|20min)", shown), shown


def test_a_reload_holds_for_new_connections(start: Start) -> None:
    server = start({"performance": {"tcp_keepalive_seconds": 100}})
    with server.connect() as old:
        old.ask(b"PING")
        log = server.reload(
            performance={
                "tcp_keepalive_seconds": 200,
                "tcp_nodelay": "false",
                "receive_buffer_bytes": 70_000,
                "listen_backlog": 5,
            }
        )
        assert "performance.tcp_keepalive_seconds: 100 -> 200" in log
        assert "performance.listen_backlog takes effect at the next start" in log
        with accepted(server.process.pid, old.sock) as sock:
            assert sock.getsockopt(TCP, socket.TCP_KEEPIDLE) == 100
            assert sock.getsockopt(TCP, socket.TCP_NODELAY) == 1
        with server.connect() as new:
            new.ask(b"PING")
            assert new.json(b"INFO")["server"]["pending_restart"] == ["performance.listen_backlog"]
            with accepted(server.process.pid, new.sock) as sock:
                assert sock.getsockopt(TCP, socket.TCP_KEEPIDLE) == 200
                assert sock.getsockopt(TCP, socket.TCP_NODELAY) == 0
                assert sock.getsockopt(SOCKET, socket.SO_RCVBUF) == 140_000
        with listening(server.process.pid, server.port) as sock:
            assert sock.getsockopt(SOCKET, socket.SO_RCVBUF) == 140_000
        assert "only at the next start" in server.reload(performance={"receive_buffer_bytes": 0})
