"""The line protocol on a connection: bytes in, commands, bytes out, in order."""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tagcache import wire
from tagcache.errors import CommandError, LineTooLong
from tagcache.server.connections import Connection
from tagcache.server.listener import Listener
from tagcache.server.replies import ReplyBuffer
from tagcache.server.sockopts import socket_of

# How long a connection that we close is still read from, so that what the client is sending
# does not reset it before the last replies have arrived.
LINGER_SECONDS = 1.0
_LINE_TOO_LONG = wire.error("line_too_long")
_INTERNAL_ERROR = wire.error("internal_error")

log = Logger(namespace="tagcache.protocol")


class Disconnect(Exception):
    """Raised by a command after which the connection is closed; carries its reply."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


class RefusedProtocol(Protocol):
    """Tells a client why it can not be served, and closes."""

    transport: Any

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def connectionMade(self) -> None:
        self.transport.write(self._reply)
        self.transport.loseConnection()


@implementer(IHalfCloseableProtocol)
class CacheProtocol(Protocol):
    """One client of the line protocol.

    ``verbs`` maps each verb, in upper and in lower case, to its command; ``otherwise`` answers
    to every other verb. A command returns its reply or, where it takes time, a Deferred of it;
    what the client sends meanwhile waits, so that replies keep the order of requests.
    """

    transport: Any
    connection: Connection

    def __init__(
        self,
        listener: Listener,
        verbs: Verbs,
        otherwise: Command,
        max_line_length: int,
        max_reply_buffer: int,
        call_later: Callable[..., IDelayedCall],
        made: Callable[[CacheProtocol], None],
        lost: Callable[[CacheProtocol], None],
    ) -> None:
        self._listener = listener
        self._verbs = verbs
        self._otherwise = otherwise
        self._lines = wire.LineBuffer(max_line_length)
        self._max_reply_buffer = max_reply_buffer
        self._call_later = call_later
        self._made = made
        self._lost = lost
        self._monotonic = listener.connections.monotonic
        self._pending: Deferred[bytes] | None = None
        self._queued: list[bytes] = []
        # What to say once everything received is answered; None while the client may go on.
        self._farewell: bytes | None = None
        self._finished = False
        self._read_ended = False
        self._linger: IDelayedCall | None = None
        self._unread: int | None = None

    def connectionMade(self) -> None:
        self.connection = self._listener.opened(self.transport)
        self._replies = ReplyBuffer(self.transport, self._max_reply_buffer, self._overflow)
        self._made(self)

    def use_verbs(self, verbs: Verbs, otherwise: Command) -> None:
        """Understand these verbs from the next request on."""
        self._verbs = verbs
        self._otherwise = otherwise

    def use_limit(self, max_line_length: int) -> None:
        """Accept lines up to this length in bytes from now on."""
        self._lines.max_length = max_line_length

    def dataReceived(self, data: bytes) -> None:
        if self._farewell is not None:
            return
        connection = self.connection
        connection.bytes_in += len(data)
        connection.last_active = self._monotonic()
        try:
            lines = self._lines.feed(data)
        except LineTooLong as error:
            self._take(error.lines)
            self.end(_LINE_TOO_LONG)
            return
        self._take(lines)
        if self._unread is not None:
            self._unread -= len(data)
            if self._unread <= 0:
                self.end()

    def end(self, farewell: bytes = b"") -> None:
        """Read no more requests; answer those that came, say ``farewell``, and close."""
        if self._farewell is None:
            self._farewell = farewell
            self._lines.clear()
            if self._pending is None:
                self._finish()

    def end_idle(self) -> None:
        """End, or cut off if it has ended and its last replies are still not taken."""
        if self._finished:
            self.connection.abort()
        else:
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

    def readConnectionLost(self) -> None:
        self._read_ended = True
        if self._finished:
            self.transport.loseConnection()
        else:
            self.end()

    def writeConnectionLost(self) -> None:
        # The last reply is on its way, and the peer told that no more come.
        self._linger = self._call_later(LINGER_SECONDS, self.connection.abort)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        if self._farewell is None:
            self._farewell = b""
        self._finished = True
        self._queued.clear()
        if self._pending is not None:
            self._pending.cancel()
        self._listener.closed(self.connection)
        self._lost(self)

    def _take(self, lines: list[bytes]) -> None:
        if self._pending is None:
            self._execute(lines)
        else:
            self._queued += lines

    def _execute(self, lines: list[bytes]) -> None:
        replies: list[bytes] = []
        fields = [b""]
        commands = 0
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            commands += 1
            fields = line.split(b"\t", 4)
            verb = fields[0]
            verbs = self._verbs  # which a command before may have changed
            command = verbs.get(verb) or verbs.get(verb.upper(), self._otherwise)
            try:
                reply = command(self, fields)
            except CommandError as error:
                reply = wire.error(error.code)
            except Disconnect as disconnect:
                self._count(commands, fields)
                self._send(replies)
                self.end(disconnect.reply)
                return
            except Exception:
                log.failure(
                    "{listener}: {verb} from {peer} failed",
                    listener=self._listener.name,
                    verb=verb,
                    peer=self.connection.peer,
                )
                reply = _INTERNAL_ERROR
            if isinstance(reply, bytes):
                replies.append(reply)
            else:
                self._count(commands, fields)
                self._send(replies)
                self._wait(reply, lines[number:])
                return
        self._count(commands, fields)
        self._send(replies)

    def _count(self, commands: int, fields: list[bytes]) -> None:
        if commands:
            connection = self.connection
            connection.commands += commands
            verb = fields[0].upper()
            # What is not a verb may be anything, a password too, and is shown to others.
            connection.last_verb = verb if verb in self._verbs else b"unknown"

    def _send(self, replies: list[bytes]) -> None:
        if replies:
            data = b"".join(replies)
            self.connection.bytes_out += len(data)
            self._replies.write(data)

    def _wait(self, reply: Deferred[bytes], rest: list[bytes]) -> None:
        """Answer ``rest``, and whatever comes meanwhile, after ``reply`` has come."""
        self._pending = reply
        self._queued = rest
        self.transport.pauseProducing()
        reply.addErrback(self._failed)
        reply.addCallback(self._go_on)

    def _failed(self, failure: Failure) -> bytes:
        if isinstance(failure.value, CommandError):
            return wire.error(failure.value.code)
        if not self._finished:
            log.failure("a command from {peer} failed", failure, peer=self.connection.peer)
        return _INTERNAL_ERROR

    def _go_on(self, reply: bytes) -> None:
        self._pending = None
        if self._finished:
            return
        self._send([reply])
        queued, self._queued = self._queued, []
        self._execute(queued)
        if self._pending is None:
            self.transport.resumeProducing()
            if self._farewell is not None:
                self._finish()

    def _finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        if self._farewell:
            self._send([self._farewell])
        self._replies.finish()
        idle = self._monotonic() - self.connection.last_active > LINGER_SECONDS
        if self._read_ended or idle or ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def _overflow(self) -> None:
        log.warn(
            "{listener}: dropped {peer}: more than {limit} bytes of replies not read",
            listener=self._listener.name,
            peer=self.connection.peer,
            limit=self._max_reply_buffer,
        )
        self.connection.abort()


Command: TypeAlias = Callable[[CacheProtocol, list[bytes]], "bytes | Deferred[bytes]"]
Verbs: TypeAlias = Mapping[bytes, Command]


def _bytes_to_read(descriptor: int) -> int:
    """Return how many bytes the kernel holds that were not read yet."""
    counted = fcntl.ioctl(descriptor, termios.FIONREAD, struct.pack("i", 0))
    count: int = struct.unpack("i", counted)[0]
    return count
