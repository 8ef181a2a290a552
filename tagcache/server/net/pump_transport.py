"""The transport of a connection that the native pump reads and writes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tagcache.native import NativeAnswers
from tagcache.server.net.socket_transport import SocketTransport


class Answered(NamedTuple):
    """Requests that a transport has answered without the protocol.

    ``requests`` counts them by verb; ``last_active`` is when the last one came, in seconds of the
    monotonic clock; 0 if there was none.
    """

    requests: dict[bytes, int]
    last_verb: bytes
    bytes_in: int
    bytes_out: int
    last_active: float


@implementer(ITCPTransport)
class PumpTransport(SocketTransport):
    """An ITCPTransport for a connected socket that a pump reads and writes.

    ``slow``, ``full``, ``drained``, ``read_ended`` and ``lost`` are called by its channel.
    """

    def __init__(
        self, sock: socket.socket, protocol: Any, client: Any, reactor: Any, pump: Any
    ) -> None:
        super().__init__(sock, client)
        sock.setblocking(False)
        self.protocol = protocol
        self.disconnecting = False
        # What the pump answers without the protocol; None for nothing.
        self.answers: NativeAnswers | None = None
        self._verbs: tuple[bytes, ...] = ()
        # Called with the duration in seconds, the number of requests, and the verb of one of them.
        self.on_slow: Callable[[float, int, bytes], None] = _nothing
        self._reactor = reactor
        self._full = False
        self._half_closing = False
        self._aborting = False
        self._channel = pump.add(sock.fileno(), self, protocol.dataReceived)
        # A write goes straight to the channel.
        self.write = self._channel.write

    # Requests without the protocol

    def answer(self, plain: Any, answers: NativeAnswers, *heads: Any) -> None:
        """Answer plain requests at the beginning of each chunk; the protocol gets the rest.

        ``heads`` is an HttpHeads of the native core, in HTTP only.
        """
        self.answers = answers
        self._verbs = answers.verbs
        readers = answers.read_options, answers.read_tag_options
        self._channel.answer(plain, answers.dialect, *readers, answers.verbs, *heads)

    def answer_nothing(self) -> None:
        """Pass all received data to the protocol."""
        self.answers = None
        self._channel.answer_nothing()

    def take_answered(self) -> Answered:
        """Return the requests that were answered without the protocol since the last call."""
        requests, last, bytes_in, bytes_out, last_active = self._channel.take_counts()
        known = zip(self._verbs, requests, strict=False)
        counts = {verb: count for verb, count in known if count}
        last_verb = self._verbs[last] if self._verbs else b""
        return Answered(counts, last_verb, bytes_in, bytes_out, last_active)

    # Calls of the channel

    def slow(self, seconds: float, requests: int, verb: int) -> None:
        """Called when answering a chunk took long."""
        self.on_slow(seconds, requests, self._verbs[verb])

    def full(self) -> None:
        """Called when too much is unsent."""
        if not self._full:
            self._full = True
            if self._producer is not None and self._streaming:
                self._producer.pauseProducing()

    def drained(self) -> None:
        """Called when everything is sent."""
        was_full, self._full = self._full, False
        if self._producer is not None and not self._streaming:
            self._producer.resumeProducing()
            self._channel.tell_drained()
        elif self._producer is not None and was_full:
            self._producer.resumeProducing()
            if self.connected and self.disconnecting:
                self._channel.tell_drained()
        elif self.disconnecting:
            self._lost(ConnectionDone())
        elif self._half_closing:
            self._shut_down()

    def read_ended(self) -> None:
        """Called when the peer has closed its side."""
        closeable: Any = IHalfCloseableProtocol(self.protocol, None)
        if closeable is None or self.disconnecting:
            self._lost(ConnectionDone())
        else:
            closeable.readConnectionLost()

    def lost(self, error: int) -> None:
        """Called when the connection has failed, with an errno."""
        self._lost(ConnectionLost(os.strerror(error)))

    def _lost(self, reason: Exception) -> None:
        if not self.connected:
            return
        self.connected = False
        self.write = _ignore
        self._channel.close()
        self.socket.close()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        protocol, self.protocol = self.protocol, None
        protocol.connectionLost(Failure(reason))

    # ITransport

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.answer_nothing()
            self._channel.pause()
            self._channel.tell_drained()

    def abortConnection(self) -> None:
        if self.connected and not self._aborting:
            self.disconnecting = self._aborting = True
            self.write = _ignore
            self.reset_at_close()
            self._channel.close()
            self._reactor.callLater(0, self._lost, ConnectionAborted())

    def loseWriteConnection(self) -> None:
        if self.connected and not self._half_closing:
            self._half_closing = True
            self.write = _ignore
            self.answer_nothing()
            self._channel.tell_drained()

    def _shut_down(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lost(ConnectionLost(error.strerror))
            return
        closeable = IHalfCloseableProtocol(self.protocol, None)
        if closeable is not None:
            closeable.writeConnectionLost()

    # Flow of data

    def unsent_bytes(self) -> int:
        """Return how many bytes the kernel has not accepted yet."""
        unsent: int = self._channel.unsent
        return unsent

    def pauseProducing(self) -> None:
        self._channel.pause()

    def resumeProducing(self) -> None:
        if self.connected and not self.disconnecting:
            self._channel.resume()

    def stopProducing(self) -> None:
        self.loseConnection()

    def _pull(self) -> None:
        self._channel.tell_drained()

    def unregisterProducer(self) -> None:
        self._producer = None
        if self.connected and self.disconnecting:
            self._channel.tell_drained()


def _nothing(seconds: float, requests: int, verb: bytes) -> None:
    """Do nothing."""


def _ignore(data: bytes) -> None:
    """Ignore data for a peer that no longer reads."""
