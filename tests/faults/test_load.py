"""Clients that exhaust resources, or hold them forever."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bystander import Bystander
from tests.faults.doors import until_closed
from tests.faults.processes import descriptors, resident_mb
from tests.integration.running import Client, RunningServer, eventually
from tests.integration.tls import tls_endpoint
from tests.reliability import Measured

SECTION = "load and limits"
Start = Callable[..., RunningServer]

QUIET = {"logging": {"level": "info"}}
# How long the reactor may run, mostly for others, before a bystander has its reply. One reply in a
# hundred may take longer.
BUSY_MS = 100


def quiet(start: Start, **sections: dict[str, object]) -> RunningServer:
    return start({**QUIET, **sections})


def reset(sock: socket.socket) -> None:
    """Close a connection with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def clients_of(server: RunningServer) -> int:
    with server.connect() as client:
        connections: dict[str, Any] = client.json(b"INFO")["connections"]
    return int(connections["open"]) - 1


def test_more_connections_than_there_are_places(start: Start, measured: Measured) -> None:
    server = quiet(start, performance={"max_connections": 200})
    with ExitStack() as stack:
        inside = [stack.enter_context(server.connect()) for _ in range(200)]
        assert {client.ask(b"PING") for client in inside} == {b"PONG\n"}
        outside = [stack.enter_context(server.connect()) for _ in range(150)]
        assert {client.rest() for client in outside} == {b"ERR max_connections\n"}
        assert {client.ask(b"PING") for client in inside} == {b"PONG\n"}
    begin = time.monotonic()
    eventually(lambda: _is_served(server))
    with ExitStack() as stack:
        again = [stack.enter_context(server.connect()) for _ in range(199)]
        eventually(lambda: _count(again) == 199)
    measured(
        "350 connections with max_connections = 200",
        "200 served, 150 get ERR max_connections and are closed; all accepted when there is room",
        f"200 served, 150 refused; then accepted after {(time.monotonic() - begin) * 1000:.0f} ms",
    )


def _is_served(server: RunningServer) -> bool:
    with suppress(ConnectionError):
        return server.ask(b"PING") == b"PONG\n"
    return False


def _count(clients: list[Client]) -> int:
    return sum(client.ask(b"PING") == b"PONG\n" for client in clients)


def test_a_million_gets_that_are_never_read(start: Start, measured: Measured) -> None:
    server = quiet(start, performance={"send_timeout_seconds": 2})
    limit_mb = 64
    with server.connect() as client, server.connect() as deaf:
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 1000)
        before = resident_mb(server.process.pid)
        with Bystander(server) as bystander:
            deaf.sock.settimeout(10)
            with suppress(OSError):
                for _ in range(100):
                    deaf.send(b"GET\tk\n" * 10_000)
            server.wait_for_log("it has read no replies for 2.0 seconds")
            time.sleep(1)
        after = resident_mb(server.process.pid, peak=True)
        assert client.ask(b"PING") == b"PONG\n"
    assert after - before < 2 * limit_mb + 32
    assert bystander.seen["busy_p99"] < BUSY_MS
    measured(
        "1,000,000 GETs of 1,000 B sent at once, nothing ever read (send_timeout_seconds 2)",
        "dropped after this time; other clients are not affected",
        f"dropped with {after - before:.0f} MB more in use; a bystander: {bystander}",
    )


def test_a_client_that_reads_a_byte_a_second(start: Start, measured: Measured) -> None:
    server = quiet(start)
    with server.connect() as client:
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 500_000)
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(60)
        with slow, Bystander(server) as bystander:
            slow.connect(("127.0.0.1", server.port))
            slow.sendall(b"GET\tk\n" * 20)
            first = b""
            for _ in range(3):
                time.sleep(1)
                first += slow.recv(1)
            assert first == b"VAL"
        seen = f"it got its bytes; a bystander: {bystander}"
        assert bystander.seen["busy_p99"] < BUSY_MS
        eventually(lambda: clients_of(server) == 1)
        assert client.ask(b"PING") == b"PONG\n"
    measured("10 MB of replies read a byte a second", "other clients are not affected", seen)


def test_a_maximal_line_byte_by_byte(start: Start, measured: Measured) -> None:
    """A line of the maximum length: a quadratic search for its end would be noticed."""
    server = quiet(
        start,
        cache={
            "max_key_length": 100,
            "max_value_length": 60_000,
            "max_tags_per_entry": 1,
            "max_tag_length": 100,
        },
    )
    line = b"PUT\t" + b"k" * 100 + b"\t" + b"0" * 19 + b"9" + b"\t" + b"t" * 100 + b"\t"
    line += b"v" * 60_000 + b"\n"
    with server.connect() as dribbling, Bystander(server) as bystander:
        dribbling.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin = time.monotonic()
        for at in range(len(line)):
            dribbling.send(line[at : at + 1])
        assert dribbling.line() == b"OK\n"
        seconds = time.monotonic() - begin
    assert bystander.seen["busy_p99"] < BUSY_MS
    measured(
        f"a line of {len(line):,} bytes that comes byte by byte",
        "understood; other clients are not affected",
        f"OK after {seconds:.1f} s; a bystander: {bystander}",
    )


