"""Parse HTTP/1.1 with httptools, and refuse invalid requests that httptools accepts."""

from __future__ import annotations

import enum
import re
from collections import deque
from collections.abc import Callable
from typing import Any

import httptools

from tagcache.server.http.messages import HttpRequest, Response, failure
from tagcache.server.net.inbox import OBJECT_BYTES

MAX_HEADERS = 100
MAX_HEAD_BYTES = 32 * 1024
MAX_TARGET_BYTES = 8 * 1024
# A complete HTTP/0.9 request.
_SIMPLE_REQUEST = re.compile(rb"[A-Z]+ [^ \r\n]+\r?\n")
_OTHER_VERSIONS = frozenset(("0.9", "2.0"))
# These headers must not be repeated: a proxy might use another one, and decide differently.
_ONCE = frozenset((b"authorization", b"host", b"origin", b"sec-fetch-site"))

_HEAD_TOO_LARGE = failure(
    431, "headers_too_large", f"at most {MAX_HEADERS} headers and {MAX_HEAD_BYTES} bytes"
)
_OTHER_VERSION = failure(505, "version_not_supported", "only HTTP/1.0 and HTTP/1.1 are understood")
_BAD_REQUEST_LINE = failure(
    400, "bad_request", "the request line is not a method, a target and a version, with one blank"
)
_UNKNOWN_CODING = failure(501, "not_implemented", "the only transfer coding is chunked")
_NO_HOST = failure(400, "bad_request", "Host is missing")
_UNKNOWN_EXPECTATION = failure(417, "expectation_failed", "only 100-continue is known")
_URI_TOO_LONG = failure(414, "uri_too_long", f"at most {MAX_TARGET_BYTES} bytes")


class Part(enum.Enum):
    """What the parser expects next."""

    NOTHING = "a request, when there is one"
    HEAD = "the head of a request, or the rest of it"
    BODY = "the body of a request, or the rest of it"


# See server/net/states.py.
NOTHING, HEAD, BODY = Part


class NoMoreRequests(Exception):
    """The connection cannot continue; ``response`` is the last response, if there is one."""

    def __init__(self, response: Response | None = None) -> None:
        super().__init__(response)
        self.response = response


class _TooLarge(Exception):
    pass


