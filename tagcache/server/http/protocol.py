"""HTTP/1.1 on a connection: requests are answered one at a time, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.server.http.messages import EventualResponse, HttpRequest, Response, Stream, failure
from tagcache.server.http.native_requests import STORE_PATH, NativeRequests
from tagcache.server.http.parsing import NOTHING, NoMoreRequests, RequestParser
from tagcache.server.http.repeated import RepeatedHead
from tagcache.server.http.static import comes_from_dashboard
from tagcache.server.net.pump_transport import PumpTransport
from tagcache.server.net.reply_queue import MOST_AT_ONCE
from tagcache.server.net.serving import ServedProtocol
from tagcache.server.net.states import FINISHED, READY, SERVING, STREAMING
from tagcache.server.observe.traffic import MIXED, NATIVE_ROUTES, Traffic
from tagcache.server.upkeep.slices import SLICE_SECONDS

if TYPE_CHECKING:
    from tagcache.server.http.factory import HttpFactory

# A chunk with more heads than this is parsed in pieces of ``_PIECE`` bytes.
_MANY_HEADS = 8
_PIECE = 4096
# How many bytes of a stream may be unread, without those in the buffers of the system.
_MOST_UNREAD = 256 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOO_SLOW = failure(408, "request_timeout", "the request took too long to arrive")
_OUT_OF_MEMORY = failure(507, "out_of_memory", "the system gives the server no more memory")
_INTERNAL_ERROR = failure(500, "internal_error", "the server failed; its log has the details")

log = Logger(namespace="tagcache.http")


class Application(Protocol):
    """Answers the requests of a connection."""

    traffic: Traffic
    revoked: list[None]

    def valid_until(self, headers: dict[bytes, bytes]) -> float:
        """Return until when these headers need no other check, unless ``revoked`` gets an item."""

    def max_body(self, request: HttpRequest) -> int:
        """Return how many bytes the body of a request may have, given its head."""

    def label(self, method: bytes, path: bytes) -> str:
        """Return the name under which requests with this method and path are counted."""

    def answer(self, request: HttpRequest) -> EventualResponse:
        """Return the response, or a Deferred of it."""

    def look_up(self, path: bytes, headers: dict[bytes, bytes], peer: str) -> bytes | None:
        """Return the response to a GET that is a plain look-up; None if it needs anything more."""

    def objection(self, request: HttpRequest) -> Response | None:
        """Return the error of a request that no body could make acceptable, or None."""

    def header_lines(self, request: HttpRequest) -> bytes:
        """Return the header lines for every response to this request."""


class HttpProtocol(ServedProtocol):
    """One HTTP client."""

    factory: HttpFactory

    def __init__(self, factory: HttpFactory, application: Application) -> None:
        super().__init__(factory, application.traffic, _size)
        self._application = application
        # The responses for the next write.
        self._answers: list[bytes] = []
        self._answers_size = 0
        # The open stream.
        self._stream: Stream | None = None
        # What the transport may answer; None if it cannot.
        self._native: NativeRequests | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        peer, secure = self.connection.host, ISSLTransport.providedBy(self.transport)
        application = self._application
        self._parser = RequestParser(
            self._waiting, peer, secure, application.max_body, application.objection
        )
        # Clients look a key up, and store it if it is missing, so either kind may come again.
        self._without_body = RepeatedHead(peer, secure)
        self._with_body = RepeatedHead(peer, secure)
        plain = self.factory.plain
        if plain is not None and isinstance(self.transport, PumpTransport):
            self._native = NativeRequests(self.transport, plain)
            self._meter.follow(self.transport, NATIVE_ROUTES)

    # Called by the factory.

    @property
    def waits_for_request(self) -> bool:
        """Whether the connection is between requests."""
        serving = self.phase is SERVING and self.flow is READY
        return serving and self._parser.part is NOTHING

    def held_bytes(self) -> int:
        waiting = sum(len(request.body) for request in self._waiting)
        return super().held_bytes() + self._parser.held_bytes() + waiting

    def overdue(self, now: float, head_timeout: float, body_timeout: float) -> bool:
        """Return whether the incomplete request takes too long; all arguments are in seconds."""
        return self.flow is READY and self._parser.overdue(now, head_timeout, body_timeout)

    def time_out(self) -> None:
        """Answer that the request took too long, and close."""
        self._refuse(_TOO_SLOW)
        self.run()

    def forget_head(self) -> None:
        """Parse the next head even if it is a repeated one: the settings have changed."""
        self._without_body.forget()
        self._with_body.forget()
        if self._native is not None:
            self._native.forget()

    # Requests that the transport answers

    def _not_ordinary(self) -> None:
        if self._native is not None:
            self._native.stop()

    def _offer_native(self, requests: NativeRequests) -> None:
        """Let the transport answer requests from now on, if nothing is unfinished here."""
        requests.offer(
            self.phase is SERVING
            and self.flow is READY
            and self._parser.part is NOTHING
            and not self._waiting
            and not self.inbox
            and not self._queue.slots
            and self._unread is None
        )

    def _settle(self) -> None:
        super()._settle()
        if self._native is not None:
            self._offer_native(self._native)

    def _repeat(self, repeated: RepeatedHead) -> None:
        """Have requests with the same head answered by the transport: this one was admitted."""
        requests, application = self._native, self._application
        if requests is None:
            return
        until = application.valid_until(repeated.headers)
        if until > self.now:
            is_look_up = repeated is self._without_body
            repeat = requests.repeat_look_up if is_look_up else requests.repeat_store
            repeat(repeated, application.revoked, until)
            self._offer_native(requests)

    # Receiving requests

    def dataReceived(self, data: bytes) -> None:
        if self.phase is not SERVING:
            return
        try:
            size = len(data)
            connection = self.connection
            connection.bytes_in += size
            connection.last_active = self.now = self._monotonic()
            ready = self.flow is READY
            if not (ready and self._parser.part is NOTHING and self._answer_repeated(data)):
                self._put_aside(data)
                if ready:
                    self.run()
                else:
                    self._note_held()
            if self._unread is not None:
                self._count_drained(size)
        except Exception as error:
            self.fail(error)

    def run(self) -> None:
        if self._queue.slots:
            for slot in self._queue.take():
                self._respond(slot.request, slot.reply)
        answered = 0
        request: HttpRequest | None = None
        while self.flow is READY and self.phase is not FINISHED:
            if self._waiting:
                request = self._waiting.popleft()
                answered += 1
                self._answer(request)
                over = self._monotonic() - self.now >= SLICE_SECONDS
                if over and self.flow is READY and (self._waiting or self.inbox):
                    self._end_turn()
            elif self.inbox:
                self._parse()
            else:
                break
        if self._parser.owes_continue and self.flow is READY and self.phase is SERVING:
            self._parser.owes_continue = False
            self._answers.append(_CONTINUE)
        self._flush()
        if request is not None:
            self._note_run(request, answered)
        self._settle()

    def _parse(self) -> None:
        """Parse requests from the inbox, but only a piece of a very long chunk."""
        data = self.inbox.take(_PIECE if _has_many_heads(self.inbox.peek()) else None)
        parser = self._parser
        between = parser.part is NOTHING
        try:
            parser.feed(data, self.now)
        except NoMoreRequests as end:
            if end.response is None:
                self._take_no_more()
            else:
                self._refuse(end.response)
        else:
            request = parser.request
            if between and parser.part is NOTHING and request is not None:
                repeated = self._without_body if request.method == b"GET" else self._with_body
                repeated.note(data, request, parser.max_body)

    def _answer_repeated(self, data: bytes) -> bool:
        """Answer ``data`` if it is one request with a repeated head; return whether it is."""
        target = self._without_body.target(data)
        if target is None:
            request = self._with_body.with_body(data)
            if request is None:
                return False
        else:
            path, query = target
            if not query:
                answer, is_admitted = self._look_up(path)
                if answer is not None:
                    connection = self.connection
                    connection.commands += 1
                    connection.last_verb = b"GET"
                    self.send(answer)
                    took = self._monotonic() - self.now
                    if took >= self._meter.traffic.above:
                        self._meter.note(took, self._application.label(b"GET", path), path)
                    if is_admitted:
                        self._repeat(self._without_body)
                    return True
            request = self._without_body.get(path, query)
        succeeded = self._answer(request)
        self._flush()
        self._note_run(request, 1)
        if succeeded and _is_store(request):
            self._repeat(self._with_body)
        return True

    def _refuse(self, response: Response) -> None:
        """Answer with an error after which the connection cannot continue."""
        if self.phase is not SERVING:
            return
        self._meter.traffic.failed_requests[response.status] += 1
        request = self._parser.request
        lines = self._application.header_lines(request) if request is not None else b""
        head = request is not None and request.method == b"HEAD"
        self._take_no_more(response.encode(head, True, lines))

    # Answering requests

    def _answer(self, request: HttpRequest) -> bool:
        """Answer a request now or later; return whether it has succeeded at once."""
        connection = self.connection
        connection.commands += 1
        connection.last_verb = request.method
        connection.dashboard = comes_from_dashboard(request)
        try:
            response = self._application.answer(request)
        except Exception as error:
            response = self._error(error)
        if not isinstance(response, Response):
            response = self._wait_for(response, request)
            if response is None:
                return False
        self._respond(request, response)
        return response.status == 200

    def _look_up(self, path: bytes) -> tuple[bytes | None, bool]:
        """Return an answer, if there is one here, and whether the request was admitted."""
        try:
            headers = self._without_body.headers
            return self._application.look_up(path, headers, self.connection.host), True
        except Exception as error:
            response = self._error(error)
        self._meter.traffic.failed_requests[response.status] += 1
        return response.encode(False, False), False

    def _error(self, error: BaseException | None, failure: Failure | None = None) -> Response:
        """Return the response to a request that raised ``error``."""
        if isinstance(error, MemoryError):
            return _OUT_OF_MEMORY
        if self.phase is not FINISHED:
            log.failure("a request from {peer} failed", failure, peer=self.connection.peer)
        return _INTERNAL_ERROR

    def _failed(self, failure: Failure) -> Response:
        return self._error(failure.value, failure)

    def _respond(self, request: HttpRequest, response: Response) -> None:
        if response.status >= 400:
            self._meter.traffic.failed_requests[response.status] += 1
        elif isinstance(response, Stream):
            self._begin_stream(request, response)
            return
        close = not request.keep_alive
        lines = self._application.header_lines(request)
        data = response.encode(request.method == b"HEAD", close, lines)
        self._answers.append(data)
        self._answers_size += len(data)
        if close:
            self._waiting.clear()
            self._take_no_more()
            self._flush()
            self.finish()
        elif self._answers_size > MOST_AT_ONCE:
            # Send early: small requests can have large responses, which the client may not read.
            self._flush()

    def _flush(self) -> None:
        answers = self._answers
        if answers:
            data = answers[0] if len(answers) == 1 else b"".join(answers)
            answers.clear()
            self._answers_size = 0
            self.send(data)

    # Timing

    def _note_run(self, last: HttpRequest, answered: int) -> None:
        """Record how long it took to answer the requests of a run."""
        took = self._monotonic() - self.now
        if took < self._meter.traffic.above or self._queue.slots:
            return
        if answered == 1:
            self._note_request(last, took)
        else:
            self._meter.note_together(took, f"HTTP {MIXED}", answered)

    def _note_awaited(self, request: HttpRequest, took: float) -> None:
        if took >= self._meter.traffic.above and not request.waited:
            self._note_request(request, took)

    def _note_request(self, request: HttpRequest, took: float) -> None:
        label = self._application.label(request.method, request.path)
        self._meter.note(took, label, request.path)

    # Streams; this is their Outlet.

    @property
    def id(self) -> int:
        """The number of the connection."""
        return self.connection.id

    def push(self, data: bytes) -> bool:
        """Send more of a stream; see Outlet."""
        if self.phase is FINISHED:
            return False
        self.send(data)
        if self._replies.held_bytes > _MOST_UNREAD:
            log.warn("dropped {peer}: it does not read its events", peer=self.connection.peer)
            self.connection.abort()
            return False
        return True

    def _begin_stream(self, request: HttpRequest, stream: Stream) -> None:
        """Send the head of a stream; no more requests are read."""
        self._waiting.clear()
        self._take_no_more()
        self._answers.append(stream.head(self._application.header_lines(request)))
        self._flush()
        if request.method == b"HEAD" or self._unread is not None:
            self.finish()
            return
        self._enter(STREAMING)
        self._stream = stream
        stream.opened(self)

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.lost(self)

    # The end

    def end_idle(self) -> None:
        if self.phase is not STREAMING:  # The client of a stream is silent.
            super().end_idle()

    def drain(self) -> None:
        if self.phase is STREAMING:
            self.end()
        else:
            super().drain()

    def end(self, closing_reply: bytes = b"") -> None:
        if self.phase is STREAMING:
            self._end_stream()
            self.finish()
        else:
            super().end(closing_reply)

    def _gone(self) -> None:
        self._end_stream()
        self._parser.close()


def _size(response: Response) -> int:
    return len(response.body)


def _is_store(request: HttpRequest) -> bool:
    return request.method == b"POST" and request.path == STORE_PATH and not request.query


def _has_many_heads(data: bytes) -> bool:
    return data.count(b"\n\r\n") + data.count(b"\n\n") > _MANY_HEADS
