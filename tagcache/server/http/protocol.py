"""HTTP/1.1 on a connection: httptools parses, requests are answered one at a time in order."""

from __future__ import annotations

import re
from collections import deque
from typing import Any, Protocol

import httptools
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.server.http.messages import Request, Response, Stream, failure
from tagcache.server.http.static import comes_from_dashboard
from tagcache.server.net.inbox import OBJECT_BYTES
from tagcache.server.net.serving import AWAITING, READY, ServedProtocol, ServingFactory
from tagcache.server.observe.traffic import MIXED, Traffic
from tagcache.server.upkeep.slices import SLICE_SECONDS

MAX_HEADERS = 100
MAX_HEAD_BYTES = 32 * 1024
MAX_TARGET_BYTES = 8 * 1024
# Answers of a read leave in one write, up to this many bytes.
_MOST_AT_ONCE = 256 * 1024
# A chunk with more heads than this is parsed in pieces of so many bytes.
_MANY_HEADS = 8
_PIECE = 4096
_GET_LINE = re.compile(rb"GET (/[!->@-~]*)(?:\?([!-~]*))? HTTP/1\.1")
_LENGTH_LINE = re.compile(rb"\r\ncontent-length: *([0-9]+)(?=\r\n)", re.IGNORECASE)
# A whole request of HTTP/0.9.
_SIMPLE_REQUEST = re.compile(rb"[A-Z]+ [^ \r\n]+\r?\n")
_OTHER_VERSIONS = frozenset(("0.9", "2.0"))
# A second one might be meant for somebody on the way who looks at the other.
_ONCE = frozenset((b"authorization", b"host", b"origin", b"sec-fetch-site"))
_NOT_REPEATED = frozenset((b"transfer-encoding", b"connection", b"expect", b"upgrade"))
# What the reader of a stream may leave unread, besides what the system holds for it.
_MOST_UNREAD = 256 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = Logger(namespace="tagcache.http")


class Application(Protocol):
    """What answers requests."""

    traffic: Traffic

    def max_body(self, request: Request) -> int:
        """Return how long the body of a request may be in bytes, by what its head says."""

    def label(self, method: bytes, path: bytes) -> str:
        """Return what requests with that method and path are counted as."""

    def answer(self, request: Request) -> Response | Deferred[Response]:
        """Return the response, or a Deferred of it."""

    def look_up(self, path: bytes, headers: dict[bytes, bytes], peer: str) -> bytes | None:
        """Return the response to a GET if it is a plain look-up, and nothing stands in its way."""

    def objection(self, request: Request) -> Response | None:
        """Return the error that a request will get whatever its body is, if that is certain."""

    def header_lines(self, request: Request) -> bytes:
        """Return header lines that every response to this request carries."""


