"""The line protocol on a connection: bytes in, commands, bytes out, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache import wire
from tagcache.errors import CommandError, LineTooLong
from tagcache.interfaces import ICache
from tagcache.server.rates import Rates
from tagcache.server.serving import ServedProtocol, ServingFactory
from tagcache.server.traffic import MIXED, UNKNOWN, Traffic

_LINE_TOO_LONG = wire.error("line_too_long")
_RATE_LIMITED = wire.error("rate_limited")
_INTERNAL_ERROR = wire.error("internal_error")
_OUT_OF_MEMORY = wire.error("out_of_memory")
# Replies of a chunk leave in one write, up to this many bytes.
MOST_AT_ONCE = 256 * 1024
# No verb is longer.
_MOST_VERB = 32
_GETS_AT_ONCE = 256

log = Logger(namespace="tagcache.protocol")


class Disconnect(Exception):
    """Raised by a command after which the connection is closed; carries its reply."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


class CacheProtocol(ServedProtocol):
    """One client of the line protocol.

    A command returns its reply or, where it takes time, a Deferred of it; what the client
    sends meanwhile waits, so that replies keep the order of requests. ``now`` is when the
    lines came that are being answered, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        factory: ServingFactory,
        verbs: Verbs,
        max_line_length: int,
        rates: Rates,
        traffic: Traffic,
    ) -> None:
        super().__init__(factory)
        self.now = 0.0
        self._traffic = traffic
        self._counts = traffic.verbs
        self.use_verbs(verbs)
        self._lines = wire.LineBuffer(max_line_length)
        self._rates = rates
        self._pending: Deferred[bytes] | None = None
        self._queued: list[bytes] = []
        # The command that a reply is awaited of, and since when.
        self._awaited = b""
        self._awaited_since = 0.0
        # What to say once everything received is answered; None while the client may go on.
        self._farewell: bytes | None = None
        # The longest chunk that may be taken the short way; 0 while something is unusual.
        self._short_up_to = 0
        self._look_around()

    def use_verbs(self, verbs: Verbs) -> None:
        """Understand these verbs from the next request on."""
        self._verbs = verbs.commands
        self._otherwise = verbs.otherwise
        self._gets_from = verbs.gets_from

    def use_limit(self, max_line_length: int) -> None:
        """Accept lines up to this length in bytes from now on."""
        self._lines.max_length = max_line_length
        self._look_around()

    def _look_around(self) -> None:
        """Find out whether the next chunk can be taken the short way."""
        ordinary = (
            self._farewell is None
            and self._pending is None
            and not self._lines.partial
            and not self._rates.limited
        )
        self._short_up_to = self._lines.max_length if ordinary else 0

    def dataReceived(self, data: bytes) -> None:
        connection = self.connection
        now = self.now
        try:
            self.now = now = self._monotonic()
            connection.bytes_in += len(data)
            connection.last_active = now
        except MemoryError:
            # Only what is counted is wrong.
            self.short_of_memory()
        try:
            if len(data) > self._short_up_to:
                self._take_any(data)
            elif (
                data[:4] == b"GET\t"
                and self._gets_from is not None
                and (keys := wire.only_gets(data)) is not None
            ):
                count = len(keys)
                connection.commands += count
                self._counts[b"GET"] += count
                connection.last_verb = b"GET"
                if count == 1:
                    try:
                        value = self._gets_from.get(keys[0], now)
                        reply = wire.NOT_FOUND if value is None else wire.value(value)
                    except Exception as error:
                        reply = self._error(error, b"GET")
                    self.send(reply)
                else:
                    self._get_many(self._gets_from, keys)
            elif wire.is_one_line(data):
                self._execute_one(data[:-1])
            else:
                self._take_any(data)
        except MemoryError:
            # Nobody knows how far it got.
            self.short_of_memory()
            connection.abort()
            return
        if self._unread is not None:
            self.count_drained(len(data))
        took = self._monotonic() - now
        if took >= self._traffic.above:
            try:
                self._note(data, took)
            except MemoryError:
                # It was answered; only nobody is told how long it took.
                self.short_of_memory()

    def end(self, farewell: bytes = b"") -> None:
        """Read no more requests; answer those that came, say ``farewell``, and close."""
        if self._farewell is None:
            self._farewell = farewell
            self._lines.clear()
            self._look_around()
            if self._pending is None:
                self.finish(farewell)

    def gone(self) -> None:
        if self._farewell is None:
            self._farewell = b""
            self._look_around()
        self._queued.clear()
        if self._pending is not None:
            self._pending.cancel()

    def _take_any(self, data: bytes) -> None:
        if self._farewell is not None:
            return
        try:
            try:
                lines = self._lines.feed(data)
            except MemoryError:
                self.short_of_memory()
                lines = self._lines.feed(data)
        except LineTooLong as error:
            self._take(error.lines)
            self.end(_LINE_TOO_LONG)
        except MemoryError:
            # What came is lost, and with it where the next request begins.
            self.end(_OUT_OF_MEMORY)
        else:
            self._take(lines)
            self._look_around()

    def _take(self, lines: list[bytes]) -> None:
        if self._pending is None:
            self._execute(lines)
        else:
            self._queued += lines

    def _get_many(self, cache: ICache, keys: list[bytes]) -> None:
        """Answer to GETs of these keys."""
        for start in range(0, len(keys), _GETS_AT_ONCE):
            some = keys[start : start + _GETS_AT_ONCE]
            try:
                values = cache.get_many(some, self.now)
            except Exception as error:
                self.send(self._error(error, b"GET") * len(some))
                continue
            replies = wire.values(values, MOST_AT_ONCE)
            if replies is not None:
                self.send(replies)
            else:
                self._send_each(values)
            if self.dropped:
                return

    def _send_each(self, values: Sequence[bytes | None]) -> None:
        """Send in pieces: small requests can have large replies."""
        replies: list[bytes] = []
        size = 0
        for value in values:
            replies.append(wire.NOT_FOUND if value is None else wire.value(value))
            size += len(replies[-1])
            if size > MOST_AT_ONCE:
                self._send(replies)
                replies.clear()
                size = 0
                if self.dropped:
                    return
        self._send(replies)

    def _execute_one(self, line: bytes) -> None:
        """Do what ``_execute`` does for one line, faster where nothing is out of the ordinary."""
        verb = b""
        reply: Reply | None = None
        try:
            fields = line.split(b"\t", 4)
            verb = fields[0]
            command = self._verbs.get(verb)
            if command is not None:
                connection = self.connection
                connection.commands += 1
                connection.last_verb = verb
                self._counts[verb] += 1
                reply = command(self, fields)
        except Disconnect as disconnect:
            self._disconnect(disconnect)
            return
        except Exception as error:
            reply = self._error(error, verb)
        if reply is None:
            self._execute([line])
            return
        settled = reply if isinstance(reply, bytes) else self._wait_for(reply, line)
        if settled is not None:
            self.send(settled)

    def _execute(self, lines: list[bytes]) -> None:
        replies: list[bytes] = []
        size = 0
        fields = [b""]
        commands = 0
        # Runs of one command are counted at their end.
        current: Command | None = None
        counted, since = b"unknown", 0
        limited = self._rates.limited
        rest = iter(lines)
        for line in rest:
            if not line:
                continue
            if limited and self._rates.take(self.connection.host):
                self._count_run(counted, commands - since)
                commands += 1
                since = commands
                replies.append(_RATE_LIMITED)
                self._traffic.errors["rate_limited"] += 1
                continue
            try:
                commands += 1
                fields = line.split(b"\t", 4)
                verb = fields[0]
                verbs = self._verbs  # which a command before may have changed
                command = verbs.get(verb)
                if command is None or command is not current:
                    self._count_run(counted, commands - 1 - since)
                    since = commands - 1
                    counted = verb
                    if command is None:
                        command, counted = self._look_again(verb)
                    current = command
                reply = command(self, fields)
            except Disconnect as disconnect:
                self._count(commands, fields)
                self._count_run(counted, commands - since)
                self._send(replies)
                self._disconnect(disconnect)
                return
            except Exception as error:
                reply = self._error(error, fields[0])
            if not isinstance(reply, bytes):
                settled = self._wait_for(reply, line, replies, rest)
                if settled is None:
                    self._count(commands, fields)
                    self._count_run(counted, commands - since)
                    return
                reply = settled
            try:
                size += len(reply)
                replies.append(reply)
            except MemoryError:
                self.short_of_memory()
                replies.append(reply)
            if size > MOST_AT_ONCE:
                # Small requests can have large replies, and a client may not read them.
                self._send(replies)
                replies.clear()
                size = 0
                if self.dropped:
                    return
        self._count(commands, fields)
        self._count_run(counted, commands - since)
        self._send(replies)

    def _error(self, error: Exception, verb: bytes) -> bytes:
        """Return the reply for a command that raised ``error``, which is being handled."""
        if isinstance(error, CommandError):
            self._traffic.errors[error.code] += 1
            return wire.error(error.code)
        if isinstance(error, MemoryError):
            self.short_of_memory()
            self._traffic.errors["out_of_memory"] += 1
            return _OUT_OF_MEMORY
        self._traffic.errors["internal_error"] += 1
        log.failure(
            "{listener}: {verb} from {peer} failed",
            listener=self.connection.listener,
            verb=verb,
            peer=self.connection.peer,
        )
        return _INTERNAL_ERROR

    def _disconnect(self, disconnect: Disconnect) -> None:
        # What came after it, even a line too long, does not count any more.
        self._farewell = disconnect.reply
        self._look_around()
        self.finish(disconnect.reply)

    def _count(self, commands: int, fields: list[bytes]) -> None:
        if commands:
            connection = self.connection
            connection.commands += commands
            verb = fields[0].upper()
            # What is not a verb may be anything, a password too, and is shown to others.
            connection.last_verb = verb if verb in self._verbs else b"unknown"

    def _count_run(self, verb: bytes, commands: int) -> None:
        if commands:
            self._counts[verb] += commands

    def _send(self, replies: Sequence[bytes]) -> None:
        if replies:
            try:
                data = b"".join(replies)
            except MemoryError:
                self.short_of_memory()
                data = b"".join(replies)
            self.send(data)

    def _wait_for(
        self,
        reply: Deferred[bytes],
        line: bytes,
        before: Sequence[bytes] = (),
        after: Iterable[bytes] = (),
    ) -> bytes | None:
        """Return a reply that is there already; else None, and go on when it comes.

        It is the reply to ``line``; ``before`` are the replies to be sent first, ``after`` the
        lines that wait for it.
        """
        settled: list[bytes] = []

        def arrived(result: bytes) -> None:
            if self._pending is None:
                settled.append(result)
            else:
                self._go_on(result)

        reply.addErrback(self._failed)
        reply.addCallback(arrived)
        if settled:
            return settled[0]
        self._send(before)
        self._pending = reply
        self._awaited, self._awaited_since = line, self.now
        self._look_around()
        self._queued = list(after)
        self.transport.pauseProducing()
        return None

    def _look_again(self, verb: bytes) -> tuple[Command, bytes]:
        """Return the command for a verb in mixed case, or none at all, and what to count it as."""
        upper = verb.upper()
        command = self._verbs.get(upper)
        return (self._otherwise, b"unknown") if command is None else (command, upper)

    def _note(self, data: bytes, took: float) -> None:
        """Tell how long it took to answer a chunk, if anything in it was answered."""
        if self._pending is not None or self.finished:
            return
        end = data.rfind(b"\n")
        if end < 0:
            return
        commands = data.count(b"\n")
        if commands == 1:
            self._note_line(data[:end], took)
            return
        first = data[:_MOST_VERB].partition(b"\t")[0].partition(b"\n")[0].upper()
        last = self.connection.last_verb.upper()
        name = last.decode("latin-1").lower() if first == last else MIXED
        self._traffic.took(took, name, commands, None, self.connection.peer)

    def _note_line(self, line: bytes, took: float) -> None:
        verb, _, rest = line.partition(b"\t")
        verb = verb.strip().upper()
        argument: bytes | None = rest.partition(b"\t")[0].rstrip(b"\r\n")
        if verb not in self._verbs:
            # The end of a long line, or what may be anything.
            last = self.connection.last_verb.upper()
            verb, argument = last if last in self._verbs else UNKNOWN.encode(), None
        if verb == b"AUTH" or not argument:
            argument = None
        name = verb.decode().lower()
        self._traffic.took(took, name, 1, argument, self.connection.peer)

    def _failed(self, failure: Failure) -> bytes:
        if isinstance(failure.value, CommandError):
            self._traffic.errors[failure.value.code] += 1
            return wire.error(failure.value.code)
        if isinstance(failure.value, MemoryError):
            self.short_of_memory()
            return _OUT_OF_MEMORY
        if not self.finished:
            self._traffic.errors["internal_error"] += 1
            log.failure("a command from {peer} failed", failure, peer=self.connection.peer)
        return _INTERNAL_ERROR

    def _go_on(self, reply: bytes) -> None:
        self._pending = None
        if self.finished:
            return
        self.now = now = self._monotonic()
        self._send([reply])
        if now - self._awaited_since >= self._traffic.above:
            self._note_line(self._awaited, now - self._awaited_since)
        queued, self._queued = self._queued, []
        self._execute(queued)
        if queued and self._monotonic() - now >= self._traffic.above:
            self._note(b"\n".join([*queued, b""]), self._monotonic() - now)
        self._look_around()
        if self._pending is None:
            self.transport.resumeProducing()
            if self._farewell is not None:
                self.finish(self._farewell)


Reply: TypeAlias = "bytes | Deferred[bytes]"
Command: TypeAlias = Callable[[CacheProtocol, list[bytes]], Reply]


class Verbs(NamedTuple):
    """What a client may say.

    Attributes:
        commands: each verb, in upper and in lower case, with its command.
        otherwise: what answers to every other verb.
        gets_from: the cache that plain GETs are answered from; None if they may not be.
    """

    commands: Mapping[bytes, Command]
    otherwise: Command
    gets_from: ICache | None
