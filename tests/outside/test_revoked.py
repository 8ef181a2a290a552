"""Connections whose credentials or address are no longer valid are closed: curl, ssh, sockets."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import server, start
from tests.integration.running import TIMEOUT, Client, RunningServer
from tests.integration.test_manhole import Shell
from tests.integration.tls import tls_endpoint

__all__ = ["server", "start"]

Start = Callable[..., RunningServer]
OTHER = "127.0.0.2"
SIZE, TIMES = 500_000, 60


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(server: RunningServer, source: str = "", tls: ssl.SSLContext | None = None) -> Client:
    address = ("127.0.0.1", server.port)
    sock = socket.create_connection(address, TIMEOUT, (source, 0) if source else None)
    return Client(sock if tls is None else tls.wrap_socket(sock, server_hostname="localhost"))


def is_closed(client: Client) -> bool:
    """Wait for the end of the stream. No complete line may be in it."""
    try:
        return client.rest() == b""
    except (ConnectionError, ssl.SSLError):
        return True


def make_busy(client: Client) -> None:
    """Request much more than the buffers hold, and read nothing, so that the server stays busy."""
    assert client.ask(b"PUT\tlarge\t-\t-\t" + b"x" * SIZE) == b"OK\n"
    client.send(b"GET\tlarge\n" * TIMES)


def is_cut_off(client: Client) -> bool:
    """Return whether a busy client gets less than it requested."""
    try:
        return len(client.rest()) < SIZE * TIMES
    except (ConnectionError, ssl.SSLError):
        return True


def curl(server: RunningServer, path: str, *more: str) -> dict[str, Any]:
    kind = ("-H", "content-type: application/json")
    command = ["curl", "-sS", "--fail", *kind, *more]
    command.append(f"http://127.0.0.1:{server.http_port}{path}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def events(
    opened: ExitStack, server: RunningServer, password: str, *more: str
) -> subprocess.Popen[str]:
    """A curl that reads the dashboard's events, and has read the first one."""
    command = ["curl", "-sS", "-N", "-u", f"admin:{password}", *more]
    command.append(f"http://127.0.0.1:{server.http_port}/events")
    process = opened.enter_context(
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    )
    opened.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "event: hello\n"
    return process


@pytest.mark.parametrize("secure", [False, True])
def test_a_reload_with_another_password(
    start: Start, opened: ExitStack, tmp_path: Path, secure: bool
) -> None:
    sections: dict[str, dict[str, object]] = {
        "authentication": {"password": "old"},
        "security": {"require_tcp_auth": "true"},
    }
    tls = None
    if secure:
        sections["server"] = {}
        sections["server"]["tcp_port"], tls = tls_endpoint(tmp_path)
    server = start(sections)
    idle, busy, waiting = (opened.enter_context(connect(server, tls=tls)) for _ in range(3))
    for client in (idle, busy):
        assert client.ask(b"AUTH\tadmin\told") == b"OK\n"
    make_busy(busy)
    assert waiting.ask(b"GET\tk") == b"ERR auth_required\n"
    log = server.reload(authentication={"password": "new"})
    assert "cache: closed 2 connections: the credentials" in log
    assert is_closed(idle)
    assert is_cut_off(busy)
    assert waiting.ask(b"AUTH\tadmin\told") == b"ERR auth_failed\n"
    assert waiting.ask(b"AUTH\tadmin\tnew") == b"OK\n"
    assert "closed" not in server.reload(logging={"level": "info"})
    assert waiting.ask(b"PING") == b"PONG\n"