def test_resets_in_the_middle_of_commands(start: Start, measured: Measured) -> None:
    server = quiet(start)
    with server.connect() as client:
        client.ask(b"PUT\tk\t-\tt\t" + b"x" * 100_000)
        before = descriptors(server.process.pid)
        parts = [
            b"PUT\tk\t-\t-\thalf",
            b"GET\tk\n" * 50 + b"GET",
            b"CLIENTS\nCLIENTS\nINFO\nPU",
            b"AUTH\tadmin\tpassword\nGET\t",
            b"INFO\tcheck\nINV_TAG",
        ]
        for number in range(200):
            other = server.connect()
            other.send(parts[number % len(parts)])
            if number % 3:
                other.sock.recv(10) if b"\n" in parts[number % len(parts)] else time.sleep(0.001)
            reset(other.sock)
        eventually(lambda: client.json(b"INFO")["connections"]["open"] == 1)
        assert descriptors(server.process.pid) == before
        assert len(client.ask(b"GET\tk")) == 100_007
        assert client.json(b"INFO\tcheck")["check"]["ok"] is True
    measured(
        "200 connections reset in the middle of a command or of its reply",
        "nothing half done, no descriptor left, nothing in the log",
        f"descriptors before and after: {before}",
    )


def test_a_tls_handshake_that_stalls(start: Start, tmp_path: Path, measured: Measured) -> None:
    endpoint, context = tls_endpoint(tmp_path)
    server = start({"server": {"tcp_port": endpoint}, "performance": {"idle_timeout_seconds": 1}})
    # The first half of a ClientHello.
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100
    with (
        socket.create_connection(("127.0.0.1", server.port), 60) as silent,
        socket.create_connection(("127.0.0.1", server.port), 60) as stalled,
    ):
        stalled.sendall(hello)
        raw = socket.create_connection(("127.0.0.1", server.port), 60)
        with Client(context.wrap_socket(raw, server_hostname="localhost")) as client:
            assert client.ask(b"PING") == b"PONG\n"
        begin = time.monotonic()
        for sock in (silent, stalled):
            assert until_closed(sock) == b""
        seconds = time.monotonic() - begin
    measured(
        "TLS handshakes that never begin, or stop half way; idle_timeout_seconds = 1",
        "others are served; closed by the idle timeout",
        f"others served at once; both closed after {seconds:.1f} s",
    )


def test_plain_text_on_the_tls_port(start: Start, tmp_path: Path, measured: Measured) -> None:
    endpoint, context = tls_endpoint(tmp_path)
    server = start({"server": {"tcp_port": endpoint}})
    with socket.create_connection(("127.0.0.1", server.port), 60) as sock:
        begin = time.monotonic()
        sock.sendall(b"PUT\tk\t-\t-\tplain\n")
        answer = until_closed(sock)
        seconds = time.monotonic() - begin
    assert b"OK" not in answer
    raw = socket.create_connection(("127.0.0.1", server.port), 60)
    with Client(context.wrap_socket(raw, server_hostname="localhost")) as client:
        assert client.ask(b"GET\tk") == b"NF\n"
    measured(
        "a PUT in plain text on the TLS port",
        "closed, and nothing stored",
        f"closed after {seconds * 1000:.0f} ms, nothing stored",
    )


@pytest.mark.slow
def test_ten_thousand_connections(start: Start, measured: Measured) -> None:
    server = quiet(start)
    with server.connect() as client:

        def open_and_drop(batches: int, total: int) -> None:
            for _ in range(batches):
                batch = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(400)]
                for number, sock in enumerate(batch):
                    sock.close() if number % 2 else reset(sock)
            eventually(lambda: client.json(b"INFO")["connections"]["total"] > total)
            eventually(lambda: client.json(b"INFO")["connections"]["open"] == 1)

        # The memory for 400 at once is taken at first, and used again.
        open_and_drop(5, 2_000)
        before = descriptors(server.process.pid), resident_mb(server.process.pid)
        begin = time.monotonic()
        open_and_drop(25, 12_000)
        seconds = time.monotonic() - begin
        after = descriptors(server.process.pid), resident_mb(server.process.pid)
    assert after[0] == before[0]
    assert after[1] - before[1] < 10
    measured(
        "10,000 connections opened and dropped, 400 at a time, by FIN and RST in turn",
        "no descriptor left, no memory kept",
        f"all seen in {seconds:.1f} s; {after[0] - before[0]} descriptors and "
        f"{after[1] - before[1]:.1f} MB more afterwards",
    )
