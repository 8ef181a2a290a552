"""A server that the system gives no more memory."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.faults.doors import http_ask
from tests.faults.processes import address_space
from tests.integration.running import RunningServer, eventually
from tests.reliability import Measured

SECTION = "process"
MORE = 64 * 2**20


@pytest.mark.parametrize("size", [100, 20_000])
def test_the_limit_of_the_address_space(
    server: RunningServer, size: int, measured: Measured
) -> None:
    limit = address_space(server.process.pid) + MORE
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (limit, limit))
    replies: Counter[bytes] = Counter()
    number = 0
    batch = 200 if size > 1000 else 1000
    cut_off = 0
    with ExitStack() as stack:
        client = stack.enter_context(server.connect())
        refused_since = None
        while refused_since is None or time.monotonic() - refused_since < 1.0:
            lines = [
                b"PUT\tk%d\t%s\tall,t%d,u%d\t%s\n"
                % (n, (b"-", b"600000")[n & 1], n % 1000, n, b"v" * size)
                for n in range(number, number + batch)
            ]
            number += batch
            try:
                client.send(b"".join(lines))
                replies.update(client.line() for _ in range(batch))
            except ConnectionError:
                # uvloop reads for us: whose data it has no memory for is cut off, once.
                assert os.environ.get("TAGCACHE_TEST_REACTOR") == "uvloop"
                assert refused_since is None
                cut_off += 1
                client = stack.enter_context(server.connect())
            if refused_since is None and replies[b"ERR out_of_memory\n"]:
                refused_since = time.monotonic()
        assert set(replies) - {b""} == {b"OK\n", b"ERR out_of_memory\n"}
        assert cut_off <= 1
        stored = client.json(b"INFO")["cache"]["items"]
        # Of what a client sent that was cut off, nobody knows how far it got.
        assert cut_off or stored == replies[b"OK\n"]
        # It reads, counts, lists and removes as before.
        assert client.ask(b"GET\tk1") == b"VALUE\t" + b"v" * size + b"\n"
        told = client.json(b"INFO")["cache"]
        assert told["refusing_stores"] is True
        status, answer = http_ask(server, "POST", "/put", {"key": "h", "value": "v" * 1000})
        assert (status, answer["error"]) == (507, "out_of_memory")
        check = client.json(b"INFO\tcheck")["check"]
        assert check["faults"] == []
        assert check["entries"] == stored
        assert client.ask(b"INV_TAG\tall") == b"INV_TAG\t%d\n" % stored
        begin = time.monotonic()
        eventually(lambda: client.ask(b"PUT\tz\t-\t-\tv") == b"OK\n")
        again = time.monotonic() - begin
        assert client.json(b"INFO\tcheck")["check"]["faults"] == []
    assert server.text().count("the system gives no more memory") == 1
    measured(
        f"address space limited to {MORE >> 20} MB more under a load of PUTs, {size} B each",
        "ERR out_of_memory (HTTP 507), everything else goes on, entries and index agree",
        f"{stored} stored, then {replies[b'ERR out_of_memory' + bytes([10])]} refused; "
        f"stores again {again:.1f} s after an INV_TAG",
    )
