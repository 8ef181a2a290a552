"""The base protocol of all ports: takes turns, orders replies, controls the flow, closes."""

from __future__ import annotations

import fcntl
import struct
import termios
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tagcache.server.net.connections import Connection
from tagcache.server.net.inbox import Inbox
from tagcache.server.net.reply_queue import ReplyQueue, Slot
from tagcache.server.net.states import (
    AWAITING,
    BLOCKED,
    ENDING,
    FINISHED,
    READY,
    SERVING,
    TURN_OVER,
    Phase,
)
from tagcache.server.net.transports import unsent_bytes
from tagcache.server.net.write_buffer import WriteBuffer
from tagcache.server.observe.meter import Meter
from tagcache.server.observe.traffic import Traffic
from tagcache.sockopts import socket_of

if TYPE_CHECKING:
    from tagcache.server.net.factory import ServingFactory

# How long we keep reading from a connection that we close. Unread data would reset it before the
# last replies arrive.
LINGER_SECONDS = 1.0
# How long a client may take to read its last replies.
CLOSING_SECONDS = 60.0

log = Logger(namespace="tagcache.serving")


@implementer(IHalfCloseableProtocol)
class ServedProtocol(Protocol):
    """One client of a port. A subclass parses, executes and replies: see ``run``.

    Requests are executed for about a millisecond at a time, and only while the client reads its
    replies; data that arrives in between is put into ``inbox``, unparsed. Some clients send
    everything before they read, so the server keeps reading until ``max_reply_buffer`` bytes
    wait; then it stops.

    ``size`` returns the length in bytes of a reply that waits for earlier ones.
    """

    transport: Any
    factory: ServingFactory
    connection: Connection

    def __init__(
        self, factory: ServingFactory, traffic: Traffic, size: Callable[[Any], int]
    ) -> None:
        self.factory = factory
        self.flow = READY
        self.phase = SERVING
        self.now = 0.0
        self.inbox = Inbox()
        # Parsed requests that wait; the data after them is in the inbox.
        self._waiting: deque[Any] = deque()
        self._queue = ReplyQueue(size)
        self._meter = Meter(traffic)
        # The scheduled call that sends the finished replies.
        self._soon: IDelayedCall | None = None
        # The reply to send once everything is answered.
        self._closing_reply = b""
        self._monotonic = factory.listener.connections.monotonic
        self._reading = True
        self._read_ended = False
        # The scheduled call that aborts a client that does not close; and the latest time for it.
        self._patience: IDelayedCall | None = None
        self._give_up_at = 0.0
        # How many of the bytes that had arrived when draining began are still to be read.
        self._unread: int | None = None

    def connectionMade(self) -> None:
        self.connection = self.factory.listener.opened(self.transport)
        self._meter.connection = self.connection
        self.connection.abort = self.abort
        self.connection.hang_up = self.hang_up
        self.connection.measure = self.held_bytes
        self._replies = WriteBuffer(self.transport, self._on_pause, self._on_drain)
        self.factory.made(self)

    # Subclasses define these.

    def run(self) -> None:
        """Send the finished replies, and execute requests until there is a reason to wait.

        Ends with ``_settle``.
        """
        raise NotImplementedError

    def _failed(self, failure: Failure) -> Any:
        """Return the reply to a request that failed."""
        raise NotImplementedError

    def _note_awaited(self, request: Any, took: float) -> None:
        """Record how many seconds the reply to ``request`` took."""
        raise NotImplementedError

    def _gone(self) -> None:
        """Called when the connection is lost: stop everything."""
        raise NotImplementedError

    def _not_ordinary(self) -> None:
        """Called when no fast path may take the next chunk."""

    # Replies

    def send(self, data: bytes) -> None:
        """Send ``data``, and count it."""
        self.connection.bytes_out += len(data)
        replies = self._replies
        if replies.paused:
            replies.write(data)
        else:
            self.transport.write(data)

    def _wait_for(self, reply: Deferred[Any], request: Any, pipelined: bool = False) -> Any:
        """Return the reply to ``request`` if it is finished; else queue it, and return None.

        Nothing else is executed during a request that is not ``pipelined``.
        """
        slot = Slot(request, self.now)
        reply.addCallbacks(self._arrived, self._failed_to, (slot,), errbackArgs=(slot,))
        if slot.reply is not None:
            return slot.reply
        if pipelined:
            self._queue.wait(slot, None)
        else:
            self._queue.wait(slot, reply)
            self._await_replies()
        return None

    def _await_replies(self) -> None:
        self.flow = AWAITING
        self._stop_reading()

    def _failed_to(self, failure: Failure, slot: Slot) -> None:
        try:
            reply = self._failed(failure)
        except Exception as error:
            self.fail(error)
        else:
            self._arrived(reply, slot)

    def _arrived(self, reply: Any, slot: Slot) -> None:
        slot.reply = reply
        if not slot.queued or self.phase is FINISHED:
            return
        try:
            self.now = self._monotonic()
            self._note_awaited(slot.request, self.now - slot.since)
            self._queue.arrived(slot)
            if self.flow is BLOCKED:
                self._note_held()
            elif self._queue.due:
                self._go_on()
            elif self._soon is None and self._queue.is_next(slot):
                # Replies usually arrive together, so wait a turn to send them in one write.
                self._soon = self.factory.reactor.callLater(0, self._send_soon)
        except Exception as error:
            self.fail(error)

    def _send_soon(self) -> None:
        self._soon = None
        self._go_on()

    # Turns, and the flow of data

    def _go_on(self) -> None:
        """Call ``run`` outside ``dataReceived``; any error closes the connection."""
        if self.phase is FINISHED:
            return
        try:
            self.now = self._monotonic()
            if self.flow is AWAITING and self._queue.alone is None:
                self._ready()
            self.run()
        except Exception as error:
            self.fail(error)

    def _ready(self) -> None:
        """Stop waiting, unless the client does not read its replies."""
        self.flow = BLOCKED if self._replies.paused else READY

    def _end_turn(self) -> None:
        """Continue later: the client has used its share of time."""
        self.flow = TURN_OVER
        self._stop_reading()
        self.factory.turns.wait(self._take_turn)

    def _take_turn(self) -> None:
        if self.flow is TURN_OVER:
            self._ready()
            self._go_on()

    def _on_pause(self) -> None:
        if self.flow is READY and self.phase is not FINISHED:
            self.flow = BLOCKED
            self._not_ordinary()
        self.factory.watch(self)
        self._note_held()

    def _on_drain(self) -> None:
        self.factory.watch_no_longer(self)
        if self.flow is BLOCKED and self.phase is not FINISHED:
            self.flow = READY
            self._go_on()
        else:
            self._note_held()

    def _put_aside(self, data: bytes) -> None:
        """Keep received data until it can be executed."""
        self.inbox.put(data)
        if self.flow is BLOCKED and self.inbox.size > self._most_waiting():
            self._stop_reading()

    def _most_waiting(self) -> int:
        """Return how many bytes may wait from a client that does not read its replies."""
        return self.factory.max_reply_buffer

    def _stop_reading(self) -> None:
        """Stop reading from the socket for now."""
        if self._reading:
            self._reading = False
            self.transport.pauseProducing()

    def _settle(self) -> None:
        """Finish a run: close if all is answered, read again if there is room, record memory."""
        if self.phase is ENDING:
            self._finish_if_answered()
        waits = self.flow is AWAITING or self.flow is TURN_OVER
        if not self._reading and not waits and self.inbox.size <= self._most_waiting():
            self._reading = True
            self.transport.resumeProducing()
        self._note_held()

    def held_bytes(self) -> int:
        """Return the memory of the requests and of the replies that are not sent yet, in bytes."""
        unsent = self._replies.held_bytes + unsent_bytes(self.transport)
        return self.inbox.held_bytes() + self._queue.held_bytes + unsent

    def _note_held(self) -> None:
        """Record how much memory the client takes; it may be dropped for using too much."""
        connection = self.connection
        held = self.held_bytes()
        if held or connection.held_bytes:
            self.factory.listener.connections.hold(connection, held)

    # The end

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._not_ordinary()

    def abort(self) -> None:
        """Close at once; no received request is executed any more, not even in a later turn."""
        self._enter(FINISHED)
        self.transport.abortConnection()

    def hang_up(self) -> None:
        """Execute no more requests, and close; reset only a peer that does not read its replies.

        Some clients reconnect when a stream ends, but fail when it is reset.
        """
        if self._replies.paused:
            self.connection.abort()
        else:
            self.finish()

    def fail(self, error: Exception) -> None:
        """Drop the client because of ``error``, which is being handled, and log it."""
        self.connection.abort()  # first, because it frees memory
        if isinstance(error, MemoryError):
            self.factory.out_of_memory(self)
        else:
            log.failure("{peer}: the connection failed", peer=self.connection.peer)

    def end(self, closing_reply: bytes = b"") -> None:
        """Read no more requests; answer the received ones, send ``closing_reply``, and close."""
        if self.phase is SERVING:
            self._closing_reply = closing_reply
            self._enter(ENDING)
            self._finish_if_answered()

    def _take_no_more(self, closing_reply: bytes = b"") -> None:
        """Read no more requests, not even those in the inbox; see ``end``. Called by ``run``."""
        self.inbox.clear()
        if self.phase is SERVING:
            self._closing_reply = closing_reply
            self._enter(ENDING)

    def _finish_if_answered(self) -> None:
        if self.flow is READY and not (self._queue.slots or self._waiting or self.inbox):
            self.finish(self._closing_reply)

    def end_idle(self) -> None:
        """End, or abort a client that does not read its last replies."""
        if self.phase is SERVING:
            self.end()
        elif self.phase is FINISHED or self._replies.paused:
            self.connection.abort()

    def drain(self) -> None:
        """End once everything that has arrived by now is read and answered."""
        with socket_of(self.transport) as sock:
            self._unread = _bytes_to_read(sock.fileno()) if sock is not None else 0
        if self._unread and ISSLTransport.providedBy(self.transport):
            # Encrypted data is longer than what it decrypts to, so wait for one byte only.
            self._unread = 1
        self._not_ordinary()
        if not self._unread:
            self.end()

    def _count_drained(self, count: int) -> None:
        """Record that ``count`` bytes are processed; end when all bytes to drain are."""
        if self._unread is not None:
            self._unread -= count
            if self._unread <= 0:
                self.end()

    def untaken_bytes(self) -> int:
        """Return how many bytes the client's system has not acknowledged yet."""
        with socket_of(self.transport) as sock:
            in_kernel = _bytes_to_send(sock.fileno()) if sock is not None else 0
        return self._replies.held_bytes + unsent_bytes(self.transport) + in_kernel

    def finish(self, closing_reply: bytes = b"") -> None:
        """Send ``closing_reply`` and close, once everything before it is sent."""
        if self.phase is FINISHED:
            return
        self._enter(FINISHED)
        if closing_reply:
            self.send(closing_reply)
        self._replies.finish()
        self._give_up_at = self._monotonic() + CLOSING_SECONDS
        self._patience = self.factory.reactor.callLater(CLOSING_SECONDS, self.connection.abort)
        self.connection.catch_up()
        idle = self._monotonic() - self.connection.last_active > LINGER_SECONDS
        if self._read_ended or idle or ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def readConnectionLost(self) -> None:
        self._read_ended = True
        if self.phase is FINISHED:
            self.transport.loseConnection()
        else:
            self.end()

    def writeConnectionLost(self) -> None:
        # The last reply is sent, and the peer knows that no more will come.
        self._stop_patience()
        self._patience = self.factory.reactor.callLater(LINGER_SECONDS, self._linger)

    def _linger(self) -> None:
        """Abort a peer that has received everything and does not close."""
        if self.untaken_bytes() and self._monotonic() < self._give_up_at:
            self.writeConnectionLost()
        else:
            self.connection.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_patience()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._enter(FINISHED)
        self._waiting.clear()
        self.inbox.clear()
        self._queue.abandon()
        self._gone()
        self._replies.abandon()
        self.factory.listener.closed(self.connection)
        self.factory.lost(self)

    def _stop_patience(self) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()


def _bytes_to_read(descriptor: int) -> int:
    """Return how many received bytes in the kernel are not read yet."""
    return _counted(descriptor, termios.FIONREAD)


def _bytes_to_send(descriptor: int) -> int:
    """Return how many sent bytes in the kernel the peer's system has not acknowledged yet."""
    return _counted(descriptor, termios.TIOCOUTQ)


def _counted(descriptor: int, request: int) -> int:
    counted = fcntl.ioctl(descriptor, request, struct.pack("i", 0))
    count: int = struct.unpack("i", counted)[0]
    return count
