"""Wherever memory comes to its end while requests are answered, each of them is answered.

CPython's own test module makes allocations fail from one on, until the reserve is let go of; not
for good, because CPython 3.11 may try again for ever where it has no memory for an exception.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.helpers import settings_with
from tests.unit.test_protocol import Server

testcapi = pytest.importorskip("_testcapi", reason="this Python comes without its test modules")

# More than any of these chunks makes.
MOST = 1500
STORES = b"".join(b"PUT\tk%d\t60000\tall,t%d\t%s\n" % (n, n % 3, b"v" * 600) for n in range(24))
CHUNKS = {
    "store": b"PUT\tk0\t60000\tall,t0\tvalue\n",
    "stores": STORES,
    "mixed": b"PUT\tk0\t-\tall\tv\nGET\tk0\nGET\tgone\nADD\tk0\t-\t-\tw\nTTL\tk0\n" * 5,
}


class Peer:
    """Takes what is written without allocating anything."""

    def __init__(self) -> None:
        self.written = [b""] * 200
        self.count = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written[self.count] = data
        self.count += 1

    def abortConnection(self) -> None:
        self.aborted = True


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
def test_each_command_is_answered(chunk: bytes) -> None:
    refused = cut_off = 0
    for number in range(1, MOST):
        server = Server(settings_with())
        released: list[None] = []

        def release(released: list[None] = released) -> None:
            testcapi.remove_mem_hooks()
            released.append(None)

        server.factory.short_of_memory = release
        protocol, _ = server.connect()
        peer = protocol.transport = Peer()
        protocol.connection.abort = peer.abortConnection
        testcapi.set_nomemory(number, number + 20)
        try:
            protocol.dataReceived(chunk)
        finally:
            testcapi.remove_mem_hooks()
        replies = b"".join(peer.written).splitlines()
        assert len(replies) == (0 if peer.aborted else chunk.count(b"\n")), number
        if peer.aborted:
            # Before, between and after the commands there is little that allocates.
            cut_off += 1
        else:
            assert server.cache.held().items <= replies.count(b"OK"), number
        refused += replies.count(b"ERR out_of_memory")
        if not released:
            break
    assert not released
    assert refused
    assert cut_off <= 10
