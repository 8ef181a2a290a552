"""Requests as received, and responses as sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias

import orjson
from twisted.internet.defer import Deferred

JSON = b"application/json"
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


_PLAIN = _STATUS_LINES[200] + b"content-type: application/json\r\ncontent-length: "


@dataclass(slots=True)
class HttpRequest:
    """One request. ``path`` and ``query`` are raw; header names are in lower case.

    ``too_large``: the body was not read, because it exceeds the limit. ``secure``: the request
    came over TLS. ``waited``: it waited for the hash of a password, or for a value that another
    client computes.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    peer: str
    body: bytes = b""
    keep_alive: bool = True
    too_large: bool = False
    secure: bool = False
    waited: bool = False


@dataclass(slots=True)
class Response:
    """One response. ``headers`` are whole lines, each with its CR and LF.

    Never change a shared one. (It is not frozen, because that takes four times as long to create.)
    """

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: bytes = b""

    def encode(self, head: bool, close: bool, more: bytes = b"") -> bytes:
        """Return the response as bytes, without the body for ``head``; ``more``: extra headers."""
        if (
            self.status == 200
            and self.content_type is JSON
            and not (head or close or more or self.headers)
        ):
            # The fast path of nearly every response.
            return plain(self.body)
        if self.status == 304:
            # A 304 has no body, so it must not state a length.
            return _STATUS_LINES[304] + self.headers + more + b"\r\n"
        return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b%b\r\n%b" % (
            _STATUS_LINES[self.status],
            self.content_type,
            len(self.body),
            self.headers,
            more,
            b"connection: close\r\n" if close else b"",
            b"" if head else self.body,
        )


# A response, now or later.
EventualResponse: TypeAlias = Response | Deferred[Response]


class Outlet(Protocol):
    """The connection of a Stream; ``id`` is its number among the connections."""

    @property
    def id(self) -> int:
        """See above."""

    def push(self, data: bytes) -> bool:
        """Send more data; return False if the client read too slowly and was dropped."""

    def end(self) -> None:
        """Close the connection after the data sent so far."""


@dataclass(slots=True)
class Stream(Response):
    """A response that continues until one side closes.

    ``opened`` is called when the body may begin; ``lost`` when the connection is closed or the
    server stops.
    """

    opened: Callable[[Outlet], None] = lambda outlet: None
    lost: Callable[[Outlet], None] = lambda outlet: None

    def head(self, more: bytes = b"") -> bytes:
        """Return the status line and headers; the body ends with the connection."""
        return b"%bcontent-type: %b\r\n%b%bconnection: close\r\n\r\n" % (
            _STATUS_LINES[self.status],
            self.content_type,
            self.headers,
            more,
        )


def plain(body: bytes) -> bytes:
    """Return the bytes of a 200 with a JSON body and no special headers."""
    return b"%b%d\r\n\r\n%b" % (_PLAIN, len(body), body)


def json_response(content: Any) -> Response:
    """Return a 200 with a JSON body."""
    return Response(200, orjson.dumps(content))


def json_list(name: bytes, items: list[bytes]) -> Response:
    """Return a 200 with a list under a name; ``items`` are already JSON."""
    return Response(200, b'{"%b":[%b]}' % (name, b",".join(items)))


def failure(status: int, error: str, detail: str = "", headers: bytes = b"") -> Response:
    """Return an error with its JSON body."""
    content = {"error": error, "detail": detail} if detail else {"error": error}
    return Response(status, orjson.dumps(content), headers=headers)


def too_many(error: str, detail: str, wait: float) -> Response:
    """Return a 429; ``wait`` is in seconds."""
    line = b"retry-after: %d\r\n" % max(math.ceil(wait), 1)
    return failure(429, error, detail, headers=line)


def too_many_failures(wait: float) -> Response:
    """Return the response to an address that failed to authenticate too often."""
    return too_many("too_many_failures", "authentication failed too often", wait)


@dataclass(slots=True)
class Call:
    """The argument of an endpoint: a request whose path, query and body are checked.

    ``key`` is the parameter in the path, if the route has one. ``query`` and ``body`` hold the
    declared fields that were given.
    """

    request: HttpRequest
    key: str
    query: Mapping[str, Any]
    body: Mapping[str, Any]