class RequestParser:
    """Parses the data of one client, and adds complete requests to ``requests``.

    ``max_body`` returns how many bytes the body of a request may have, given its head;
    ``objection`` returns the error that a request will get whatever its body is, or None.

    Attributes:
        part: what is expected next.
        request: the current or last request; None until its head is complete.
        max_body: how many bytes the body of that request may have.
        owes_continue: whether the client waits for a 100 before it sends the body.
    """

    def __init__(
        self,
        requests: deque[HttpRequest],
        peer: str,
        secure: bool,
        max_body: Callable[[HttpRequest], int],
        objection: Callable[[HttpRequest], Response | None],
    ) -> None:
        self._requests = requests
        self._peer = peer
        self._secure = secure
        self._find_max_body = max_body
        self._objection = objection
        self._parser: Any = httptools.HttpRequestParser(self)
        self.part = NOTHING
        self.request: HttpRequest | None = None
        self.max_body = 0
        self.owes_continue = False
        self._now = self._started = 0.0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        # The data from the chunk in which the request begins, and where its request line is:
        # exactly at 0, or somewhere after that position, behind other requests.
        self._came = b""
        self._line_from = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._message_bytes = 0

    def close(self) -> None:
        """Stop parsing, and break the reference cycle with the parser."""
        self._parser = None

    def held_bytes(self) -> int:
        """Return how much memory the incomplete request takes, in bytes."""
        return len(self._came) + self._body_bytes + len(self._body) * OBJECT_BYTES

    def overdue(self, now: float, head_timeout: float, body_timeout: float) -> bool:
        """Return whether the incomplete request takes too long; all arguments are in seconds."""
        if self.part is NOTHING:
            return False
        return now - self._started > (head_timeout if self.part is HEAD else body_timeout)

    def feed(self, data: bytes, now: float) -> None:
        """Parse ``data``, which came at ``now``. Raises NoMoreRequests."""
        self._now = now
        self._message_bytes += len(data)
        self._keep_request_line(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is supported. The request is answered; data after it is not HTTP.
            raise NoMoreRequests from None
        except httptools.HttpParserError as error:
            self._refuse(error)
        if self.part is not NOTHING:
            self._check_size()
        if self.part is not HEAD:
            self._came = b""

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        """See httptools, which describes all of these callbacks."""
        self._target = b""
        self._headers = {}
        self._head_bytes = 0
        self.part = HEAD
        self.request = None
        self._started = self._now

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > MAX_TARGET_BYTES:
            raise NoMoreRequests(_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.part is not HEAD:
            return  # A trailer must not be taken for a header.
        self._head_bytes += len(name) + len(value)
        name = name.lower()
        if name in self._headers:
            if name in _ONCE:
                twice = failure(400, "bad_request", f"{name.decode()} is given twice")
                raise NoMoreRequests(twice)
            if name == b"transfer-encoding":
                value = b"%b, %b" % (self._headers[name], value)
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        self.part = BODY
        headers = self._headers
        if len(headers) > MAX_HEADERS or self._head_bytes > MAX_HEAD_BYTES:
            raise NoMoreRequests(_HEAD_TOO_LARGE)
        parser = self._parser
        method, version = parser.get_method(), parser.get_http_version()
        self._check_request_line(method, version)
        path, _, query = self._target.partition(b"?")
        keep_alive = parser.should_keep_alive()
        self.request = request = HttpRequest(
            method, path, query, headers, self._peer, b"", keep_alive, secure=self._secure
        )
        if b"host" not in headers and version == "1.1":
            raise NoMoreRequests(_NO_HOST)
        codings = headers.get(b"transfer-encoding", b"chunked").lower().strip()
        if codings != b"chunked" and codings.rpartition(b",")[2].strip() == b"chunked":
            # If chunked is not the last coding, the parser reports that the body has no end.
            raise NoMoreRequests(_UNKNOWN_CODING)
        length = headers.get(b"content-length")
        self.max_body = self._find_max_body(request)
        if length is not None and int(length) > self.max_body:
            raise _TooLarge
        if b"expect" in headers and version == "1.1":
            self._expect(request, headers[b"expect"])

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self.max_body:
            raise _TooLarge
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = self.request
        self.part = NOTHING
        self.owes_continue = False
        if request is None:
            return
        if self._body:
            request.body = b"".join(self._body)
            self._body = []
            self._body_bytes = 0
        self._message_bytes = 0
        self._requests.append(request)

    # Checks that httptools does not make.

    def _keep_request_line(self, data: bytes) -> None:
        """Keep the received data until the request line is checked."""
        if self.part is NOTHING:
            # A client may send empty lines between requests.
            self._came = data.lstrip(b"\r\n")
            self._line_from = 0
        elif self.part is HEAD:
            self._came += data
        else:
            self._came = data
            self._line_from = 1

    def _check_request_line(self, method: bytes, version: str) -> None:
        """Refuse other versions, and a line with more than two spaces, which the parser accepts.

        The parser does not say where in a chunk a request begins.
        """
        if version in _OTHER_VERSIONS:
            raise NoMoreRequests(_OTHER_VERSION)
        line = b"%b %b HTTP/%b" % (method, self._target, version.encode())
        at = self._came.find(line, self._line_from)
        if at < 0 or (at > 0 and self._line_from == 0):
            raise NoMoreRequests(_BAD_REQUEST_LINE)
        self._line_from = at + len(line)

    def _expect(self, request: HttpRequest, expected: bytes) -> None:
        if expected.lower() != b"100-continue":
            raise NoMoreRequests(_UNKNOWN_EXPECTATION)
        objection = self._objection(request)
        if objection is not None:
            raise NoMoreRequests(objection)
        # The protocol sends the 100 once all earlier requests are answered.
        self.owes_continue = True

    def _check_size(self) -> None:
        """Refuse an incomplete request of another version, or with an endless head or body."""
        if self.part is HEAD:
            if self._parser.get_http_version() in _OTHER_VERSIONS or (
                self._line_from == 0 and _SIMPLE_REQUEST.match(self._came)
            ):
                raise NoMoreRequests(_OTHER_VERSION)
            if self._message_bytes > MAX_HEAD_BYTES + MAX_TARGET_BYTES:
                raise NoMoreRequests(_HEAD_TOO_LARGE)
        elif self._message_bytes > 2 * self.max_body + MAX_HEAD_BYTES:
            self._refuse_body()

    def _refuse(self, error: httptools.HttpParserError) -> None:
        """Raise NoMoreRequests for an error of httptools, or for the exception that caused it."""
        cause = error.__context__
        if isinstance(cause, NoMoreRequests):
            raise NoMoreRequests(cause.response) from None
        if isinstance(cause, _TooLarge):
            self._refuse_body()
        if self._parser.get_method() == b"PRI":
            # The method in the preface of HTTP/2.
            raise NoMoreRequests(_OTHER_VERSION)
        raise NoMoreRequests(failure(400, "bad_request", str(error) or "not HTTP"))

    def _refuse_body(self) -> None:
        """Let the application refuse the request: it does not show the limits to strangers."""
        request = self.request
        if request is not None:
            request.keep_alive = False
            request.too_large = True
            self._requests.append(request)
        raise NoMoreRequests
