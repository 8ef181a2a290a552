"""The way of replies to a client that may read slowly, or not at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class ReplyBuffer:
    """Writes to a transport while it takes data, and holds what it does not take.

    ``limit`` is the most bytes to hold; beyond it ``overflow`` is called, once, and nothing
    more is kept: ``dropped`` is true from then on. While not ``paused`` the transport may as well
    be written to.
    """

    def __init__(self, transport: Any, limit: int, overflow: Callable[[], None]) -> None:
        self._transport = transport
        self._limit = limit
        self._overflow = overflow
        self._held: deque[bytes] = deque()
        self.held_bytes = 0
        self.dropped = False
        self.paused = False
        transport.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Send ``data`` after all that was written before."""
        if not self.paused:
            self._transport.write(data)
        elif not self.dropped:
            self._held.append(data)
            self.held_bytes += len(data)
            if self.held_bytes > self._limit:
                self.dropped = True
                self._held.clear()
                self._overflow()

    def finish(self) -> None:
        """Hand everything that is held to the transport, and let go of it."""
        self._transport.unregisterProducer()
        self.paused = False
        self._release()

    def abandon(self) -> None:
        """Let go of everything: the connection is lost, and nobody reads any more."""
        self.stopProducing()
        del self._transport, self._overflow

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self._release()

    def stopProducing(self) -> None:
        self.dropped = self.paused = True
        self._held.clear()

    def _release(self) -> None:
        # The transport may ask for a pause in the middle of this.
        while self._held and not self.paused:
            data = self._held.popleft()
            self.held_bytes -= len(data)
            self._transport.write(data)