@pytest.mark.needs("curl")
@pytest.mark.parametrize("way", ["change_password", "rotate", "reset"])
def test_other_credentials_over_http(start: Start, opened: ExitStack, way: str) -> None:
    server = start(
        {"authentication": {"password": "old"}, "security": {"require_tcp_auth": "true"}}
    )
    by_password, by_token = (opened.enter_context(connect(server)) for _ in range(2))
    assert by_password.ask(b"AUTH\tadmin\told") == b"OK\n"
    login = json.dumps({"username": "admin", "password": "old"})
    token = curl(server, "/auth/login", "-d", login)["token"]
    assert by_token.ask(b"AUTH\t" + token.encode()) == b"OK\n"
    stream = events(opened, server, "old")
    body = json.dumps({"new_password": "new"})
    curl(server, f"/auth/{way}", "-X", "POST", "-u", "admin:old", "-d", body)
    assert is_closed(by_password)
    assert is_closed(by_token)
    assert "cache: closed 2 connections: the credentials" in server.text()
    # It learns the reason with the next sample, and there is no sample before that.
    assert stream.stdout is not None
    assert 'event: bye\ndata: {"reason":"unauthorized"}\n' in stream.stdout.read()


def test_a_reload_that_requires_to_log_in(start: Start, opened: ExitStack) -> None:
    server = start({"authentication": {"password": "own"}})
    idle, busy, logged_in = (opened.enter_context(connect(server)) for _ in range(3))
    make_busy(busy)
    assert logged_in.ask(b"AUTH\tadmin\town") == b"OK\n"
    log = server.reload(security={"require_tcp_auth": "true"})
    assert "cache: closed 2 connections: they have not logged in" in log
    assert is_closed(idle)
    assert is_cut_off(busy)
    assert logged_in.ask(b"PING") == b"PONG\n"


@pytest.mark.needs("curl")
def test_a_reload_with_narrower_addresses(start: Start, opened: ExitStack) -> None:
    server = start({"authentication": {"password": "own"}})
    here, there = (opened.enter_context(connect(server, each)) for each in ("127.0.0.1", OTHER))
    busy = opened.enter_context(connect(server, OTHER))
    make_busy(busy)
    stays = events(opened, server, "own", "--interface", "127.0.0.1")
    ends = events(opened, server, "own", "--interface", OTHER)
    kept = opened.enter_context(
        socket.create_connection(("127.0.0.1", server.http_port), TIMEOUT, (OTHER, 0))
    )
    kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert kept.recv(1000).startswith(b"HTTP/1.1 200")
    log = server.reload(security={"allowed_ips": "127.0.0.1"})
    assert "cache: closed 2 connections: their addresses" in log
    assert "http: closed 2 connections: their addresses" in log
    assert is_closed(there)
    assert is_closed(Client(kept))
    assert ends.wait(TIMEOUT) != 0
    assert here.ask(b"PING") == b"PONG\n"
    assert stays.poll() is None
    assert is_cut_off(busy)


@pytest.mark.needs("ssh", "ssh-keygen")
def test_a_reload_ends_shells(start: Start, opened: ExitStack, tmp_path: Path) -> None:
    shell = Shell(start, tmp_path)
    authorized = tmp_path / "authorized"
    both = authorized.read_text() + (tmp_path / "wrong.pub").read_text()
    authorized.write_text(both)

    def prompt(*more: str, key: str = "right") -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = opened.enter_context(
            subprocess.Popen(
                [*shell.command(key=key), *more], stdin=pipe, stdout=pipe, stderr=pipe, text=True
            )
        )
        opened.callback(process.kill)
        assert process.stdout is not None
        assert "TagCache" in process.stdout.readline()
        return process

    stays, revoked, elsewhere = prompt(), prompt(key="wrong"), prompt("-b", OTHER)
    authorized.write_text((tmp_path / "right.pub").read_text())
    assert "manhole: closed 1 connections: their keys" in shell.server.hang_up()
    assert revoked.wait(TIMEOUT) == 255
    log = shell.server.reload(security={"allowed_ips": "127.0.0.1"})
    assert "manhole: closed 1 connections: their addresses" in log
    assert elsewhere.wait(TIMEOUT) == 255
    assert stays.poll() is None
