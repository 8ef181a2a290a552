"""HTTP of the real process: stored credentials, TLS, curl, the API description."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.integration.running import RunningServer, busy_seconds, eventually
from tests.integration.sockets import accepted
from tests.integration.tls import tls_endpoint

Start = Callable[..., RunningServer]


@pytest.fixture(autouse=True)
def close_doors() -> Iterator[None]:
    yield
    for door in Door.opened:
        door.connection.close()
    Door.opened.clear()


class Door:
    """A JSON client that is closed at the end of the test."""

    opened: ClassVar[list[Door]] = []

    def __init__(
        self, server: RunningServer, user: str = "admin", password: str = "password"
    ) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
        self.login(user, password)
        self.opened.append(self)

    def login(self, user: str, password: str) -> None:
        self.authorization = "Basic " + b64encode(f"{user}:{password}".encode()).decode()

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": self.authorization, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data, headers)
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())


def test_both_doors_share_one_cache(server: RunningServer) -> None:
    door = Door(server)
    with server.connect() as client:
        client.ask(b"PUT\tk\t60000\ta,b\tv")
        assert door("GET", "/get/k") == (200, {"value": "v"})
        door("POST", "/put", {"key": "two\nlines", "value": "a\nb", "tags": ["a"]})
        assert client.ask(b"KEYS\ta") == b"KEYS\tk\n"
        door("POST", "/put", {"key": "l", "value": "a\nb"})
        # It is stored as it is, and a line cannot hold it.
        assert client.ask(b"GET\tl") == b"ERR value_not_representable\n"
        assert door("POST", "/invalidate-tag", {"tag": "a"})[1]["count"] == 2
        assert client.ask(b"GET\tk") == b"NF\n"
        listed = {c["listener"] for c in door("GET", "/connections")[1]["connections"]}
        assert listed == {"cache", "http"}


def test_its_sockets_get_the_options(start: Start) -> None:
    server = start({"performance": {"tcp_keepalive_seconds": 44, "tcp_nodelay": "false"}})
    door = Door(server)
    (told,) = door("GET", "/connections")[1]["connections"]
    assert told["socket_options"]["tcp_keepalive_seconds"] == {"asked": 44, "effective": 44}
    with accepted(server.process.pid, door.connection.sock) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 44
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0


def test_places_are_shared_by_both_doors(start: Start) -> None:
    server = start({"performance": {"max_connections": 1}})
    with server.connect() as client:
        client.ask(b"PING")
        assert Door(server)("GET", "/health")[0] == 503
    eventually(lambda: Door(server)("GET", "/health")[0] == 200)


def test_addresses_that_are_not_allowed_are_closed(start: Start) -> None:
    server = start({"security": {"allowed_ips": "10.0.0.0/8"}})
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        Door(server)("GET", "/health")


def test_tls(start: Start, tmp_path: Path) -> None:
    endpoint, context = tls_endpoint(tmp_path)
    server = start({"server": {"http_port": endpoint}})
    connection = http.client.HTTPSConnection("localhost", server.http_port, context=context)
    connection.sock = context.wrap_socket(
        socket.create_connection(("127.0.0.1", server.http_port)), server_hostname="localhost"
    )
    connection.request("GET", "/health")
    with connection.getresponse() as response:
        assert response.status == 200
    connection.close()
    with (
        socket.create_connection(("127.0.0.1", server.http_port)) as raw,
        pytest.raises(ssl.SSLError),
    ):
        ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")


def test_a_changed_password_is_kept_as_a_hash(start: Start) -> None:
    server = start({"authentication": {"password": "old"}})
    server.config.write_text("# my comment\n" + server.config.read_text())
    server.config.chmod(0o644)
    assert "holds the password in plain text" in server.text()
    door = Door(server, password="old")
    token = door("POST", "/auth/login", {"username": "admin", "password": "old"})[1]["token"]
    assert door("POST", "/auth/change_password", {"new_password": "new"}) == (
        200,
        {"success": True},
    )
    assert door("GET", "/stats")[0] == 401
    door.authorization = f"Bearer {token}"
    assert door("GET", "/stats")[0] == 401
    door.login("admin", "new")
    assert door("GET", "/stats")[0] == 200
    text = server.config.read_text()
    assert text.startswith("# my comment\n")
    assert "scrypt$" in text
    assert "new" not in text.replace("# my comment", "")
    assert server.config.stat().st_mode & 0o777 == 0o600
    assert server.ask(b"AUTH\tadmin\tnew") == b"OK\n"
    assert server.ask(b"AUTH\tadmin\told") == b"ERR auth_failed\n"
    assert "0 settings changed" not in server.hang_up()
    assert door("GET", "/stats")[0] == 200
    server.stop()
    with restarted(start, server) as second:
        assert Door(second, password="new")("GET", "/stats")[0] == 200
        assert Door(second, password="old")("GET", "/stats")[0] == 401
        assert "plain text" not in second.text()


def restarted(start: Start, server: RunningServer) -> RunningServer:
    """Another server with the configuration file of the first."""
    return start(config=server.config.read_text())


def test_rotated_credentials_are_kept(start: Start) -> None:
    server = start({"server": {"num_shards": 4}})
    door = Door(server)
    status, answer = door("POST", "/auth/rotate")
    assert (status, answer["ok"]) == (200, True)
    assert door("GET", "/stats")[0] == 401
    door.login(answer["username"], answer["password"])
    assert door("GET", "/stats")[0] == 200
    with restarted(start, server) as second:
        assert Door(second, answer["username"], answer["password"])("GET", "/stats")[0] == 200
    assert door("GET", "/auth/setup_required")[1] == {"setup_required": False}
    assert door("POST", "/auth/reset") == (200, {"success": True})
    assert door("GET", "/auth/setup_required")[1] == {"setup_required": True}
    assert Door(server)("GET", "/stats")[0] == 200
    assert "scrypt$" not in server.config.read_text()
    assert "num_shards = 4" in server.config.read_text()


def test_what_the_environment_sets_is_not_changed_nor_written(start: Start) -> None:
    server = start(environ={"TAGCACHE_PASSWORD": "fromenv", "CLEANUP_INTERVAL_SECONDS": "7"})
    door = Door(server, password="fromenv")
    before = server.config.read_text()
    status, answer = door("POST", "/auth/change_password", {"new_password": "new"})
    assert (status, answer["error"]) == (409, "credentials_fixed")
    assert "TAGCACHE_PASSWORD" in answer["detail"]
    assert door("POST", "/auth/rotate")[0] == 409
    assert door("POST", "/auth/reset")[0] == 409
    assert server.config.read_text() == before
    assert door("GET", "/stats")[0] == 200


def test_the_file_is_left_alone_where_it_cannot_be_written(start: Start) -> None:
    server = start()
    server.config.unlink()
    server.config.mkdir()
    door = Door(server)
    status, answer = door("POST", "/auth/change_password", {"new_password": "new"})
    assert (status, answer["error"]) == (500, "not_persisted")
    assert door("GET", "/stats")[0] == 200
    assert list(server.directory.glob(".tagcache.conf*")) == []


def test_without_a_file_changed_credentials_go_to_the_users_own(
    start: Start, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    server = start(environ={"HOME": str(home), "TCP_PORT": "0", "PORT": "0"}, config=None)
    assert Door(server)("POST", "/auth/change_password", {"new_password": "new"})[0] == 200
    written = home / ".config" / "tagcache" / "tagcache.conf"
    assert "scrypt$" in written.read_text()
    assert written.stat().st_mode & 0o777 == 0o600
    assert "port" not in written.read_text()


def test_a_verified_header_costs_no_hash(start: Start) -> None:
    server = start()
    door = Door(server)
    door("POST", "/auth/change_password", {"new_password": "new"})
    door.login("admin", "new")
    assert door("GET", "/stats")[0] == 200
    start_cpu = cpu_seconds(server.process.pid)
    for _ in range(200):
        assert door("GET", "/health")[0] == 200
        assert door("GET", "/get/k")[0] == 200
    assert cpu_seconds(server.process.pid) - start_cpu < 2.0  # 200 hashes would take ten seconds


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_guessing_does_not_hold_up_the_others(start: Start) -> None:
    server = start()
    Door(server)("POST", "/auth/change_password", {"new_password": "new"})
    right = Door(server, password="new")
    assert right("GET", "/stats")[0] == 200
    guesses = [Door(server, password=f"guess{n}") for n in range(30)]
    for guess in guesses:
        headers = {"Authorization": guess.authorization}
        guess.connection.request("GET", "/stats", headers=headers)
    before = busy_seconds(server.process.pid)
    assert right("GET", "/stats")[0] == 200
    # A hash takes some 50 ms, in another thread.
    assert busy_seconds(server.process.pid) - before < 0.5
    statuses = {guess.connection.getresponse().status for guess in guesses}
    assert statuses <= {401, 429}


def test_slow_heads_are_dropped(start: Start) -> None:
    server = start({"server": {"http_header_timeout_seconds": 0.5}})
    with socket.create_connection(("127.0.0.1", server.http_port), 60) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\n")
        data = b""
        while more := sock.recv(4096):
            data += more
    assert data.startswith(b"HTTP/1.1 408 ")


def test_a_large_body_with_expect(server: RunningServer) -> None:
    value = "v" * 1_000_000
    body = json.dumps({"key": "big", "value": value, "ttl_ms": 60_000}).encode()
    door = Door(server)
    with socket.create_connection(("127.0.0.1", server.http_port), 60) as sock:
        sock.sendall(
            b"POST /put HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nAuthorization: %b\r\nContent-Length: %d\r\n\r\n"
            % (door.authorization.encode(), len(body))
        )
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
    assert door("GET", "/get/big") == (200, {"value": value})


def test_stopping_answers_what_has_arrived(server: RunningServer) -> None:
    Door(server)("POST", "/put", {"key": "k", "value": "x" * 100_000})
    request = (
        f"GET /get/k HTTP/1.1\r\nHost: x\r\nAuthorization: {Door(server).authorization}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.http_port), 60) as sock:
        sock.sendall(request.encode() * 50)
        # The server has accepted the connection, and so has the requests.
        data = sock.recv(1)
        server.process.terminate()
        while more := sock.recv(65536):
            data += more
    assert data.count(b"HTTP/1.1 200 ") == 50
    assert data.count(b"x" * 100_000) == 50


@pytest.mark.slow
def test_the_server_does_what_its_description_says(server: RunningServer) -> None:
    """schemathesis generates valid and invalid requests, and checks the responses."""
    import subprocess
    import sys

    schemathesis = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            *(schemathesis, "run", f"http://127.0.0.1:{server.http_port}/openapi.json"),
            *("--auth", "admin:password", "--max-examples", "25", "--seed", "1"),
            *("--exclude-path-regex", "^/auth/(rotate|change_password|reset)$|^/events$"),
            *("--phases", "examples,coverage,fuzzing", "--no-color"),
            *("--checks", ",".join(CHECKS)),
        ],
        capture_output=True,
        text=True,
        cwd=server.directory,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)
