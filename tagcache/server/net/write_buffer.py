"""Replies for a client that may read slowly, or not at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class WriteBuffer:
    """Writes to a transport while it accepts data, and holds the rest.

    ``on_pause`` is called when the transport pauses, and ``on_drain`` when it has resumed and
    nothing is held any more. While not ``paused``, writing to the transport has the same effect.
    ``held_bytes`` is the length of the held data.
    """

    def __init__(
        self, transport: Any, on_pause: Callable[[], object], on_drain: Callable[[], object]
    ) -> None:
        self._transport = transport
        self._on_pause = on_pause
        self._on_drain = on_drain
        self._held: deque[bytes] = deque()
        self.held_bytes = 0
        self.paused = False
        transport.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Send ``data`` after everything that was written before."""
        if self.paused:
            self._held.append(data)
            self.held_bytes += len(data)
        else:
            self._transport.write(data)

    def finish(self) -> None:
        """Pass all held data to the transport, and no longer control it."""
        self._transport.unregisterProducer()
        self.paused = False
        self._release()

    def abandon(self) -> None:
        """Drop everything: the connection is lost."""
        self.stopProducing()
        del self._transport, self._on_pause, self._on_drain

    def pauseProducing(self) -> None:
        if not self.paused:
            self.paused = True
            self._on_pause()

    def resumeProducing(self) -> None:
        self.paused = False
        self._release()
        if not self.paused:
            self._on_drain()

    def stopProducing(self) -> None:
        self.paused = True
        self._held.clear()
        self.held_bytes = 0

    def _release(self) -> None:
        # The transport may pause in the middle of this.
        while self._held and not self.paused:
            data = self._held.popleft()
            self.held_bytes -= len(data)
            self._transport.write(data)
