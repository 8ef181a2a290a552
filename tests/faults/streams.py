"""Sends byte streams to both protocols in memory, and checks the replies and what is left."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from tagcache.server.net.states import FINISHED
from tests.helpers import settings_with
from tests.unit.server.http.test_protocol import Door
from tests.unit.server.line.test_protocol import Server, Transport

# Small limits, so that short streams can exceed them.
LIMITS = {
    "max_key_length": 20,
    "max_value_length": 200,
    "max_tags_per_entry": 4,
    "max_tag_length": 20,
}
_MOST_TURNS = 1000
# These replies depend on the connection or on the time.
_CHANGING = re.compile(rb"CLIENTS\t.*")
_NOT_COMPARED = re.compile(rb"/(system|connections|health|stats|auth|openapi)", re.IGNORECASE)


class Outcome:
    """The result of a stream: ``replies``, and whether the server ``closed`` before its end."""

    def __init__(self, replies: bytes, closed: bool) -> None:
        self.replies = replies
        self.closed = closed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and (self.replies, self.closed) == (
            other.replies,
            other.closed,
        )

    def __repr__(self) -> str:
        return f"<closed: {self.closed}, {self.replies!r}>"


def through_codec(chunks: Sequence[bytes]) -> Outcome:
    """Send these chunks to the line protocol, one after the other, then end the stream."""
    server = Server(settings_with(cache=LIMITS))
    outcome = _run(server, chunks)
    outcome.replies = _CHANGING.sub(b"CLIENTS", outcome.replies)
    return outcome


def through_http(chunks: Sequence[bytes]) -> Outcome:
    """Send these chunks to the HTTP protocol."""
    return _run(Door(settings_with(cache=LIMITS, server={"max_body_bytes": 2000})), chunks)


def is_comparable(data: bytes) -> bool:
    """Return whether the responses depend only on the stream."""
    return _NOT_COMPARED.search(data) is None


def _run(server: Any, chunks: Sequence[bytes]) -> Outcome:
    with capturedLogs() as logs:
        protocol, transport = server.connect()
        for chunk in chunks:
            if not chunk or _is_over(protocol, transport):
                continue
            protocol.dataReceived(chunk)
            _settle(server, transport)
        closed = _is_over(protocol, transport)
        if not transport.disconnecting:
            protocol.readConnectionLost()
            _settle(server, transport)
        protocol.connectionLost(Failure(ConnectionDone()))
        server.clock.pump([0] * 3)
    failures = [each for each in logs if each["log_level"] >= LogLevel.error]
    assert not failures, failures
    assert len(server.connections) == 0
    assert server.factory.protocols == set()
    faults = _check(server)
    assert faults == (), faults
    return Outcome(transport.value(), closed)


def _is_over(protocol: Any, transport: Transport) -> bool:
    return bool(protocol.phase is FINISHED or transport.disconnecting or transport.aborted)


def _settle(server: Any, transport: Transport) -> None:
    """Run what is due until reading resumes. While it is paused, no data may be delivered."""
    for _ in range(_MOST_TURNS):
        server.clock.advance(0)
        if transport.producerState != "paused":
            return
    raise AssertionError("the server never reads on")


def _check(server: Any) -> tuple[str, ...]:
    work = server.cache.check()
    while True:
        try:
            next(work)
        except StopIteration as end:
            faults: tuple[str, ...] = end.value.faults
            return faults


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut a stream at these places, each relative to the one before."""
    parts = []
    at = 0
    for cut in cuts:
        parts.append(data[at : at + cut])
        at += cut
    return [*parts, data[at:]]


def fuzz(through: Callable[[Sequence[bytes]], Outcome], data: bytes) -> None:
    """Check a stream from a fuzzer. Its first four bytes determine the cuts."""
    how, stream = data[:4], data[4:]
    if not how or not stream:
        return
    cuts = [1 + how[number % len(how)] % 50 for number in range(len(stream) // 25 + 1)]
    whole = through([stream])
    cut = through(pieces(stream, cuts))
    if is_comparable(stream):
        assert whole == cut, (whole, cut)


def fuzz_codec(data: bytes) -> None:
    fuzz(through_codec, data)


def fuzz_http(data: bytes) -> None:
    fuzz(through_http, data)
