"""The line protocol on a connection: bytes in, commands, bytes out, in order."""

from __future__ import annotations

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
from tagcache.server.net.listener import Rejection
from tagcache.server.net.reply_queue import MOST_AT_ONCE
from tagcache.server.net.serving import ServedProtocol
from tagcache.server.net.states import FINISHED, READY, SERVING
from tagcache.server.observe.traffic import UNKNOWN, Traffic
from tagcache.server.upkeep.slices import SLICE_SECONDS
from tagcache.wire import line as wire

if TYPE_CHECKING:
    from tagcache.server.line.factory import CacheFactory

T = TypeVar("T")

_LINE_TOO_LONG = wire.error("line_too_long")
_RATE_LIMITED = wire.error("rate_limited")
_OUT_OF_MEMORY = wire.error("out_of_memory")
# Values may be large, so few are looked up before the server checks whether the client reads.
_GETS_AT_ONCE = 16
# At most this many bytes are split into lines at once.
_PIECE = 64 * 1024
# How many bytes a client may send before it is admitted.
_MOST_BEFORE_AUTH = 64 * 1024
# How much of an incomplete first line is enough to recognise an HTTP method.
_METHOD_BYTES = 8

log = Logger(namespace="tagcache.protocol")


class CacheProtocol(ServedProtocol):
    """One client of the line protocol.

    A command returns its reply or, if it takes time, a Deferred of it. Later commands then wait,
    except that several commands that concern one key may be in progress together.
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
        super().__init__(factory, traffic, len)
        self.session = factory.engine.open_session()
        # The cache that answers plain GETs at once, if any.
        self._store: ICache | None = None
        self.use_verbs(verbs)
        self._lines = wire.LineBuffer(max_line_length)
        # The approximate length in bytes of the lines that wait.
        self._waiting_bytes = 0
        self._rates = rates
        # The longest chunk that a fast path may take; 0 in unusual states, which include the first
        # request.
        self._fast_up_to = 0

    @property
    def engine(self) -> IEngine:
        """The engine that keeps the entries."""
        return self.factory.engine

    def run_work(self, work: Generator[None, None, T]) -> T | Deferred[T]:
        """Run work over many entries or connections in slices."""
        return self.factory.slices.finish(work)

    def invalidated(self, verb: bytes, names: Sequence[bytes], count: int) -> None:
        """Record that a command removed ``count`` entries by these keys or tags."""
        self.factory.events.invalidated(self.connection.peer, verb.decode(), names, count)

    def left_out(self, count: int) -> None:
        """Log that a list left out ``count`` keys that a line cannot contain."""
        self.factory.log_left_out(self.connection.peer, count)

    def admit(self) -> None:
        """Allow all commands to an authenticated client from the next request on."""
        self.connection.logged_in = True
        self.use_verbs(self.factory.table.everything)

    def use_verbs(self, verbs: Verbs) -> None:
        """Accept these verbs from the next request on."""
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

    def _most_waiting(self) -> int:
        return super()._most_waiting() if self._understood.admitted else _MOST_BEFORE_AUTH

    def _not_ordinary(self) -> None:
        self._fast_up_to = 0

    def _look_around(self) -> None:
        """Find out whether a fast path may take the next chunk."""
        ordinary = (
            self.phase is SERVING
            and self.flow is READY
            and not self._queue.slots
            and not self._lines.partial
            and not self._rates.limited
            and self.connection.commands > 0
        )
        self._fast_up_to = self._lines.max_length if ordinary else 0

    # Receiving commands

    def dataReceived(self, data: bytes) -> None:
        connection = self.connection
        try:
            self.now = now = self._monotonic()
            connection.bytes_in += len(data)
            connection.last_active = now
            if len(data) > self._fast_up_to:
                self._take_any(data)
            elif (
                data[:4] == b"GET\t"
                and self._store is not None
                and (keys := wire.only_gets(data)) is not None
            ):
                connection.last_verb = b"GET"
                if len(keys) == 1:
                    meter = self._meter
                    connection.commands += 1
                    meter.verbs[b"GET"] += 1
                    try:
                        value = self._store.get(keys[0], now)
                        reply = wire.NOT_FOUND if value is None else wire.value(value)
                    except Exception as error:
                        reply = self._error(error)
                    self.send(reply)
                    took = self._monotonic() - now
                    if took >= meter.traffic.above:
                        self._note_line(data[:-1], took)
                else:
                    self._get_many(self._store, keys)
            elif wire.is_one_line(data):
                self._execute_one(data[:-1])
            else:
                self._take_any(data)
            if self._unread is not None:
                self._count_drained(len(data))
        except Exception as error:
            self.fail(error)

    def _take_any(self, data: bytes) -> None:
        if self.phase is not SERVING:
            return
        self._put_aside(data)
        if self.flow is READY:
            self.run()
        else:
            self._note_held()

    def run(self) -> None:
        if self._queue.slots:
            self._send_ready()
        while self.flow is READY and self.phase is not FINISHED:
            if self._waiting:
                self._execute()
            elif self.inbox:
                self._open(self.inbox.take(_PIECE))
            else:
                if not self._understood.admitted and len(self._lines.partial) > _MOST_BEFORE_AUTH:
                    self.end(_LINE_TOO_LONG)
                break
        self._look_around()
        self._settle()

    def _open(self, data: bytes) -> None:
        """Queue the lines that a chunk completes for execution."""
        self._waiting_bytes = len(data)
        try:
            self._waiting.extend(self._lines.feed(data))
        except LineTooLong as error:
            self._waiting.extend(error.lines)
            self._take_no_more(_LINE_TOO_LONG)
        if not self.connection.commands:
            self._refuse_other_protocol()

    def _refuse_other_protocol(self) -> None:
        """Close, without executing anything, if the first request is HTTP or TLS.

        A page in a browser can send any lines to this port, but only after an HTTP request line or
        the start of a TLS handshake, which may contain bytes that the page has chosen.
        """
        for line in self._waiting:
            if line:
                break
        else:
            line = bytes(self._lines.partial[:_METHOD_BYTES])
        refusal = Rejection.HTTP if wire.is_http(line) else Rejection.TLS
        if refusal is Rejection.HTTP or line.startswith(wire.TLS_HANDSHAKE):
            self.factory.listener.refused(self.connection.peer, refusal)
            self._waiting.clear()
            self._lines.clear()
            self._take_no_more()
            self._closing_reply = b""

    # Executing commands

    def _perform(self, line: bytes) -> Reply:
        """Execute one command; return its reply, or a Deferred of it. Raises Disconnect."""
        connection = self.connection
        connection.commands += 1
        try:
            fields = line.split(b"\t", 4)
            verb = fields[0]
            # An earlier command may have changed the accepted verbs.
            command = self._verbs.get(verb)
            if command is None:
                command, verb = self._look_again(verb)
            # ``last_verb`` is shown to others. An unknown verb may be anything, even a password.
            connection.last_verb = verb
            if self._rates.limited and self._rates.take(connection.host):
                self._meter.traffic.errors["rate_limited"] += 1
                return _RATE_LIMITED
            self._meter.verbs[verb] += 1
            return command(self, fields)
        except Disconnect:
            raise
        except Exception as error:
            return self._error(error)

    def _look_again(self, verb: bytes) -> tuple[Function, bytes]:
        """Return the command for a verb in mixed case, or an unknown one, and its name to count."""
        upper = verb.upper()
        command = self._verbs.get(upper)
        return (self._understood.otherwise, b"unknown") if command is None else (command, upper)

    def _concerns_one_key(self, line: bytes) -> bool:
        return line.partition(b"\t")[0].upper() in self._understood.one_key

    def _execute_one(self, line: bytes) -> None:
        """Do the same as ``_execute`` for one line, but faster in the usual case."""
        if not line:
            return
        try:
            reply = self._perform(line)
        except Disconnect as disconnect:
            self._disconnect(disconnect)
            return
        if not isinstance(reply, bytes):
            reply = self._wait_for(reply, line, self._concerns_one_key(line))
            if reply is None:
                self._look_around()
                return
        self.send(reply)
        took = self._monotonic() - self.now
        if took >= self._meter.traffic.above:
            self._note_line(line, took)

    def _execute(self) -> None:
        """Execute lines that wait, until the turn is over."""
        lines, queue = self._waiting, self._queue
        end = self.now + SLICE_SECONDS
        replies: list[bytes] = []
        size = commands = 0
        # The common verb of all commands so far; empty if they differ.
        common = line = b""
        while lines and self.flow is READY:
            line = lines.popleft()
            if not line:
                continue
            if queue.slots and not queue.admits(self._concerns_one_key(line)):
                # It continues when the requests in progress are answered.
                lines.appendleft(line)
                self._await_replies()
                break
            commands += 1
            try:
                reply = self._perform(line)
            except Disconnect as disconnect:
                self._conclude(commands, b"", line, replies)
                self._disconnect(disconnect)
                return
            verb = self.connection.last_verb
            common = verb if commands == 1 or verb == common else b""
            if not isinstance(reply, bytes):
                reply = self._wait_for(reply, line, self._concerns_one_key(line))
            if reply is not None and not queue.slots:
                replies.append(reply)
                size += len(reply)
            elif reply is not None:
                queue.put(line, reply)
            if size > MOST_AT_ONCE or (replies and queue.slots):
                # Small requests can have large replies, and a client may not read them.
                self._send(replies)
                replies.clear()
                size = 0
            if lines and self.flow is READY and self._monotonic() >= end:
                self._end_turn()
        self._conclude(commands, common, line, replies)

    def _conclude(
        self, commands: int, common: bytes, last: bytes, replies: Sequence[bytes]
    ) -> None:
        """Send the replies, and record how long the commands of this run took."""
        self._send(replies)
        took = self._monotonic() - self.now
        if took < self._meter.traffic.above or self._queue.slots:
            return
        if commands == 1:
            self._note_line(last, took)
        elif commands:
            self._meter.note_together(took, common.decode().lower(), commands)

    def _get_many(self, cache: ICache, keys: list[bytes]) -> None:
        """Answer GETs of these keys; those that do not fit into the turn wait as lines."""
        end = self.now + SLICE_SECONDS
        replies: list[bytes] = []
        size = done = 0
        while done < len(keys):
            some = keys[done : done + _GETS_AT_ONCE]
            done += len(some)
            try:
                replies.append(wire.values(cache.get_many(some, self.now)))
            except Exception as error:
                replies.append(self._error(error) * len(some))
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
                self._end_turn()
        self._meter.verbs[b"GET"] += done
        self.connection.commands += done
        self._send(replies)
        self._meter.note_together(self._monotonic() - self.now, "get", done)
        if self.flow is not READY:
            self._look_around()
            self._settle()

    def _disconnect(self, disconnect: Disconnect) -> None:
        # Data after it is ignored, even a line that is too long.
        self._waiting.clear()
        self._take_no_more()
        self.finish(disconnect.reply)

    # Replies

    def _send(self, replies: Sequence[bytes]) -> None:
        if replies:
            self.send(b"".join(replies))

    def _send_ready(self) -> None:
        """Send the replies whose turn it is, while the client reads them."""
        while not self._replies.paused and (slots := self._queue.take()):
            self._send([slot.reply for slot in slots])

    def _error(self, error: BaseException | None, failure: Failure | None = None) -> bytes:
        """Return the reply to the last command, which raised ``error``."""
        errors = self._meter.traffic.errors
        if isinstance(error, CommandError):
            errors[error.code] += 1
            return wire.error(error.code)
        if isinstance(error, MemoryError):
            errors["out_of_memory"] += 1
            return _OUT_OF_MEMORY
        if failure is None or self.phase is not FINISHED:
            errors["internal_error"] += 1
            log.failure(
                "{listener}: {verb} from {peer} failed",
                failure,
                listener=self.connection.listener,
                verb=self.connection.last_verb,
                peer=self.connection.peer,
            )
        return wire.error("internal_error")

    def _failed(self, failure: Failure) -> bytes:
        return self._error(failure.value, failure)

    def _note_awaited(self, line: bytes, took: float) -> None:
        if took >= self._meter.traffic.above:
            self._note_line(line, took)

    def _note_line(self, line: bytes, took: float) -> None:
        verb, _, rest = line.partition(b"\t")
        verb = verb.strip().upper()
        argument: bytes | None = rest.partition(b"\t")[0].rstrip(b"\r\n")
        if verb not in self._verbs:
            # The end of a long line, or an unknown verb, which may be anything.
            last = self.connection.last_verb.upper()
            verb, argument = last if last in self._verbs else UNKNOWN.encode(), None
        if verb == b"AUTH" or not argument:
            argument = None
        self._meter.note(took, verb.decode().lower(), argument)

    def _gone(self) -> None:
        """Nothing else has to be released."""
