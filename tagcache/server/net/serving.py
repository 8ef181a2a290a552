"""What every door does for its clients: arm, count, take turns, hold replies, close, drain."""

from __future__ import annotations

import enum
import fcntl
import struct
import termios
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
from tagcache.server.net.connections import Connection
from tagcache.server.net.inbox import Inbox
from tagcache.server.net.listener import Listener, Refusal
from tagcache.server.net.transports import unsent_bytes
from tagcache.server.net.write_buffer import WriteBuffer
from tagcache.server.observe.log_throttle import LogThrottle
from tagcache.server.upkeep.slices import Turns
from tagcache.sockopts import socket_of

# How long a connection that we close is still read from, so that what the client is sending
# does not reset it before the last replies have arrived.
LINGER_SECONDS = 1.0
# How long a client may take to read its last replies.
CLOSING_SECONDS = 60.0

log = Logger(namespace="tagcache.serving")


class RefusedProtocol(Protocol):
    """Tells a client why it cannot be served, and closes."""

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


class Flow(enum.Enum):
    """What a connection waits for before it executes more of what its client sent."""

    READY = "nothing; all that came is executed"
    AWAITING = "a reply of the engine"
    TURN_OVER = "its next turn: others are served meanwhile"
    BLOCKED = "the client, which does not take its replies"


# Before Python 3.12 a member costs a call each time that it is looked up in its class.
READY, AWAITING, TURN_OVER, BLOCKED = Flow