class HttpProtocol(ServedProtocol):
    """One HTTP client."""

    def __init__(self, factory: ServingFactory, application: Application) -> None:
        super().__init__(factory)
        self._application = application
        self._traffic = application.traffic
        self._parser: Any = httptools.HttpRequestParser(self)
        # Requests that came and wait for their turn; what follows them is in the inbox.
        self._requests: deque[Request] = deque()
        self._pending: Deferred[Response] | None = None
        self._answers: list[bytes] = []
        self._answers_size = 0
        # When the request began that is awaited, and the response that goes on.
        self._awaited_since = 0.0
        self._stream: Stream | None = None
        # What is said after the last answer; None while more is read.
        self._closing_reply: bytes | None = None
        self._owes_continue = False
        self._secure = False
        # The request that is coming in.
        self._started: float | None = None
        self._request: Request | None = None
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._in_head = True
        self._max_body = 0
        # What came since the chunk in which that request begins, and where its line is: right at 0,
        # or somewhere from there on, behind other requests.
        self._came = b""
        self._line_from = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._message_bytes = 0
        # The header lines of the last request, with the empty one, if they may come again.
        self._repeated_head = b""
        # The same of one with a body: what is before its length, and after it.
        self._before_length = self._after_length = b""

    def connectionMade(self) -> None:
        super().connectionMade()
        self._secure = ISSLTransport.providedBy(self.transport)

    @property
    def waits_for_request(self) -> bool:
        """Whether it is between requests."""
        return self._started is None and self.flow is READY and self._stream is None

    def held_bytes(self) -> int:
        waiting = sum(len(request.body) for request in self._requests)
        body = self._body_bytes + len(self._body) * OBJECT_BYTES
        return super().held_bytes() + len(self._came) + body + waiting

    def overdue(self, now: float, head_timeout: float, body_timeout: float) -> bool:
        """Say whether the request that is coming in takes too long."""
        if self._started is None or self.flow is not READY:
            return False
        return now - self._started > (head_timeout if self._in_head else body_timeout)

    def time_out(self) -> None:
        """Tell the client that it took too long, and close."""
        self._refuse(failure(408, "request_timeout", "the request took too long to arrive"))
        self.run()

    def forget_head(self) -> None:
        """Parse the next head, also if it came before: the settings have changed."""
        self._repeated_head = self._before_length = b""

    def dataReceived(self, data: bytes) -> None:
        if self._closing_reply is not None:
            return
        try:
            size = len(data)
            connection = self.connection
            connection.bytes_in += size
            connection.last_active = self.now = self._monotonic()
            ready = self.flow is READY
            if not (ready and self._started is None and self._is_repeated(data)):
                self.put_aside(data)
                if ready:
                    self.run()
                else:
                    self.note_held()
            if self._unread is not None:
                self.count_drained(size)
        except Exception as error:
            self.fail(error)

    def run(self) -> None:
        answered = 0
        request: Request | None = None
        while self.flow is READY and not self.finished:
            if self._requests:
                request = self._requests.popleft()
                answered += 1
                self._answer(request)
                over = self._monotonic() - self.now >= SLICE_SECONDS
                if over and self._more_waits() and self.flow is READY:
                    self.end_turn()
            elif self.inbox:
                self._parse(self.inbox.take())
            else:
                break
        if self._owes_continue and self.flow is READY and self._closing_reply is None:
            self._owes_continue = False
            self._answers.append(_CONTINUE)
        self._flush()
        took = self._monotonic() - self.now
        if took >= self._traffic.above and request is not None and self._pending is None:
            self._note_request(request.method, request.path, took, answered)
        idle = self.flow is READY and self._stream is None and not self._more_waits()
        if self._closing_reply is not None and idle:
            self.finish(self._closing_reply)
        self.settle()

    def _more_waits(self) -> bool:
        return bool(self._requests or self.inbox)

    def _parse(self, data: bytes) -> None:
        """Read requests; of very many at once only some, and the rest goes back to the inbox."""
        many = data.count(b"\n\r\n") + data.count(b"\n\n") > _MANY_HEADS
        if many and len(data) > _PIECE:
            self.inbox.put_back(data[_PIECE:])
            data = data[:_PIECE]
        between = self._started is None
        self._message_bytes += len(data)
        self._keep_request_line(data, between)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # We speak nothing else; the request is answered, and what follows is not HTTP.
            self._say_closing_reply(b"")
        except httptools.HttpParserError as error:
            self._refuse_what_came(error)
        else:
            if self._started is not None:
                self._check_size()
            elif between:
                self._note_head(data)
            if not self._in_head:
                self._came = b""

    @property
    def id(self) -> int:
        """The number of the connection."""
        return self.connection.id

    def push(self, data: bytes) -> bool:
        """Send more of a response that goes on; see Outlet."""
        if self.finished:
            return False
        self.send(data)
        if self._replies.held_bytes > _MOST_UNREAD:
            log.warn("{peer} does not read its events, and is dropped", peer=self.connection.peer)
            self.connection.abort()
            return False
        return True

    def end_idle(self) -> None:
        if self._stream is not None and not self.finished:
            return  # who listens says nothing
        if self._replies.paused and self._closing_reply is not None:
            # It was told to end before, and did not take what comes first.
            self.connection.abort()
        else:
            super().end_idle()

    def drain(self) -> None:
        if self._stream is None:
            super().drain()
        else:
            self.end()

    def end(self) -> None:
        if self._stream is not None:
            self._end_stream()
            self.finish()
        elif self._closing_reply is None:
            self._closing_reply = b""
            if self.flow is READY and not self._more_waits():
                self._flush()
                self.finish()

    def gone(self) -> None:
        self._end_stream()
        self._closing_reply = b""
        self._parser = None  # which holds this
        self._requests.clear()
        self.inbox.clear()
        if self._pending is not None:
            self._pending.cancel()

    def _say_closing_reply(self, closing_reply: bytes) -> None:
        """Read nothing more, not even what came; ``closing_reply`` follows the last answer."""
        if self._closing_reply is None:
            self._closing_reply = closing_reply
        self.inbox.clear()

    # What the parser calls.

    def on_message_begin(self) -> None:
        # Those were of the request before.
        self._repeated_head = self._before_length = b""
        self._target = b""
        self._headers = {}
        self._head_bytes = 0
        self._in_head = True
        self._request = None
        self._started = self.now

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > MAX_TARGET_BYTES:
            raise _Refused(failure(414, "uri_too_long", f"at most {MAX_TARGET_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which must not pass for a header
        self._head_bytes += len(name) + len(value)
        name = name.lower()
        if name in self._headers:
            if name in _ONCE:
                raise _Refused(failure(400, "bad_request", f"{name.decode()} is given twice"))
            if name == b"transfer-encoding":
                value = b"%b, %b" % (self._headers[name], value)
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        headers = self._headers
        if len(headers) > MAX_HEADERS or self._head_bytes > MAX_HEAD_BYTES:
            raise _Refused(_HEAD_TOO_LARGE)
        parser = self._parser
        version = parser.get_http_version()
        self._check_request_line(parser.get_method(), version)
        path, _, query = self._target.partition(b"?")
        self._request = request = Request(
            parser.get_method(),
            path,
            query,
            headers,
            self.connection.host,
            b"",
            parser.should_keep_alive(),
            secure=self._secure,
        )
        if b"host" not in headers and version == "1.1":
            raise _Refused(_NO_HOST)
        codings = headers.get(b"transfer-encoding", b"chunked").lower().strip()
        if codings != b"chunked" and codings.rpartition(b",")[2].strip() == b"chunked":
            # Where it is not the last one, the parser says that the body has no end.
            raise _Refused(_UNKNOWN_CODING)
        length = headers.get(b"content-length")
        self._max_body = self._application.max_body(request)
        if length is not None and int(length) > self._max_body:
            raise _TooLarge
        if b"expect" in headers and version == "1.1":
            self._expect(request, headers[b"expect"])

    def _keep_request_line(self, data: bytes, between: bool) -> None:
        """Keep what came until the line of the request that is coming in was looked at."""
        if between:
            # A client may send empty lines between requests.
            self._came = data.lstrip(b"\r\n")
            self._line_from = 0
        elif self._in_head:
            self._came += data
        else:
            self._came = data
            self._line_from = 1

    def _check_request_line(self, method: bytes, version: str) -> None:
        """Refuse other versions, and a line that has more blanks than two, which the parser skips.

        The parser does not say where in a chunk a request begins.
        """
        if version in _OTHER_VERSIONS:
            raise _Refused(_OTHER_VERSION)
        line = b"%b %b HTTP/%b" % (method, self._target, version.encode())
        at = self._came.find(line, self._line_from)
        if at < 0 or (at > 0 and self._line_from == 0):
            raise _Refused(_BAD_REQUEST_LINE)
        self._line_from = at + len(line)

    def _expect(self, request: Request, expected: bytes) -> None:
        if expected.lower() != b"100-continue":
            raise _Refused(failure(417, "expectation_failed", "only 100-continue is known"))
        objection = self._application.objection(request)
        if objection is not None:
            raise _Refused(objection)
        # It is said once what came before is answered.
        self._owes_continue = True

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body:
            raise _TooLarge
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = self._request
        self._started = None
        self._owes_continue = False
        if request is None:
            return
        if self._body:
            request.body = b"".join(self._body)
            self._body = []
            self._body_bytes = 0
        self._message_bytes = 0
        self._requests.append(request)

    # How requests are answered.

    def _note_head(self, data: bytes) -> None:
        """Remember the head of a request that came alone, if the next may repeat it.

        A client on a kept connection sends the same header lines again and again. Those that
        the parser has accepted once, of a GET without a body, need not be parsed again: then
        only the request line differs.
        """
        request = self._request
        if (
            request is None
            or not request.keep_alive
            or not _NOT_REPEATED.isdisjoint(request.headers)
        ):
            return
        head, end, body = data.partition(b"\r\n\r\n")
        if request.method == b"GET":
            if data.startswith(b"GET /") and not body and b"content-length" not in request.headers:
                self._repeated_head = data.partition(b"\r\n")[2]
        elif data.startswith(request.method) and len(body) == len(request.body) > 0:
            lengths = list(_LENGTH_LINE.finditer(head + end))
            if len(lengths) == 1:
                self._before_length = head[: lengths[0].start(1)]
                self._after_length = (head + end)[lengths[0].end(1) :]

    def _is_repeated(self, data: bytes) -> bool:
        """Answer to ``data`` if it is one request with a head that came before; say whether."""
        if self._repeated_head:
            line, _, head = data.partition(b"\r\n")
            if head == self._repeated_head and len(line) < MAX_TARGET_BYTES:
                match = _GET_LINE.fullmatch(line)
                if match is not None:
                    self._answer_repeated(match[1], match[2])
                    return True
        elif (
            self._before_length
            and self._request is not None
            and data.startswith(self._before_length)
        ):
            start = len(self._before_length)
            end = data.find(b"\r", start)
            length = data[start:end]
            body_start = end + len(self._after_length)
            if (
                data.startswith(self._after_length, end)
                and length.isdigit()
                and len(length) < 10
                and int(length) == len(data) - body_start <= self._max_body
            ):
                self._answer_repeated_with(self._request, length, data[body_start:])
                return True
        return False

    def _answer_repeated_with(self, last: Request, length: bytes, body: bytes) -> None:
        last.headers[b"content-length"] = length
        peer = self.connection.host
        request = Request(last.method, last.path, last.query, last.headers, peer, body, True)
        request.secure = self._secure
        self._answer_alone(request)

    def _answer_repeated(self, path: bytes, query: bytes | None) -> None:
        connection = self.connection
        if not query:
            data = self._look_up(path)
            if data is not None:
                connection.commands += 1
                connection.last_verb = b"GET"
                self.send(data)
                took = self._monotonic() - self.now
                if took >= self._traffic.above:
                    self._note_request(b"GET", path, took)
                return
        self._answer_alone(
            Request(b"GET", path, query or b"", self._headers, connection.host, b"", True)
        )

    def _answer_alone(self, request: Request) -> None:
        """Answer a request that keeps the connection, and that none came with."""
        response = self._ask(request)
        if not isinstance(response, Response):
            self._await(request, response)
        else:
            self._respond(request, response)
        self._flush()
        took = self._monotonic() - self.now
        if took >= self._traffic.above and self._pending is None:
            self._note_request(request.method, request.path, took)

    def _look_up(self, path: bytes) -> bytes | None:
        try:
            return self._application.look_up(path, self._headers, self.connection.host)
        except MemoryError:
            response = _OUT_OF_MEMORY
        except Exception:
            log.failure("GET from {peer} failed", peer=self.connection.peer)
            response = _INTERNAL_ERROR
        self._traffic.failed_requests[response.status] += 1
        return response.encode(False, False)

    def _refuse_what_came(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if isinstance(cause, _Refused):
            self._refuse(cause.response)
        elif isinstance(cause, _TooLarge):
            self._answer_too_large()
        elif self._parser.get_method() == b"PRI":
            # What HTTP/2 begins with.
            self._refuse(_OTHER_VERSION)
        else:
            self._refuse(failure(400, "bad_request", str(error) or "not HTTP"))

    def _answer_too_large(self) -> None:
        """Let the application say no: who is not let in is not to learn of limits."""
        request = self._request
        if request is None:
            return
        request.keep_alive = False
        request.too_large = True
        self._requests.append(request)
        self._say_closing_reply(b"")

    def _check_size(self) -> None:
        """Refuse what the parser waits for: other versions, heads and bodies without an end."""
        if self._in_head:
            if self._parser.get_http_version() in _OTHER_VERSIONS or (
                self._line_from == 0 and _SIMPLE_REQUEST.match(self._came)
            ):
                self._refuse(_OTHER_VERSION)
            elif self._message_bytes > MAX_HEAD_BYTES + MAX_TARGET_BYTES:
                self._refuse(_HEAD_TOO_LARGE)
        elif self._message_bytes > 2 * self._max_body + MAX_HEAD_BYTES:
            self._answer_too_large()

    def _ask(self, request: Request) -> Response | Deferred[Response]:
        connection = self.connection
        connection.commands += 1
        connection.last_verb = request.method
        connection.dashboard = comes_from_dashboard(request)
        try:
            return self._application.answer(request)
        except MemoryError:
            return _OUT_OF_MEMORY
        except Exception:
            log.failure("{method} from {peer} failed", method=request.method, peer=request.peer)
            return _INTERNAL_ERROR

    def _answer(self, request: Request) -> None:
        response = self._ask(request)
        if isinstance(response, Response):
            self._respond(request, response)
        else:
            self._await(request, response)

    def _await(self, request: Request, awaited: Deferred[Response]) -> None:
        settled: list[Response] = []

        def arrived(response: Response) -> None:
            if self._pending is None:
                settled.append(response)
            else:
                self._go_on(request, response)

        awaited.addErrback(self._failed)
        awaited.addCallback(arrived)
        if settled:
            self._respond(request, settled[0])
            return
        self._pending = awaited
        self._awaited_since = self.now
        self._flush()
        self.flow = AWAITING
        self.stop_reading()

    def _failed(self, reason: Failure) -> Response:
        if isinstance(reason.value, MemoryError):
            return _OUT_OF_MEMORY
        if not self.finished:
            log.failure("a request from {peer} failed", reason, peer=self.connection.peer)
        return _INTERNAL_ERROR

    def _go_on(self, request: Request, response: Response) -> None:
        self._pending = None
        if self.finished:
            return
        try:
            self.now = self._monotonic()
            self.ready()
            self._respond(request, response)
            took = self.now - self._awaited_since
            if took >= self._traffic.above and not request.hashed:
                self._note_request(request.method, request.path, took)
            self.run()
        except Exception as error:
            self.fail(error)

    def _begin_stream(self, request: Request, stream: Stream) -> None:
        """Send the head of a response that goes on; nothing more is read as a request."""
        self._requests.clear()
        self._say_closing_reply(b"")
        self._answers.append(stream.head(self._application.header_lines(request)))
        self._flush()
        if request.method == b"HEAD" or self._unread is not None:
            self.finish()
            return
        self._stream = stream
        stream.opened(self)

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.lost(self)

    def _note_request(self, method: bytes, path: bytes, took: float, requests: int = 1) -> None:
        """Tell how long it took to answer ``requests``, of which that is the last."""
        label = self._application.label(method, path) if requests == 1 else f"HTTP {MIXED}"
        self._traffic.took(
            took, label, requests, path if requests == 1 else None, self.connection.peer
        )

    def _respond(self, request: Request, response: Response) -> None:
        if response.status >= 400:
            self._traffic.failed_requests[response.status] += 1
        elif isinstance(response, Stream):
            self._begin_stream(request, response)
            return
        close = not request.keep_alive
        lines = self._application.header_lines(request)
        data = response.encode(request.method == b"HEAD", close, lines)
        self._answers.append(data)
        self._answers_size += len(data)
        if close:
            self._requests.clear()
            self._say_closing_reply(b"")
            self._flush()
            self.finish()
        elif self._answers_size > _MOST_AT_ONCE:
            # Small requests can have large answers, and a client may not read them.
            self._flush()

    def _refuse(self, response: Response) -> None:
        """Answer with an error after which the connection cannot go on."""
        if self._closing_reply is not None:
            return
        self._traffic.failed_requests[response.status] += 1
        request = self._request
        lines = self._application.header_lines(request) if request is not None else b""
        head = request is not None and request.method == b"HEAD"
        self._say_closing_reply(response.encode(head, True, lines))

    def _flush(self) -> None:
        answers = self._answers
        if answers:
            data = answers[0] if len(answers) == 1 else b"".join(answers)
            answers.clear()
            self._answers_size = 0
            self.send(data)


class _TooLarge(Exception):
    pass


class _Refused(Exception):
    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response


_HEAD_TOO_LARGE = failure(
    431, "headers_too_large", f"at most {MAX_HEADERS} headers and {MAX_HEAD_BYTES} bytes"
)
_OTHER_VERSION = failure(505, "version_not_supported", "only HTTP/1.0 and HTTP/1.1 are understood")
_BAD_REQUEST_LINE = failure(
    400, "bad_request", "the request line is not a method, a target and a version, with one blank"
)
_UNKNOWN_CODING = failure(501, "not_implemented", "the only transfer coding is chunked")
_NO_HOST = failure(400, "bad_request", "Host is missing")
_OUT_OF_MEMORY = failure(507, "out_of_memory", "the system gives the server no more memory")
_INTERNAL_ERROR = failure(500, "internal_error", "a defect of the server; its log has the details")
