"""Valid and invalid HTTP for the fault tests."""

from __future__ import annotations

import http.client
import json
import socket
from base64 import b64encode
from contextlib import suppress
from typing import Any

from tests.integration.running import RunningServer

AUTHORIZATION = "Basic " + b64encode(b"admin:password").decode()


def http_ask(
    server: RunningServer,
    method: str,
    path: str,
    body: Any = None,
    authorization: str = AUTHORIZATION,
) -> tuple[int, Any]:
    """Make one request on a new connection; returns the status and the JSON response."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    try:
        data = None if body is None else json.dumps(body)
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()


def raw(server: RunningServer, data: bytes, timeout: float = 60.0) -> bytes:
    """Send bytes to the HTTP port, and return all bytes until the server closes."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout) as sock:
        with suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)  # the server may close before it has read everything
        return until_closed(sock)


def until_closed(sock: socket.socket) -> bytes:
    data = b""
    with suppress(ConnectionResetError):
        while more := sock.recv(65536):
            data += more
    return data
