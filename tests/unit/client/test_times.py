"""How long clients wait for replies, with fake clocks."""

from __future__ import annotations

import time
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tagcache.client import Options
from tagcache.client.awaited_pool import AwaitedConnection
from tagcache.client.connection import Connection
from tagcache.client.deferred import TwistedNetwork
from tagcache.errors import TimedOut
from tagcache.wire.resp import request

ONE_REQUEST = request(b"GET", b"a")
TWO_REQUESTS = request(b"GET", b"a") + request(b"GET", b"b")


class Socket:
    """A socket that receives each chunk after the given number of seconds."""

    def __init__(self, *chunks: tuple[float, bytes]) -> None:
        self.now = 0.0
        self._chunks = iter(chunks)
        self._timeout: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def recv(self, size: int) -> bytes:
        seconds, chunk = next(self._chunks)
        assert self._timeout is not None
        self.now += min(seconds, self._timeout)
        if seconds > self._timeout:
            raise TimeoutError
        return chunk


def blocking(monkeypatch: pytest.MonkeyPatch, *chunks: tuple[float, bytes]) -> list[Any]:
    sock: Any = Socket(*chunks)
    monkeypatch.setattr(time, "monotonic", lambda: sock.now)
    connection = Connection(Options(timeout=1))
    sock.settimeout(1.0)
    connection._sock = connection._channel = sock
    connection._send = lambda data: None
    connection._receive = sock.recv
    return connection.exchange(TWO_REQUESTS, 2)


class Carrier:
    def __init__(self) -> None:
        self.sent = b""
        self.waits = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.sent = b""

    def unread(self) -> bool:
        return self.waits


def awaited(monkeypatch: pytest.MonkeyPatch, *chunks: tuple[float, bytes]) -> list[Any]:
    clock, options = Clock(), Options(timeout=1)
    endpoint: Any = None
    connection = AwaitedConnection(TwistedNetwork(clock, endpoint, options), options)
    carrier: Any = Carrier()
    connection.connected(carrier)
    outcome: list[Any] = []
    running = Deferred.fromCoroutine(connection.exchange(TWO_REQUESTS, 2))
    running.addBoth(outcome.append)
    assert carrier.sent
    for seconds, chunk in chunks:
        clock.advance(seconds)
        if not outcome:
            connection.received(chunk)
    if isinstance(outcome[0], list):
        assert not clock.getDelayedCalls()
        return outcome[0]
    outcome[0].raiseException()
    raise AssertionError


@pytest.mark.parametrize("exchange", [blocking, awaited])
def test_each_reply_may_take_the_whole_timeout(
    monkeypatch: pytest.MonkeyPatch, exchange: Any
) -> None:
    assert exchange(monkeypatch, (0.9, b"$-1\r\n"), (0.9, b"$-1\r\n")) == [None, None]


@pytest.mark.parametrize("exchange", [blocking, awaited])
def test_parts_of_a_reply_do_not_extend_the_timeout(
    monkeypatch: pytest.MonkeyPatch, exchange: Any
) -> None:
    with pytest.raises(TimedOut, match="within 1"):
        exchange(monkeypatch, (0.9, b"$-"), (0.2, b"1\r\n$-1\r\n"))
    with pytest.raises(TimedOut, match="within 1"):
        exchange(monkeypatch, (0.9, b"$-1\r\n"), (0.9, b"$-"), (0.2, b"1\r\n"))


@pytest.mark.parametrize("comes", [True, False])
def test_a_late_loop_reads_what_has_arrived(comes: bool) -> None:
    clock, options = Clock(), Options(timeout=1)
    endpoint: Any = None
    connection = AwaitedConnection(TwistedNetwork(clock, endpoint, options), options)
    carrier: Any = Carrier()
    connection.connected(carrier)
    outcome: list[Any] = []
    running = Deferred.fromCoroutine(connection.exchange(ONE_REQUEST, 1))
    running.addBoth(outcome.append)
    carrier.waits = True
    clock.advance(5)
    assert not outcome
    if comes:
        connection.received(b"$-1\r\n")
        assert outcome == [[None]]
        assert not clock.getDelayedCalls()
    else:
        clock.advance(1)
        outcome[0].trap(TimedOut)
