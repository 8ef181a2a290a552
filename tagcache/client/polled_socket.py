"""A socket that polls only before it reads."""

from __future__ import annotations

import math
import select
import socket


class PolledSocket:
    """The methods of a socket that a connection uses, with fewer system calls.

    Python's socket with a timeout polls before each call, even before sending, which hardly ever
    has to wait. This one sends at once, and polls before it receives. It is not for TLS, where
    data can be waiting though the socket has nothing to read.
    """

    __slots__ = ("_milliseconds", "_poll", "_receive", "_seconds", "_send", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._send, self._receive = sock.send, sock.recv
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        self._poll = poll.poll
        self.settimeout(None)

    def settimeout(self, seconds: float | None) -> None:
        """Set how long ``sendall`` and ``recv`` may take; None: no limit."""
        self._seconds = seconds
        self._milliseconds = None if seconds is None else math.ceil(seconds * 1000)

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``. Raises OSError, TimeoutError."""
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, data: memoryview) -> None:
        self._sock.settimeout(self._seconds)
        try:
            self._sock.sendall(data)
        finally:
            self._sock.setblocking(False)

    def recv(self, size: int) -> bytes:
        """Return up to ``size`` bytes; b"" at the end. Raises OSError, TimeoutError."""
        while self._poll(self._milliseconds):
            try:
                return self._receive(size)
            except BlockingIOError:
                # Linux may report a socket as readable when it is not.
                continue
        raise TimeoutError
