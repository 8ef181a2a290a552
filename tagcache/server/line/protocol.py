"""The line protocol on a connection: bytes in, commands, bytes out, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.errors import CommandError, LineTooLong
from tagcache.model.interfaces import ICache, IEngine
from tagcache.server.auth.rates import Rates
from tagcache.server.commands.table import Disconnect, Function, Reply, Verbs
from tagcache.server.net.inbox import OBJECT_BYTES
from tagcache.server.net.listener import Refusal
from tagcache.server.net.serving import AWAITING, READY, ServedProtocol
from tagcache.server.observe.traffic import MIXED, UNKNOWN, Traffic
from tagcache.server.upkeep.slices import SLICE_SECONDS
from tagcache.wire import line as wire

if TYPE_CHECKING:
    from tagcache.server.line.factory import CacheFactory

T = TypeVar("T")

_LINE_TOO_LONG = wire.error("line_too_long")
_RATE_LIMITED = wire.error("rate_limited")
_INTERNAL_ERROR = wire.error("internal_error")
_OUT_OF_MEMORY = wire.error("out_of_memory")
# Replies of a chunk leave in one write, up to this many bytes.
MOST_AT_ONCE = 256 * 1024
# No verb is longer.
_MOST_VERB = 32
# Values may be large, so few are looked up before it is known whether the client takes them.
_GETS_AT_ONCE = 16
# So many bytes are cut into lines at once.
_PIECE = 64 * 1024
# What a client may send that is not admitted yet, in bytes.
_MOST_BEFORE_AUTH = 64 * 1024
# How much of an unfinished first line shows a method of HTTP.
_METHOD_BYTES = 8

log = Logger(namespace="tagcache.protocol")


class CacheProtocol(ServedProtocol):
    """One client of the line protocol.

    A command returns its reply or, where it takes time, a Deferred of it; what the client
    sends meanwhile waits, so that replies keep the order of requests.
    """

    factory: CacheFactory

    def __init__(
        self,
        factory: CacheFactory,
        verbs: Verbs,
        max_line_length: int,
        rates: Rates,
        traffic: Traffic,
    ) -> None:
        super().__init__(factory)
        self.session = factory.engine.open_session()
        # Where plain GETs are answered from at once.
        self._store: ICache | None = None
        self._traffic = traffic
        self._counts = traffic.verbs
        self.use_verbs(verbs)
        self._lines = wire.LineBuffer(max_line_length)
        # Lines that are complete and wait, and about how long they are in bytes; what follows them
        # is in the inbox.
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._rates = rates
        self._pending: Deferred[bytes] | None = None
        # The command that a reply is awaited of, and since when.
        self._awaited = (b"", 0.0)
        # What to say once everything received is answered; None while the client may go on.
        self._closing_reply: bytes | None = None
        # The longest chunk that may be taken the short way; 0 while something is unusual, as the
        # first request is.
        self._short_up_to = 0

    @property
    def engine(self) -> IEngine:
        """Where the entries are."""
        return self.factory.engine

    def run_work(self, work: Generator[None, None, T]) -> T | Deferred[T]:
        """Run work over many entries or connections in slices."""
        return self.factory.slices.finish(work)

    def invalidated(self, verb: bytes, names: Sequence[bytes], count: int) -> None:
        """Note that a command removed ``count`` entries by these keys or tags."""
        self.factory.events.invalidated(self.connection.peer, verb.decode(), names, count)

    def left_out(self, count: int) -> None:
        """Log that a list left out ``count`` keys that a line cannot hold."""
        self.factory.log_left_out(self.connection.peer, count)

    def admit(self) -> None:
        """Let a client that has authenticated say everything from the next request on."""
        self.connection.logged_in = True
        self.use_verbs(self.factory.table.everything)

    def use_verbs(self, verbs: Verbs) -> None:
        """Understand these verbs from the next request on."""
        self._understood = verbs
        self._verbs = verbs.commands
        self._store = self.engine.store if verbs.admitted else None

    def use_limit(self, max_line_length: int) -> None:
        """Accept lines up to this length in bytes from now on."""
        self._lines.max_length = max_line_length
        self._look_around()

    def held_bytes(self) -> int:
        lines = len(self._waiting)
        waiting = self._waiting_bytes + lines * OBJECT_BYTES if lines else 0
        return super().held_bytes() + len(self._lines.partial) + waiting

    def most_waiting(self) -> int:
        return super().most_waiting() if self._understood.admitted else _MOST_BEFORE_AUTH

    def blocked(self) -> None:
        self._short_up_to = 0

    def _look_around(self) -> None:
        """Find out whether the next chunk can be taken the short way."""
        ordinary = (
            self._closing_reply is None
            and self.flow is READY
            and not self._lines.partial
            and not self._rates.limited
            and self.connection.commands > 0
        )
        self._short_up_to = self._lines.max_length if ordinary else 0

    def dataReceived(self, data: bytes) -> None:
        connection = self.connection
        try:
            self.now = now = self._monotonic()
            connection.bytes_in += len(data)
            connection.last_active = now
            if len(data) > self._short_up_to:
                self._take_any(data)
            elif (
                data[:4] == b"GET\t"
                and self._store is not None
                and (keys := wire.only_gets(data)) is not None
            ):
                connection.last_verb = b"GET"
                if len(keys) == 1:
                    connection.commands += 1
                    self._counts[b"GET"] += 1
                    try:
                        value = self._store.get(keys[0], now)
                        reply = wire.NOT_FOUND if value is None else wire.value(value)
                    except Exception as error:
                        reply = self._error(error, b"GET")
                    self.send(reply)
                    took = self._monotonic() - now
                    if took >= self._traffic.above:
                        self._note_line(data[:-1], took)
                else:
                    self._get_many(self._store, keys)
            elif wire.is_one_line(data):
                self._execute_one(data[:-1])
            else:
                self._take_any(data)
            if self._unread is not None:
                self.count_drained(len(data))
        except Exception as error:
            self.fail(error)

    def run(self) -> None:
        while self.flow is READY and not self.finished:
            if self._waiting:
                self._execute(self._waiting)
            elif self.inbox:
                self._open(self.inbox.take(_PIECE))
            elif self._is_busy():
                break
            elif self._closing_reply is not None:
                self.finish(self._closing_reply)
            elif not self._understood.admitted and len(self._lines.partial) > _MOST_BEFORE_AUTH:
                self.end(_LINE_TOO_LONG)
            else:
                break
        self._conclude_run()

    def _conclude_run(self) -> None:
        self._look_around()
        self.settle()

    def end(self, closing_reply: bytes = b"") -> None:
        """Read no more requests; answer those that came, say ``closing_reply``, and close."""
        if self._closing_reply is None:
            self._closing_reply = closing_reply
            self._look_around()
            if not self._is_busy() and not self._waiting and not self.inbox:
                self.finish(closing_reply)

    def _is_busy(self) -> bool:
        """Say whether there are replies to come to what was executed."""
        return self.flow is not READY

    def end_idle(self) -> None:
        if self._closing_reply is None:
            super().end_idle()
        else:
            # It was told to end before, and did not take what it is to have first.
            self.connection.abort()

    def gone(self) -> None:
        if self._closing_reply is None:
            self._closing_reply = b""
            self._look_around()
        self._waiting.clear()
        self.inbox.clear()
        if self._pending is not None:
            self._pending.cancel()

    def _take_any(self, data: bytes) -> None:
        if self._closing_reply is not None:
            return
        self.put_aside(data)
        if self.flow is READY:
            self.run()
        else:
            self.note_held()

    def _open(self, data: bytes) -> None:
        """Have the lines that a chunk completes wait for being executed."""
        self._waiting_bytes = len(data)
        try:
            self._waiting.extend(self._lines.feed(data))
        except LineTooLong as error:
            self._waiting.extend(error.lines)
            self.inbox.clear()
            self.end(_LINE_TOO_LONG)
        if not self.connection.commands:
            self._refuse_other_protocol()

    def _refuse_other_protocol(self) -> None:
        """Close, without executing anything, if the first request is one of HTTP, or of TLS.

        A page in a browser can send any lines to this port, but none before a request line, or
        before the start of a TLS handshake, which may carry bytes that the page has chosen.
        """
        for line in self._waiting:
            if line:
                break
        else:
            line = bytes(self._lines.partial[:_METHOD_BYTES])
        refusal = Refusal.HTTP if wire.is_http(line) else Refusal.TLS
        if refusal is Refusal.HTTP or line.startswith(wire.TLS_HANDSHAKE):
            self.factory.listener.refused(self.connection.peer, refusal)
            self._waiting.clear()
            self._lines.clear()
            self.inbox.clear()
            self._closing_reply = b""

    def _get_many(self, cache: ICache, keys: list[bytes]) -> None:
        """Answer GETs of these keys; those for which the turn is too short wait as lines."""
        end = self.now + SLICE_SECONDS
        replies: list[bytes] = []
        size = done = 0
        while done < len(keys):
            some = keys[done : done + _GETS_AT_ONCE]
            done += len(some)
            try:
                replies.append(wire.values(cache.get_many(some, self.now)))
            except Exception as error:
                replies.append(self._error(error, b"GET") * len(some))
            size += len(replies[-1])
            if size > MOST_AT_ONCE:
                self._send(replies)
                replies.clear()
                size = 0
            if self.flow is not READY or self._monotonic() >= end:
                break
        if done < len(keys):
            self._waiting.extend(b"GET\t" + key for key in keys[done:])
            self._waiting_bytes = sum(map(len, self._waiting))
            if self.flow is READY:
                self.end_turn()
        self._counts[b"GET"] += done
        self.connection.commands += done
        self._send(replies)
        took = self._monotonic() - self.now
        if took >= self._traffic.above:
            self._traffic.took(took, "get", done, None, self.connection.peer)
        if self.flow is not READY:
            self._look_around()
            self.settle()

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
            self._waiting.append(line)
            self.run()
            return
        if not isinstance(reply, bytes):
            settled = self._wait_for(reply, line)
            if settled is None:
                self._look_around()
                return
            reply = settled
        self.send(reply)
        took = self._monotonic() - self.now
        if took >= self._traffic.above:
            self._note_line(line, took)

    def _execute(self, lines: deque[bytes]) -> None:
        """Execute and take away lines, as far as a turn goes."""
        end = self.now + SLICE_SECONDS
        counts = self._counts
        replies: list[bytes] = []
        size = commands = 0
        # The verb of all commands so far, empty where they have several.
        verb = common = b""
        while lines:
            line = lines.popleft()
            if not line:
                continue
            commands += 1
            try:
                fields = line.split(b"\t", 4)
                verb = fields[0]
                # A command before may have changed what is understood.
                command = self._verbs.get(verb)
                if command is None:
                    command, verb = self._look_again(verb)
                if self._rates.limited and self._rates.take(self.connection.host):
                    self._traffic.errors["rate_limited"] += 1
                    command = _refuse
                else:
                    counts[verb] += 1
                common = verb if commands == 1 or verb == common else b""
                reply = command(self, fields)
            except Disconnect as disconnect:
                self._conclude(commands, common, line, replies)
                self._disconnect(disconnect)
                return
            except Exception as error:
                reply = self._error(error, verb)
            if not isinstance(reply, bytes):
                settled = self._wait_for(reply, line)
                if settled is None:
                    break
                reply = settled
            size += len(reply)
            replies.append(reply)
            if size > MOST_AT_ONCE:
                # Small requests can have large replies, and a client may not read them.
                self._send(replies)
                replies.clear()
                size = 0
            if self.flow is not READY:
                break
            if lines and self._monotonic() >= end:
                self.end_turn()
                break
        self._conclude(commands, common, line, replies)

    def _conclude(
        self, commands: int, common: bytes, last: bytes, replies: Sequence[bytes]
    ) -> None:
        """Send the replies; count and time the commands that were executed in one go."""
        connection = self.connection
        connection.commands += commands
        # What is not a verb may be anything, a password too, and is shown to others.
        connection.last_verb = self._look_again(last.partition(b"\t")[0])[1]
        self._send(replies)
        self._time(commands, common, last)

    def _time(self, commands: int, common: bytes, last: bytes) -> None:
        took = self._monotonic() - self.now
        if took < self._traffic.above or self._pending is not None:
            return
        if commands == 1:
            self._note_line(last, took)
        elif commands:
            name = common.decode().lower() or MIXED
            self._traffic.took(took, name, commands, None, self.connection.peer)

    def _error(self, error: Exception, verb: bytes) -> bytes:
        """Return the reply for a command that raised ``error``, which is being handled."""
        if isinstance(error, CommandError):
            self._traffic.errors[error.code] += 1
            return wire.error(error.code)
        if isinstance(error, MemoryError):
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
        self._closing_reply = disconnect.reply
        self._waiting.clear()
        self.inbox.clear()
        self._look_around()
        self.finish(disconnect.reply)

    def _send(self, replies: Sequence[bytes]) -> None:
        if replies:
            self.send(b"".join(replies))

    def _wait_for(self, reply: Deferred[bytes], line: bytes) -> bytes | None:
        """Return a reply to ``line`` that is there already; else None, and go on when it comes."""
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
        self._pending = reply
        self._awaited = (line, self.now)
        self.flow = AWAITING
        self.stop_reading()
        return None

    def _look_again(self, verb: bytes) -> tuple[Function, bytes]:
        """Return the command for a verb in mixed case, or none at all, and what to count it as."""
        upper = verb.upper()
        command = self._verbs.get(upper)
        return (self._understood.otherwise, b"unknown") if command is None else (command, upper)

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
            self._traffic.errors["out_of_memory"] += 1
            return _OUT_OF_MEMORY
        if not self.finished:
            self._traffic.errors["internal_error"] += 1
            log.failure("a command from {peer} failed", failure, peer=self.connection.peer)
        return _INTERNAL_ERROR

    def _go_on(self, reply: bytes) -> None:
        self._pending = None
        if self.finished:
            return
        try:
            self.now = now = self._monotonic()
            self.ready()
            self.send(reply)
            line, since = self._awaited
            if now - since >= self._traffic.above:
                self._note_line(line, now - since)
            self.run()
        except Exception as error:
            self.fail(error)


def _refuse(client: CacheProtocol, fields: list[bytes]) -> bytes:
    return _RATE_LIMITED
