"""Without memory, a store is refused or the connection is dropped, and the cache agrees.

CPython's own test module makes a few allocations in a row fail, starting at each one in turn. The
failures end, because CPython 3.11 may retry for ever when it has no memory for an exception.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from twisted.logger import capturedLogs

from tests.helpers import done, settings_with
from tests.no_memory import failing_allocations
from tests.unit.server.line.test_protocol import Server

testcapi = failing_allocations()

# More allocations than any of these chunks makes.
MOST = 1500
STORES = b"".join(b"PUT\tk%d\t60000\tall,t%d\t%s\n" % (n, n % 3, b"v" * 600) for n in range(24))
CHUNKS = {
    "store": b"PUT\tk0\t60000\tall,t0\tvalue\n",
    "stores": STORES,
    "mixed": b"PUT\tk0\t-\tall\tv\nGET\tk0\nGET\tgone\nADD\tk0\t-\t-\tw\nTTL\tk0\n" * 5,
}


class Peer:
    """A transport that stores what is written without allocating memory."""

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


def send_without_memory(
    server: Server, chunk: bytes, first: int, count: int
) -> tuple[list[bytes], bool]:
    """Send ``chunk`` while ``count`` allocations fail; return the replies, and if it aborted."""
    protocol, _ = server.connect()
    peer = protocol.transport = Peer()
    protocol.connection.abort = peer.abortConnection
    testcapi.set_nomemory(first, first + count)
    try:
        protocol.dataReceived(chunk)
    finally:
        testcapi.remove_mem_hooks()
    return b"".join(peer.written).splitlines(), peer.aborted


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
def test_each_command_is_answered_or_the_connection_dropped(chunk: bytes, count: int) -> None:
    expected, _ = send_without_memory(Server(settings_with()), chunk, MOST, 1)
    refused = dropped = undisturbed = 0
    for number in range(1, MOST):
        server = Server(settings_with())
        with capturedLogs() as events:
            replies, aborted = send_without_memory(server, chunk, number, count)
        if count == 1:
            assert done(server.cache.check()).faults == (), number
        if aborted:
            dropped += 1
            # A single failure is over when it is logged.
            logged = [event["log_format"] for event in events]
            assert count > 1 or "no more memory" in logged[-1], number
        else:
            assert len(replies) == chunk.count(b"\n"), number
            assert server.cache.held().items <= replies.count(b"OK"), number
        refused += replies.count(b"ERR out_of_memory")
        # A failure may have no effect, for example where Python retries. Thirty runs in a row
        # without an effect mean that every allocation was tested.
        undisturbed = undisturbed + 1 if replies == expected else 0
        if undisturbed == 30:
            break
    assert undisturbed
    assert refused
    assert dropped
