"""A fast path for requests that repeat the header lines of an earlier one.

A client on a persistent connection sends the same header lines again and again. Lines that the
parser has accepted once need no second parse: a GET without a body may differ only in its request
line, a request with a body only in the length and the body. Everything works without this, but
more slowly.
"""

from __future__ import annotations

import re

from tagcache.server.http.messages import HttpRequest
from tagcache.server.http.parsing import MAX_TARGET_BYTES

_GET_LINE = re.compile(rb"GET (/[!->@-~]*)(?:\?([!-~]*))? HTTP/1\.1")
_LENGTH_LINE = re.compile(rb"\r\ncontent-length: *([0-9]+)(?=\r\n)", re.IGNORECASE)
# Longer heads are not remembered, because each connection may have two.
_MOST_HEAD_BYTES = 8192
_NOT_REPEATED = frozenset((b"transfer-encoding", b"expect", b"upgrade"))
# Many clients send keep-alive, the default of HTTP/1.1. Other values may name headers.
_CONNECTIONS = (b"", b"keep-alive")


class RepeatedHead:
    """The head of the last request of its kind on a connection, if another one may repeat it.

    ``peer`` and ``secure`` are those of an HttpRequest.
    """

    __slots__ = (
        "_after_length",
        "_before_length",
        "_head",
        "_line",
        "_peer",
        "_secure",
        "headers",
        "max_body",
    )

    def __init__(self, peer: str, secure: bool) -> None:
        self._peer = peer
        self._secure = secure
        # How many bytes the body of the last request could have.
        self.max_body = 0
        # The headers of the last request.
        self.headers: dict[bytes, bytes] = {}
        self.forget()

    def forget(self) -> None:
        """Recognise no repeated head until the next head is parsed."""
        # The method, path and query of a request with a body.
        self._line = (b"", b"", b"")
        # The header lines of a GET, including the empty one.
        self._head = b""
        # The head of a request with a body: the parts before and after its length.
        self._before_length = self._after_length = b""

    def note(self, data: bytes, request: HttpRequest, max_body: int) -> None:
        """Remember the head of a request that came alone in ``data``, if it may be repeated.

        ``max_body`` is how many bytes its body may have.
        """
        self.forget()
        head, end, body = data.partition(b"\r\n\r\n")
        if (
            not request.keep_alive
            or not _NOT_REPEATED.isdisjoint(request.headers)
            or request.headers.get(b"connection", b"").lower() not in _CONNECTIONS
            or len(head) > _MOST_HEAD_BYTES
        ):
            return
        self._line = request.method, request.path, request.query
        self.max_body = max_body
        self.headers = request.headers
        if request.method == b"GET":
            if data.startswith(b"GET /") and not body and b"content-length" not in request.headers:
                self._head = data.partition(b"\r\n")[2]
        elif data.startswith(request.method) and len(body) == len(request.body) > 0:
            lengths = list(_LENGTH_LINE.finditer(head + end))
            if len(lengths) == 1:
                self._before_length = head[: lengths[0].start(1)]
                self._after_length = (head + end)[lengths[0].end(1) :]

    def around_key(self, path: bytes) -> tuple[bytes, bytes]:
        """Return what precedes and follows a key after ``path`` in a GET that repeats the head."""
        return b"GET " + path, b" HTTP/1.1\r\n" + self._head

    def around_length(self) -> tuple[bytes, bytes]:
        """Return what precedes and follows the length in a request with a body that repeats it."""
        return self._before_length, self._after_length

    def target(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Return path and query if ``data`` is a GET with the head of the last request."""
        if self._head:
            line, _, head = data.partition(b"\r\n")
            if head == self._head and len(line) < MAX_TARGET_BYTES:
                match = _GET_LINE.fullmatch(line)
                if match is not None:
                    return match[1], match[2] or b""
        return None

    def get(self, path: bytes, query: bytes) -> HttpRequest:
        """Return the GET request for a target that ``target`` returned."""
        return self._again(b"GET", path, query, b"")

    def with_body(self, data: bytes) -> HttpRequest | None:
        """Return the request if ``data`` repeats the last head, except for the length."""
        if not self._before_length or not data.startswith(self._before_length):
            return None
        start = len(self._before_length)
        end = data.find(b"\r", start)
        length = data[start:end]
        body_start = end + len(self._after_length)
        if (
            not data.startswith(self._after_length, end)
            or not length.isdigit()
            or len(length) >= 10
            or not int(length) == len(data) - body_start <= self.max_body
        ):
            return None
        self.headers[b"content-length"] = length
        return self._again(*self._line, data[body_start:])

    def _again(self, method: bytes, path: bytes, query: bytes, body: bytes) -> HttpRequest:
        return HttpRequest(method, path, query, self.headers, self._peer, body, secure=self._secure)
