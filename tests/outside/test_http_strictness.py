"""Requests that violate HTTP/1.1, sent to a real server by curl and plain sockets."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence

import pytest

from tests.integration.conftest import server, start
from tests.integration.running import TIMEOUT, RunningServer

__all__ = ["server", "start"]

BODY = '{"key":"k","value":"v"}'
JSON = "Content-Type: application/json"
CHUNKED = b"5\r\nabcde\r\n0\r\n\r\n"


def curl(server: RunningServer, path: str, *arguments: str) -> tuple[int, str]:
    """Return the status that curl received, and its other output."""
    url = f"http://127.0.0.1:{server.http_port}{path}"
    done = subprocess.run(
        ["curl", "-sS", "-u", "admin:password", "-w", "\n%{http_code}", *arguments, url],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    answer, _, status = done.stdout.rpartition("\n")
    return int(status), answer


def raw(server: RunningServer, data: bytes) -> bytes:
    """Return all bytes that the server sends until it closes."""
    with socket.create_connection(("127.0.0.1", server.http_port), TIMEOUT) as sock:
        sock.sendall(data)
        answer = b""
        while more := sock.recv(65536):
            answer += more
    return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /health\r\n", 505),
        (b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /health  HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
        (b"POST /put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x, chunked\r\n\r\n" + CHUNKED, 501),
    ],
)
def test_by_a_socket(server: RunningServer, data: bytes, status: int) -> None:
    assert raw(server, data).startswith(b"HTTP/1.1 %d " % status)
    assert raw(server, data + data).count(b"connection: close\r\n") == 1


@pytest.mark.parametrize(
    ("path", "arguments", "status"),
    [
        ("/put", ("-H", JSON, "-d", BODY, "-H", "Transfer-Encoding: gzip, chunked"), 501),
        ("/put", ("-H", JSON, "-d", BODY, "-H", "Transfer-Encoding: chunked"), 200),
        ("/health", ("-H", "Host:"), 400),
        ("/health", ("-H", "Host: cache.example.com"), 421),
        ("/health", ("-0", "-H", "Host:"), 200),
        ("/put", ("-0", "-H", JSON, "-d", BODY), 200),
        ("/put", ("-H", JSON, "-d", '{"key":"","value":"v"}'), 422),
        ("/invalidate-key", ("-H", JSON, "-d", '{"key":""}'), 422),
        ("/flush", ("-X", "POST", "-H", "Origin: http://evil.example"), 403),
    ],
)
def test_by_curl(server: RunningServer, path: str, arguments: Sequence[str], status: int) -> None:
    assert curl(server, path, *arguments)[0] == status


def test_http_1_0_is_not_told_to_continue(server: RunningServer) -> None:
    head = b"POST /put HTTP/1.0\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n"
    head += b"Authorization: Basic YWRtaW46cGFzc3dvcmQ=\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    answer = raw(server, head + BODY.encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"100 Continue" not in answer
    assert server.ask(b"GET\tk") == b"VALUE\tv\n"


def test_the_line_protocol_stores_no_empty_key_either(server: RunningServer) -> None:
    for request in (b"PUT\t\t-\t-\tv", b"ADD\t\t-\t-\tv", b"INCR\t", b"DECR\t"):
        assert server.ask(request) == b"ERR missing_key\n"
    assert server.ask(b"GET\t") == b"NF\n"
    assert server.ask(b"FLUSH") == b"FLUSH\t0\n"
