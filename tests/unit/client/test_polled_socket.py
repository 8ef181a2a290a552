"""A socket that is polled before it is read: partial sends, time limits, false alarms."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tagcache.client.polled_socket import PolledSocket


@pytest.fixture
def pair() -> Iterator[tuple[PolledSocket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield PolledSocket(one), other


def test_more_than_the_buffers_hold_is_sent(pair: tuple[PolledSocket, socket.socket]) -> None:
    ours, theirs = pair
    data = b"x" * 5_000_000
    received = bytearray()

    def receive() -> None:
        while len(received) < len(data):
            received.extend(theirs.recv(1 << 16))

    reading = threading.Thread(target=receive)
    reading.start()
    ours.sendall(data)
    reading.join(60)
    assert received == data
    # It does not block afterwards, either.
    ours.settimeout(0.001)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    theirs.sendall(b"reply")
    assert ours.recv(100) == b"reply"
    theirs.close()
    assert ours.recv(100) == b""


def test_a_peer_that_does_not_read(pair: tuple[PolledSocket, socket.socket]) -> None:
    ours, _ = pair
    ours.settimeout(0.01)
    with pytest.raises(TimeoutError):
        ours.sendall(b"x" * 5_000_000)
    # Nothing fits any more.
    with pytest.raises(TimeoutError):
        ours.sendall(b"x")


def test_a_false_alarm(pair: tuple[PolledSocket, socket.socket]) -> None:
    ours, _ = pair
    events = [[(0, 1)], [(0, 1)], []]
    ours._poll = lambda timeout: events.pop(0)  # type: ignore[assignment, misc]
    with pytest.raises(TimeoutError):
        ours.recv(1)
    assert not events
