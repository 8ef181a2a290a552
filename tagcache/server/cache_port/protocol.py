"""The connection of a cache port client: it executes requests, and replies in their order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tagcache.errors import RateLimited
from tagcache.model.fetched import Fetched
from tagcache.model.interfaces import ICache, IEngine
from tagcache.server.auth.rates import Rates
from tagcache.server.cache_port.failures import answer_to
from tagcache.server.cache_port.framing import PIECE, BrokenFraming, IFraming
from tagcache.server.commands.table import Disconnect, Reply
from tagcache.server.net.inbox import OBJECT_BYTES
from tagcache.server.net.pump_transport import PumpTransport
from tagcache.server.net.reply_queue import MOST_AT_ONCE
from tagcache.server.net.serving import ServedProtocol
from tagcache.server.net.states import FINISHED, READY, SERVING
from tagcache.server.observe.traffic import Traffic
from tagcache.server.upkeep.slices import SLICE_SECONDS

if TYPE_CHECKING:
    from tagcache.server.cache_port.factory import CacheFactory

T = TypeVar("T")

# The first byte of every RESP request, and of no request of the line protocol.
_ARRAY = b"*"
# Values may be large, so look up only a few before checking whether the client reads replies.
_GETS_AT_ONCE = 16
# How many bytes a client may send before it is admitted.
_MOST_BEFORE_AUTH = 64 * 1024

# Commands that wait on purpose, and so do not count as slow.
_WAITING = frozenset((b"FETCH", b"TAG.FETCH"))


class CacheProtocol(ServedProtocol):
    """One client of the cache port. Its first byte chooses the framing: see IFraming.

    A command returns its reply or, if it takes time, a Deferred of it. Later commands then wait,
    except that several commands that concern one key may be in progress together.
    """

    factory: CacheFactory

    def __init__(
        self, factory: CacheFactory, admitted: bool, rates: Rates, traffic: Traffic
    ) -> None:
        super().__init__(factory, traffic, len)
        self.admitted = admitted
        # The native table that answers plain requests; None if the transport cannot use it.
        self._plain: Any = None
        self._use_database(factory.databases[0])
        self._rates = rates
        # The approximate length in bytes of the requests that wait.
        self._waiting_bytes = 0
        # The longest chunk that a fast path may take; 0 in unusual states, which include the first
        # request.
        self._fast_up_to = 0
        # A client that has sent nothing yet gets a closing reply of the line protocol.
        self.framing: IFraming = factory.line_framing(self)
        self._begun = False

    def connectionMade(self) -> None:
        super().connectionMade()
        if isinstance(self.transport, PumpTransport):
            self._meter.follow(self.transport)
            self._use_store()

    def run_work(self, work: Generator[None, None, T]) -> T | Deferred[T]:
        """Run work over many entries or connections in slices."""
        return self.factory.slices.finish(work)

    def invalidated(self, verb: bytes, names: Sequence[bytes], count: int) -> None:
        """Record that a command removed ``count`` entries by these keys or tags."""
        connection = self.connection
        self.factory.events.invalidated(
            connection.peer, verb.decode(), names, count, connection.database
        )

    def fetch(self, key: bytes, lease_ms: int, wait_ms: int) -> Fetched | Deferred[Fetched]:
        """Look up a key, or take its lease; wait while another client has it."""
        waits = self.factory.waits
        return waits.fetch(self.engine, self.session, self, key, lease_ms, wait_ms)

    def left_out(self, count: int) -> None:
        """Log that a list left out ``count`` keys that a line cannot contain."""
        self.factory.log_left_out(self.connection.peer, count)

    def admit(self) -> None:
        """Allow all commands to an authenticated client from the next request on."""
        self.connection.logged_in = True
        self._use_admission(True)

    def revoke(self) -> None:
        """Admit the client only as far as a new one."""
        self.connection.logged_in = False
        self._use_admission(not self.factory.requires_login)

    def select(self, database: int) -> None:
        """Use another database from the next request on. Raises InvalidDatabase."""
        self._use_database(self.factory.databases[database])
        self.connection.database = database

    def _use_database(self, engine: IEngine) -> None:
        self.engine = engine
        self.session = engine.open_session()
        self._use_store()

    def _use_store(self) -> None:
        # The cache that answers plain look-ups at once, if there is one.
        store = self.engine.store if self.admitted else None
        self.store: ICache | None = store
        self._plain = None
        if isinstance(self.transport, PumpTransport):
            # The transport answers nothing until ``_offer_plain`` offers the new table.
            self.transport.answer_nothing()
            self._plain = None if store is None else store.plain

    def _use_admission(self, admitted: bool) -> None:
        self.admitted = admitted
        self._use_store()
        self.framing.admission_changed()

    def use_limit(self, max_length: int) -> None:
        """Accept requests up to this length in bytes from now on."""
        self.framing.max_length = max_length
        self._look_around()

    def held_bytes(self) -> int:
        requests = len(self._waiting)
        waiting = self._waiting_bytes + requests * OBJECT_BYTES if requests else 0
        return super().held_bytes() + self.framing.held_bytes + waiting

    def _most_waiting(self) -> int:
        return super()._most_waiting() if self.admitted else _MOST_BEFORE_AUTH

    def _not_ordinary(self) -> None:
        self._fast_up_to = 0
        if self._plain is not None:
            self.transport.answer_nothing()

    def _look_around(self) -> None:
        """Decide whether a fast path may take the next chunk."""
        ordinary = (
            self.phase is SERVING
            and self.flow is READY
            and not self._queue.slots
            and not self.framing.partial_bytes
            and not self._rates.limited
            and self.connection.commands > 0
        )
        self._fast_up_to = self.framing.max_length if ordinary else 0
        if self._plain is not None:
            self._offer_plain()

    def _offer_plain(self) -> None:
        """Let the transport answer plain requests from now on, if the state is ordinary."""
        answers = self.framing.native
        if self._fast_up_to and answers is not None and self._unread is None:
            self.transport.answer(self._plain, answers)
        else:
            self.transport.answer_nothing()

    # Receiving commands

    def dataReceived(self, data: bytes) -> None:
        connection = self.connection
        try:
            self.now = self._monotonic()
            connection.bytes_in += len(data)
            connection.last_active = self.now
            if len(data) > self._fast_up_to or not self.framing.take_fast(data):
                self._take_any(data)
            if self._unread is not None:
                self._count_drained(len(data))
            if self._plain is not None and self.transport.answers is not self.framing.native:
                self._offer_plain()
        except Exception as error:
            self.fail(error)

    def take_requests(
        self, requests: Sequence[Any], size: int, broken: BrokenFraming | None = None
    ) -> None:
        """Execute requests of ``size`` bytes together, in turns if they take long.

        ``broken`` says that the framing lost the boundaries of requests after these, so the
        connection ends.
        """
        if broken is not None:
            self._take_no_more(broken.reply)
        self._waiting.extend(requests)
        self._waiting_bytes = size
        self.run()

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
        end = self.now + SLICE_SECONDS
        has_read = False
        while self.flow is READY and self.phase is not FINISHED:
            if self._waiting:
                self._execute()
            elif (
                has_read
                and self.phase is SERVING
                and (self.inbox or self.framing.partial_bytes)
                and self._monotonic() >= end
            ):
                # Parsing takes time, too, and uvloop keeps reading while more data arrives.
                self._end_turn()
            elif self.inbox:
                has_read = True
                self._open(self.inbox.take(PIECE))
            else:
                if not self.admitted and self.framing.partial_bytes > _MOST_BEFORE_AUTH:
                    self.end(self.framing.too_long)
                break
        self._look_around()
        self._settle()

    def _open(self, data: bytes) -> None:
        """Queue the requests that a chunk completes for execution."""
        if not self._begun:
            self._begun = True
            if data.startswith(_ARRAY):
                self.framing = self.factory.resp_framing(self)
        self._waiting_bytes = len(data)
        try:
            self._waiting.extend(self.framing.feed(data))
        except BrokenFraming as broken:
            self._waiting.extend(broken.requests)
            self._take_no_more(broken.reply)

    # Executing commands

    def count(self, verb: bytes) -> None:
        """Count a request with this verb. Raises RateLimited."""
        connection = self.connection
        # ``last_verb`` is shown to others. An unknown verb may be anything, even a password.
        connection.last_verb = verb
        if self._rates.limited and self._rates.take(connection.host):
            raise RateLimited
        self._meter.verbs[verb] += 1

    def _perform(self, request: Any) -> Reply:
        """Execute one request; return its reply, or a Deferred of it. Raises Disconnect."""
        self.connection.commands += 1
        try:
            return self.framing.execute(request)
        except Disconnect:
            raise
        except Exception as error:
            return self._error(error)

    def execute_one(self, request: Any) -> None:
        """Do the same as ``_execute`` for one request, but faster in the usual case."""
        try:
            reply = self._perform(request)
        except Disconnect as disconnect:
            self._disconnect(disconnect)
            return
        if not isinstance(reply, bytes):
            reply = self._wait_for(reply, request, self.framing.concerns_one_key(request))
            if reply is None:
                self._look_around()
                return
        self.send(reply)
        took = self._monotonic() - self.now
        if took >= self._meter.traffic.above:
            self._note_request(request, took)

    def _execute(self) -> None:
        """Execute waiting requests until the turn is over."""
        requests, queue = self._waiting, self._queue
        end = self.now + SLICE_SECONDS
        replies: list[bytes] = []
        size = commands = 0
        # The verb that all commands so far share; empty if they differ.
        common = b""
        request: Any = b""
        while requests and self.flow is READY:
            request = requests.popleft()
            if not request:
                continue
            if queue.slots and not queue.admits(self.framing.concerns_one_key(request)):
                # Continue when the requests in progress are answered.
                requests.appendleft(request)
                self._await_replies()
                break
            commands += 1
            try:
                reply = self._perform(request)
            except Disconnect as disconnect:
                self._conclude(commands, b"", request, replies)
                self._disconnect(disconnect)
                return
            verb = self.connection.last_verb
            common = verb if commands == 1 or verb == common else b""
            if not isinstance(reply, bytes):
                reply = self._wait_for(reply, request, self.framing.concerns_one_key(request))
            if reply is not None and not queue.slots:
                replies.append(reply)
                size += len(reply)
            elif reply is not None:
                queue.put(request, reply)
            if size > MOST_AT_ONCE or (replies and queue.slots):
                # Send early: small requests can have large replies, which the client may not read.
                self._send_all(replies)
                replies.clear()
                size = 0
            if requests and self.flow is READY and self._monotonic() >= end:
                self._end_turn()
        self._conclude(commands, common, request, replies)

    def _conclude(self, commands: int, common: bytes, last: Any, replies: Sequence[bytes]) -> None:
        """Send the replies, and record how long the commands of this run took."""
        self._send_all(replies)
        took = self._monotonic() - self.now
        if took < self._meter.traffic.above or self._queue.slots:
            return
        if commands == 1:
            self._note_request(last, took)
        elif commands:
            self._meter.note_together(took, common.decode().lower(), commands)

    def get_one(
        self,
        cache: ICache,
        key: bytes,
        found: Callable[[bytes], bytes],
        missing: bytes,
    ) -> None:
        """Answer the look-up of this key with ``found(value)``, or ``missing``."""
        meter = self._meter
        connection = self.connection
        connection.last_verb = b"GET"
        connection.commands += 1
        meter.verbs[b"GET"] += 1
        try:
            value = cache.get(key, self.now)
            reply = missing if value is None else found(value)
        except Exception as error:
            reply = self._error(error)
        self.send(reply)
        took = self._monotonic() - self.now
        if took >= meter.traffic.above:
            meter.note(took, "get", key or None)

    def get_many(
        self,
        cache: ICache,
        keys: list[bytes],
        write: Callable[[list[bytes | None]], bytes],
        request_for: Callable[[bytes], Any],
    ) -> None:
        """Answer look-ups of these keys; those that do not fit into the turn wait as requests.

        ``write`` returns the replies to several look-ups, ``request_for`` the request of one.
        """
        self.connection.last_verb = b"GET"
        end = self.now + SLICE_SECONDS
        replies: list[bytes] = []
        size = done = 0
        while done < len(keys):
            some = keys[done : done + _GETS_AT_ONCE]
            done += len(some)
            try:
                replies.append(write(cache.get_many(some, self.now)))
            except Exception as error:
                replies.append(self._error(error) * len(some))
            size += len(replies[-1])
            if size > MOST_AT_ONCE:
                self._send_all(replies)
                replies.clear()
                size = 0
            if self.flow is not READY or self._monotonic() >= end:
                break
        if done < len(keys):
            self._waiting.extend(map(request_for, keys[done:]))
            self._waiting_bytes = sum(map(len, keys[done:]))
            if self.flow is READY:
                self._end_turn()
        self._meter.verbs[b"GET"] += done
        self.connection.commands += done
        self._send_all(replies)
        self._meter.note_together(self._monotonic() - self.now, "get", done)
        if self.flow is not READY:
            self._look_around()
            self._settle()

    def _disconnect(self, disconnect: Disconnect) -> None:
        # Ignore all further data, even a request that is too long.
        self._waiting.clear()
        self._take_no_more()
        self.finish(disconnect.reply)

    # Replies

    def _send_all(self, replies: Sequence[bytes]) -> None:
        """Send several replies together."""
        if replies:
            self.send(b"".join(replies))

    def _send_ready(self) -> None:
        """Send the replies that are next in order, while the client reads them."""
        while not self._replies.paused and (slots := self._queue.take()):
            self._send_all([slot.reply for slot in slots])

    def _error(self, error: BaseException | None, failure: Failure | None = None) -> bytes:
        """Return the reply to the last command, which raised ``error``; count it."""
        if failure is not None and self.phase is FINISHED:
            return b""
        answer = answer_to(error, failure, self.connection)
        self._meter.traffic.errors[answer.code] += 1
        return self.framing.error(answer)

    def _failed(self, failure: Failure) -> bytes:
        return self._error(failure.value, failure)

    def _note_awaited(self, request: Any, took: float) -> None:
        if took >= self._meter.traffic.above and self.framing.summary(request)[0] not in _WAITING:
            self._note_request(request, took)

    def _note_request(self, request: Any, took: float) -> None:
        """Record how many seconds a request took."""
        verb, argument = self.framing.summary(request)
        self._meter.note(took, verb.decode().lower(), argument)

    def _gone(self) -> None:
        self.factory.waits.end(self)
        self.framing.lost()
