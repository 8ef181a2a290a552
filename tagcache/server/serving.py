"""What every door does for its clients: arm, count, hold replies, close gently, drain."""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tagcache.config.settings import Settings
from tagcache.server.connections import Connection
from tagcache.server.listener import Listener, Refusal
from tagcache.server.replies import ReplyBuffer
from tagcache.sockopts import socket_of

# How long a connection that we close is still read from, so that what the client is sending
# does not reset it before the last replies have arrived.
LINGER_SECONDS = 1.0
# How long a client may take to read its last replies.
FAREWELL_SECONDS = 60.0

log = Logger(namespace="tagcache.serving")


def _nothing() -> None:
    """Nobody has put memory by."""


class RefusedProtocol(Protocol):
    """Tells a client why it can not be served, and closes."""

    transport: Any

    def __init__(self, reply: bytes, reactor: Any) -> None:
        self._reply = reply
        self._reactor = reactor

    def connectionMade(self) -> None:
        # A TLS handshake that never ends must not keep it.
        self._too_late = self._reactor.callLater(LINGER_SECONDS, self.transport.abortConnection)
        self.transport.write(self._reply)
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._too_late.active():
            self._too_late.cancel()


@implementer(IHalfCloseableProtocol)
class ServedProtocol(Protocol):
    """One client of a door; a door's protocol says what it understands.

    ``finished`` is true once nothing more is to be said; subclasses answer from then on to
    nothing that still comes in.
    """

    transport: Any
    factory: ServingFactory
    connection: Connection

    def __init__(self, factory: ServingFactory) -> None:
        self.factory = factory
        self.finished = False
        self._monotonic = factory.listener.connections.monotonic
        self._read_ended = False
        # Ends the patience with a client that has to go.
        self._patience: IDelayedCall | None = None
        # How much of what had arrived when draining began is still to be read.
        self._unread: int | None = None

    def connectionMade(self) -> None:
        self.connection = self.factory.listener.opened(self.transport)
        self._replies = ReplyBuffer(self.transport, self.factory.max_reply_buffer, self._overflow)
        self.factory.made(self)

    def end(self) -> None:
        """Take no more requests; answer those that came, and close. For subclasses."""
        raise NotImplementedError

    def gone(self) -> None:
        """The connection is lost: let go of what is going on. For subclasses."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send, and count what was sent."""
        try:
            self.connection.bytes_out += len(data)
        except MemoryError:
            self.short_of_memory()
        replies = self._replies
        if replies.paused:
            replies.write(data)
        else:
            self.transport.write(data)

    @property
    def dropped(self) -> bool:
        """Whether the client was dropped for not reading, so that no answer reaches it."""
        return self._replies.dropped

    def short_of_memory(self) -> None:
        """Have memory given back that was put by: an allocation has failed."""
        self.factory.short_of_memory()

    def received(self, count: int) -> None:
        """Note that ``count`` bytes came."""
        connection = self.connection
        connection.bytes_in += count
        connection.last_active = self._monotonic()

    def count_drained(self, count: int) -> None:
        """Note that ``count`` bytes are dealt with; ends when all that had arrived are."""
        if self._unread is not None:
            self._unread -= count
            if self._unread <= 0:
                self.end()

    def drain(self) -> None:
        """End once what has arrived by now is read and answered."""
        with socket_of(self.transport) as sock:
            self._unread = _bytes_to_read(sock.fileno()) if sock is not None else 0
        if self._unread and ISSLTransport.providedBy(self.transport):
            # What arrived is longer than what it decrypts to.
            self._unread = 1
        if not self._unread:
            self.end()

    def end_idle(self) -> None:
        """End, or cut off if it has ended and its last replies are still not taken."""
        if self.finished:
            self.connection.abort()
        else:
            self.end()

    def finish(self, farewell: bytes = b"") -> None:
        """Send ``farewell`` and close, once everything before it is sent."""
        if self.finished:
            return
        self.finished = True
        if farewell:
            self.send(farewell)
        self._replies.finish()
        self._wait_no_longer_than(FAREWELL_SECONDS)
        idle = self._monotonic() - self.connection.last_active > LINGER_SECONDS
        if self._read_ended or idle or ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def readConnectionLost(self) -> None:
        self._read_ended = True
        if self.finished:
            self.transport.loseConnection()
        else:
            self.end()

    def writeConnectionLost(self) -> None:
        # The last reply is on its way, and the peer told that no more come.
        self._wait_no_longer_than(LINGER_SECONDS)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_waiting()
        self.finished = True
        self.gone()
        self._replies.abandon()
        self.factory.listener.closed(self.connection)
        self.factory.lost(self)

    def _wait_no_longer_than(self, seconds: float) -> None:
        self._stop_waiting()
        self._patience = self.factory.reactor.callLater(seconds, self.connection.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()

    def _overflow(self) -> None:
        log.warn(
            "{listener}: dropped {peer}: more than {limit} bytes of replies not read",
            listener=self.factory.listener.name,
            peer=self.connection.peer,
            limit=self.factory.max_reply_buffer,
        )
        self.connection.abort()


class ServingFactory(ServerFactory):
    """Admits clients to a door, and sees them off; ``build`` makes the door's protocol.

    ``full`` is what a client is told when there is no room.
    """

    noisy = False
    full = b""
    # Called when an allocation has failed.
    short_of_memory: Callable[[], None] = staticmethod(_nothing)

    def __init__(self, listener: Listener, settings: Settings, reactor: Any) -> None:
        self.listener = listener
        self.reactor = reactor
        self.protocols: set[Any] = set()
        self._drained: Deferred[None] | None = None
        self._idle_check = LoopingCall(self._end_idle)
        self._idle_check.clock = reactor
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take new settings; open connections keep their reply limit."""
        self.max_reply_buffer = settings.performance.max_reply_buffer_bytes
        self._idle_timeout = settings.performance.idle_timeout_seconds
        if self._idle_check.running:
            self._idle_check.stop()
        if self._idle_timeout:
            self._idle_check.start(min(max(self._idle_timeout / 4, 0.05), 60), now=False)

    def build(self) -> ServedProtocol:
        """Return a protocol for a client that was admitted. For subclasses."""
        raise NotImplementedError

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        refusal = self.listener.refuse(addr)
        if refusal is Refusal.ADDRESS:
            return None
        if refusal is Refusal.FULL:
            return RefusedProtocol(self.full, self.reactor)
        return self.build()

    def made(self, protocol: ServedProtocol) -> None:
        """A client is connected."""
        self.protocols.add(protocol)

    def lost(self, protocol: ServedProtocol) -> None:
        """A client is gone."""
        self.protocols.discard(protocol)
        if self._drained is not None and not self.protocols:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def drain(self, grace: float) -> Deferred[None]:
        """Answer what has arrived, then close every connection; nothing outlives ``grace`` seconds.

        The Deferred fires when the last connection is gone. The port must not listen any more.
        """
        if self._idle_check.running:
            self._idle_check.stop()
        for protocol in list(self.protocols):
            protocol.drain()
        if not self.protocols:
            return succeed(None)
        self._drained = Deferred()
        too_late = self.reactor.callLater(grace, self.abort_all)
        return self._drained.addBoth(lambda _: too_late.cancel() if too_late.active() else None)

    def abort_all(self) -> None:
        """Close every connection at once."""
        for protocol in list(self.protocols):
            protocol.connection.abort()

    def _end_idle(self) -> None:
        now = self.listener.connections.monotonic()
        for protocol in list(self.protocols):
            if now - protocol.connection.last_active >= self._idle_timeout:
                protocol.end_idle()


def _bytes_to_read(descriptor: int) -> int:
    """Return how many bytes the kernel holds that were not read yet."""
    counted = fcntl.ioctl(descriptor, termios.FIONREAD, struct.pack("i", 0))
    count: int = struct.unpack("i", counted)[0]
    return count
