"""A server that the system gives no more memory."""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.faults.doors import http_ask
from tests.faults.processes import address_space
from tests.integration.running import TIMEOUT, Client, RunningServer
from tests.reliability import Measured

SECTION = "process"
MORE = 64 * 2**20

T = TypeVar("T")


def persistently(ask: Callable[[], T]) -> T:
    """Ask again as long as that costs the connection."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return ask()
        except (ConnectionError, HTTPException):
            assert time.monotonic() < deadline


class Reconnecting:
    """A client that connects again after it was cut off; ``cut_off`` counts how often."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._client: Client | None = None
        self.cut_off = 0

    def __enter__(self) -> Reconnecting:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._client is not None:
            self._client.sock.close()

    def batch(self, data: bytes, count: int) -> list[bytes]:
        """Send so many commands; returns their replies, or fewer if it was cut off."""
        replies: list[bytes] = []
        try:
            if self._client is None:
                self._client = self._server.connect()
            self._client.send(data)
            while len(replies) < count:
                line = self._client.line()
                if not line.endswith(b"\n"):
                    raise ConnectionError
                replies.append(line)
        except ConnectionError:
            self.cut_off += 1
            if self._client is not None:
                self._client.sock.close()
                self._client = None
        return replies

    def ask(self, request: bytes) -> bytes:
        """Return the reply, at whatever attempt there is memory for it."""

        def once() -> bytes:
            replies = self.batch(request + b"\n", 1)
            if replies in ([], [b"ERR out_of_memory\n"]):
                raise ConnectionError
            return replies[0]

        return persistently(once)

    def json(self, request: bytes) -> Any:
        return json.loads(self.ask(request).split(b"\t", 1)[1])


@pytest.mark.parametrize("size", [pytest.param(100, marks=pytest.mark.slow), 20_000])
def test_the_limit_of_the_address_space(tmp_path: Path, size: int, measured: Measured) -> None:
    # Not the fixture's server: this one may log the traceback of a MemoryError.
    with RunningServer(tmp_path) as server, Reconnecting(server) as client:
        limit = address_space(server.process.pid) + MORE
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (limit, limit))
        replies: Counter[bytes] = Counter()
        number = 0
        batch = 200 if size > 1000 else 1000
        short_since = None
        while short_since is None or time.monotonic() - short_since < 1.0:
            lines = [
                b"PUT\tk%d\t%s\tall,t%d,u%d\t%s\n"
                % (n, (b"-", b"600000")[n & 1], n % 1000, n, b"v" * size)
                for n in range(number, number + batch)
            ]
            number += batch
            replies.update(client.batch(b"".join(lines), batch))
            if short_since is None and (client.cut_off or replies[b"ERR out_of_memory\n"]):
                short_since = time.monotonic()
        cut_off = client.cut_off
        assert set(replies) <= {b"OK\n", b"ERR out_of_memory\n"}
        # A short request has room enough, at the latest when it is sent again.
        stored = client.json(b"INFO")["cache"]["items"]
        # Of what a client sent that was cut off, nobody knows how far it got.
        assert stored >= replies[b"OK\n"] if cut_off else stored == replies[b"OK\n"]
        assert client.ask(b"GET\tk1") == b"VALUE\t" + b"v" * size + b"\n"
        put = {"key": "h", "value": "v" * 1000, "tags": ["all"]}
        status, answer = persistently(lambda: http_ask(server, "POST", "/put", put))
        assert status == 200 or (status, answer["error"]) == (507, "out_of_memory")
        stored += status == 200
        # Sent again it finds nothing: its reply is not counted where it was cut off.
        assert client.ask(b"INV_TAG\tall") in {b"INV_TAG\t%d\n" % n for n in (stored, 0)}
        begin = time.monotonic()
        assert client.ask(b"PUT\tz\t-\t-\tv") == b"OK\n"
        again = time.monotonic() - begin
        assert client.json(b"INFO\tcheck")["check"]["faults"] == []
        assert client.json(b"INFO")["cache"]["items"] == 1
        # The second is what uvloop logs, which reads by itself.
        logged = ("the system gives no more memory", "MemoryError")
        assert not cut_off or any(each in server.text() for each in logged)
        measured(
            f"address space limited to {MORE >> 20} MB more under a load of PUTs, {size} B each",
            "each is refused with ERR out_of_memory, or costs its connection; entries and index "
            "agree; what frees memory is answered, at the latest when it is sent again",
            f"{stored} stored, then {replies[b'ERR out_of_memory' + bytes([10])]} refused and "
            f"{cut_off} connections dropped; stores again {again:.1f} s after an INV_TAG",
        )
