"""The line protocol on a connection: bytes in, commands, bytes out, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache import wire
from tagcache.errors import CommandError, LineTooLong
from tagcache.server.rates import Rates
from tagcache.server.serving import ServedProtocol, ServingFactory

_LINE_TOO_LONG = wire.error("line_too_long")
_RATE_LIMITED = wire.error("rate_limited")
_INTERNAL_ERROR = wire.error("internal_error")
# Replies of a chunk leave in one write, up to this many bytes.
_MOST_AT_ONCE = 256 * 1024

log = Logger(namespace="tagcache.protocol")


class Disconnect(Exception):
    """Raised by a command after which the connection is closed; carries its reply."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


class CacheProtocol(ServedProtocol):
    """One client of the line protocol.

    ``verbs`` maps each verb, in upper and in lower case, to its command; ``otherwise`` answers
    to every other verb. A command returns its reply or, where it takes time, a Deferred of it;
    what the client sends meanwhile waits, so that replies keep the order of requests.
    """

    def __init__(
        self,
        factory: ServingFactory,
        verbs: Verbs,
        otherwise: Command,
        max_line_length: int,
        rates: Rates,
    ) -> None:
        super().__init__(factory)
        self._verbs = verbs
        self._otherwise = otherwise
        self._lines = wire.LineBuffer(max_line_length)
        self._rates = rates
        self._pending: Deferred[bytes] | None = None
        self._queued: list[bytes] = []
        # What to say once everything received is answered; None while the client may go on.
        self._farewell: bytes | None = None

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
        self.received(len(data))
        try:
            lines = self._lines.feed(data)
        except LineTooLong as error:
            self._take(error.lines)
            self.end(_LINE_TOO_LONG)
            return
        self._take(lines)
        self.count_drained(len(data))

    def end(self, farewell: bytes = b"") -> None:
        """Read no more requests; answer those that came, say ``farewell``, and close."""
        if self._farewell is None:
            self._farewell = farewell
            self._lines.clear()
            if self._pending is None:
                self.finish(farewell)

    def gone(self) -> None:
        if self._farewell is None:
            self._farewell = b""
        self._queued.clear()
        if self._pending is not None:
            self._pending.cancel()

    def _take(self, lines: list[bytes]) -> None:
        if self._pending is None:
            self._execute(lines)
        else:
            self._queued += lines

    def _execute(self, lines: list[bytes]) -> None:
        replies: list[bytes] = []
        size = 0
        fields = [b""]
        commands = 0
        limited = self._rates.limited
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            commands += 1
            if limited and self._rates.take(self.connection.host):
                replies.append(_RATE_LIMITED)
                continue
            fields = line.split(b"\t", 4)
            verb = fields[0]
            verbs = self._verbs  # which a command before may have changed
            try:
                command = verbs.get(verb) or verbs.get(verb.upper(), self._otherwise)
                reply = command(self, fields)
            except CommandError as error:
                reply = wire.error(error.code)
            except Disconnect as disconnect:
                self._count(commands, fields)
                self._send(replies)
                # What came after it, even a line too long, does not count any more.
                self._farewell = disconnect.reply
                self.finish(disconnect.reply)
                return
            except Exception:
                log.failure(
                    "{listener}: {verb} from {peer} failed",
                    listener=self.connection.listener,
                    verb=verb,
                    peer=self.connection.peer,
                )
                reply = _INTERNAL_ERROR
            if not isinstance(reply, bytes):
                awaited = reply
                settled = self._settled(awaited)
                if settled is None:
                    self._count(commands, fields)
                    self._send(replies)
                    self._pending = awaited
                    self._queued = lines[number:]
                    self.transport.pauseProducing()
                    return
                reply = settled
            replies.append(reply)
            size += len(reply)
            if size > _MOST_AT_ONCE:
                # Small requests can have large replies, and a client may not read them.
                self._send(replies)
                replies.clear()
                size = 0
                if self.dropped:
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
            self.send(b"".join(replies))

    def _settled(self, reply: Deferred[bytes]) -> bytes | None:
        """Return a reply that is there already; else None, and go on when it comes."""
        settled: list[bytes] = []

        def arrived(result: bytes) -> None:
            if self._pending is None:
                settled.append(result)
            else:
                self._go_on(result)

        reply.addErrback(self._failed)
        reply.addCallback(arrived)
        return settled[0] if settled else None

    def _failed(self, failure: Failure) -> bytes:
        if isinstance(failure.value, CommandError):
            return wire.error(failure.value.code)
        if not self.finished:
            log.failure("a command from {peer} failed", failure, peer=self.connection.peer)
        return _INTERNAL_ERROR

    def _go_on(self, reply: bytes) -> None:
        self._pending = None
        if self.finished:
            return
        self._send([reply])
        queued, self._queued = self._queued, []
        self._execute(queued)
        if self._pending is None:
            self.transport.resumeProducing()
            if self._farewell is not None:
                self.finish(self._farewell)


Reply: TypeAlias = "bytes | Deferred[bytes]"
Command: TypeAlias = Callable[[CacheProtocol, list[bytes]], Reply]
Verbs: TypeAlias = Mapping[bytes, Command]