@implementer(IHalfCloseableProtocol)
class ServedProtocol(Protocol):
    """One client of a door; a door's protocol says what it understands.

    ``finished`` is true once nothing more is to be said; subclasses answer from then on to
    nothing that still comes in.

    What a client sends is executed for about a millisecond at a time, and only while it takes its
    replies; what arrives in between is put into ``inbox``, as it came. A client that does not read
    is read from until ``max_reply_buffer`` bytes wait, because there are clients that send
    everything first; from then on it has to wait itself.
    """

    transport: Any
    factory: ServingFactory
    connection: Connection

    def __init__(self, factory: ServingFactory) -> None:
        self.factory = factory
        self.finished = False
        self.flow = READY
        self.now = 0.0
        self.inbox = Inbox()
        self._monotonic = factory.listener.connections.monotonic
        self._reading = True
        self._read_ended = False
        # Ends the patience with a client that has to go, and when that is over for good.
        self._patience: IDelayedCall | None = None
        self._give_up_at = 0.0
        # How much of what had arrived when draining began is still to be read.
        self._unread: int | None = None

    def connectionMade(self) -> None:
        self.connection = self.factory.listener.opened(self.transport)
        self.connection.abort = self.abort
        self.connection.measure = self.held_bytes
        self._replies = WriteBuffer(self.transport, self._on_pause, self._on_drain)
        self.factory.made(self)

    def abort(self) -> None:
        """Close at once; nothing that came is executed any more, not even in a turn to come."""
        self.finished = True
        self.transport.abortConnection()

    def run(self) -> None:
        """Execute what came, until all is done or there is something to wait for. For subclasses.

        It is called when ``flow`` is READY, and ends with ``settle``.
        """
        raise NotImplementedError

    def end(self) -> None:
        """Take no more requests; answer those that came, and close. For subclasses."""
        raise NotImplementedError

    def gone(self) -> None:
        """The connection is lost: let go of what is going on. For subclasses."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send, and count what was sent."""
        self.connection.bytes_out += len(data)
        replies = self._replies
        if replies.paused:
            replies.write(data)
        else:
            self.transport.write(data)

    def held_bytes(self) -> int:
        """Return how much memory the client takes: what it sent, and what it did not take yet."""
        return self.inbox.held_bytes() + self._replies.held_bytes + unsent_bytes(self.transport)

    def put_aside(self, data: bytes) -> None:
        """Keep what arrived until it can be executed."""
        self.inbox.put(data)
        if self.flow is BLOCKED and self.inbox.size > self.most_waiting():
            self.stop_reading()

    def most_waiting(self) -> int:
        """Return how many bytes are read from a client that takes no replies."""
        return self.factory.max_reply_buffer

    def stop_reading(self) -> None:
        """Take nothing more from the socket for now."""
        if self._reading:
            self._reading = False
            self.transport.pauseProducing()

    def end_turn(self) -> None:
        """Go on later: the client has had its share of time for now."""
        self.flow = TURN_OVER
        self.stop_reading()
        self.factory.turns.wait(self._take_turn)

    def ready(self) -> None:
        """Note that what was awaited is there; a client that takes no replies is waited for."""
        self.flow = BLOCKED if self._replies.paused else READY

    def settle(self) -> None:
        """Conclude a run: read on if that makes sense, and note what is held."""
        waits = self.flow is AWAITING or self.flow is TURN_OVER
        if not self._reading and not waits and self.inbox.size <= self.most_waiting():
            self._reading = True
            self.transport.resumeProducing()
        self.note_held()

    def note_held(self) -> None:
        """Tell how much memory the client takes; it may be dropped for that."""
        connection = self.connection
        held = self.held_bytes()
        if held or connection.held_bytes:
            self.factory.listener.connections.hold(connection, held)

    def _take_turn(self) -> None:
        if self.flow is not TURN_OVER or self.finished:
            return
        self.ready()
        self._run_safely()

    def _run_safely(self) -> None:
        """Run outside of ``dataReceived``, where nobody else would close what went wrong."""
        try:
            self.now = self._monotonic()
            self.run()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Drop the client because of an exception, which is being handled, and log it."""
        self.connection.abort()  # first, because it frees memory
        if isinstance(error, MemoryError):
            self.factory.out_of_memory(self)
        else:
            log.failure("{peer}: the connection failed", peer=self.connection.peer)

    def _on_pause(self) -> None:
        if self.flow is READY and not self.finished:
            self.flow = BLOCKED
            self.blocked()
        self.factory.watch(self)
        self.note_held()

    def _on_drain(self) -> None:
        self.factory.watch_no_longer(self)
        if self.flow is BLOCKED and not self.finished:
            self.flow = READY
            self._run_safely()
        else:
            self.note_held()

    def blocked(self) -> None:
        """The client takes no more replies for now. For subclasses."""

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

    def untaken_bytes(self) -> int:
        """Return how many bytes the client, or its system, has not taken yet."""
        with socket_of(self.transport) as sock:
            in_kernel = _bytes_to_send(sock.fileno()) if sock is not None else 0
        return self._replies.held_bytes + unsent_bytes(self.transport) + in_kernel

    def finish(self, closing_reply: bytes = b"") -> None:
        """Send ``closing_reply`` and close, once everything before it is sent."""
        if self.finished:
            return
        self.finished = True
        if closing_reply:
            self.send(closing_reply)
        self._replies.finish()
        self._give_up_at = self._monotonic() + CLOSING_SECONDS
        self._patience = self.factory.reactor.callLater(CLOSING_SECONDS, self.connection.abort)
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
        self._stop_waiting()
        self._patience = self.factory.reactor.callLater(LINGER_SECONDS, self._linger)

    def _linger(self) -> None:
        """Cut off a peer that does not close, once it has all that was sent to it."""
        if self.untaken_bytes() and self._monotonic() < self._give_up_at:
            self.writeConnectionLost()
        else:
            self.connection.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_waiting()
        self.finished = True
        self.gone()
        self._replies.abandon()
        self.factory.listener.closed(self.connection)
        self.factory.lost(self)

    def _stop_waiting(self) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()


class ServingFactory(ServerFactory):
    """Admits clients to a door, and sees them off; ``build`` makes the door's protocol.

    ``full`` is what a client is told when there is no room.
    """

    noisy = False
    full = b""

    def __init__(self, listener: Listener, settings: Settings, reactor: Any) -> None:
        self.listener = listener
        self.reactor = reactor
        self.protocols: set[Any] = set()
        self._drained: Deferred[None] | None = None
        self.turns = Turns(reactor, listener.connections.monotonic)
        self._idle_check = LoopingCall(self._end_idle)
        self._idle_check.clock = reactor
        # Those whose transport takes no more; what they had not taken when that was last looked at,
        # and since when.
        self._blocked: dict[ServedProtocol, tuple[int, float]] = {}
        self._send_check = LoopingCall(self._drop_deaf)
        self._send_check.clock = reactor
        self._out_of_memory = LogThrottle(1.0)
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take new settings."""
        self.max_reply_buffer = settings.performance.max_reply_buffer_bytes
        self._idle_timeout = settings.performance.idle_timeout_seconds
        self._send_timeout = settings.performance.send_timeout_seconds
        _look_often(self._idle_check, self._idle_timeout)
        _look_often(self._send_check, self._send_timeout if self._blocked else 0)

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
        self.watch_no_longer(protocol)
        if self._drained is not None and not self.protocols:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def out_of_memory(self, protocol: ServedProtocol) -> None:
        """Log that a client was dropped because the system gave no memory."""
        try:
            more = self._out_of_memory.now()
            if more is not None:
                log.error(
                    "{listener}: dropped {peer}: the system gives no more memory; a lower "
                    "cache.max_memory prevents that{more}",
                    listener=self.listener.name,
                    peer=protocol.connection.peer,
                    more=more,
                )
        except MemoryError:
            pass  # there is not enough for a line in the log either

    def watch(self, protocol: ServedProtocol) -> None:
        """Look from now on whether a client takes anything of its replies."""
        self._blocked[protocol] = (0, self.listener.connections.monotonic())
        if not self._send_check.running:
            _look_often(self._send_check, self._send_timeout)

    def watch_no_longer(self, protocol: ServedProtocol) -> None:
        """A client takes its replies again, or is gone."""
        self._blocked.pop(protocol, None)
        if not self._blocked:
            _look_often(self._send_check, 0)

    def drain(self, grace: float) -> Deferred[None]:
        """Answer what has arrived, then close every connection; nothing outlives ``grace`` seconds.

        The Deferred fires when the last connection is gone. The port must not listen any more.
        """
        _look_often(self._idle_check, 0)
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

    def _drop_deaf(self) -> None:
        now = self.listener.connections.monotonic()
        for protocol, (before, since) in list(self._blocked.items()):
            untaken = protocol.untaken_bytes()
            if untaken != before:
                self._blocked[protocol] = (untaken, now)
            elif now - since >= self._send_timeout:
                log.warn(
                    "{listener}: dropped {peer}: it has read no replies for {seconds} seconds",
                    listener=self.listener.name,
                    peer=protocol.connection.peer,
                    seconds=self._send_timeout,
                )
                protocol.connection.abort()


def _look_often(check: LoopingCall, timeout: float) -> None:
    """Have ``check`` run a few times within the timeout in seconds; never if that is 0."""
    if check.running:
        check.stop()
    if timeout:
        check.start(min(max(timeout / 4, 0.05), 60), now=False)


def _bytes_to_read(descriptor: int) -> int:
    """Return how many bytes the kernel holds that were not read yet."""
    return _counted(descriptor, termios.FIONREAD)


def _bytes_to_send(descriptor: int) -> int:
    """Return how many bytes the kernel holds that the peer's system has not taken yet."""
    return _counted(descriptor, termios.TIOCOUTQ)


def _counted(descriptor: int, request: int) -> int:
    counted = fcntl.ioctl(descriptor, request, struct.pack("i", 0))
    count: int = struct.unpack("i", counted)[0]
    return count
