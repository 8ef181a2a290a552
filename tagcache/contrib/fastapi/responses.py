"""Cached responses, and the rules of HTTP for them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from zope.interface import implementer

from tagcache.model.interfaces import ISerde

# The statuses that are cached: RFC 9110 (15.1) without errors and parts of a response.
_STATUSES = frozenset((200, 203, 204, 300, 301, 308))
# The headers that a 304 repeats from the response: RFC 9110, 15.4.5.
_OF_304 = frozenset((b"cache-control", b"content-location", b"date", b"etag", b"expires", b"vary"))
_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')
_SEPARATOR = re.compile(r"\s*,\s*")

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A cached response.

    ``headers`` are as sent, with lower-case names, and include an ETag. ``is_whole`` says that the
    path function made the response itself, so FastAPI adds no headers of dependencies to it.
    """

    status: int
    headers: Headers
    body: bytes
    is_whole: bool

    @classmethod
    def of(cls, response: Response, is_whole: bool) -> StoredResponse:
        """Return a response to be stored; it has a weak ETag if it had none."""
        headers, body = tuple(response.raw_headers), bytes(response.body)
        if not _values(headers, b"etag"):
            # Weak, because a middleware may compress the body.
            digest = blake2b(body, digest_size=16).hexdigest().encode()
            headers = (*headers, (b"etag", b'W/"%s"' % digest))
        return cls(response.status_code, headers, body, is_whole)

    def response(self, request: Request, more: Iterable[tuple[bytes, bytes]]) -> Response:
        """Return the response to ``request`` with ``more`` headers; a 304 if the client has it."""
        headers = [*self.headers, *more]
        if self.status == 200 and self._is_known(request):
            response = Response(status_code=304)
            response.raw_headers = [each for each in headers if each[0] in _OF_304]
        else:
            response = Response(self.body, self.status)
            response.raw_headers = headers
        return response

    def _is_known(self, request: Request) -> bool:
        """Return whether If-None-Match names this response, by weak comparison."""
        given = ",".join(request.headers.getlist("if-none-match")).strip()
        if given == "*":
            return True
        mine = set(_ENTITY_TAG.findall(_values(self.headers, b"etag")[0]))
        return not mine.isdisjoint(_ENTITY_TAG.findall(given))


@implementer(ISerde)
class ResponseSerde:
    """Stores a response as a line of JSON with the status and the headers, and then the body."""

    name = "response"

    def dump(self, value: Any) -> bytes:
        if not isinstance(value, StoredResponse):
            raise TypeError(f"expected a response, not {type(value).__name__}")
        headers = [[name.decode("latin-1"), text.decode("latin-1")] for name, text in value.headers]
        return orjson.dumps([value.status, value.is_whole, headers]) + b"\n" + value.body

    def load(self, data: bytes) -> Any:
        head, separator, body = bytes(data).partition(b"\n")
        match orjson.loads(head) if separator else None:
            case [int(status), bool(is_whole), list(headers)]:
                return StoredResponse(status, tuple(map(_header, headers)), body, is_whole)
        raise ValueError("this is not a response")


def _header(pair: Any) -> tuple[bytes, bytes]:
    match pair:
        case [str(name), str(value)]:
            return name.encode("latin-1"), value.encode("latin-1")
    raise ValueError("this is not a header")


def why_personal(request: Request) -> str | None:
    """Return which part of a request identifies a user, or None."""
    if "authorization" in request.headers:
        return "Authorization"
    if getattr(request.scope.get("user"), "is_authenticated", False):
        return "user"
    return "session" if request.scope.get("session") else None


def sets_cookie(headers: Headers) -> bool:
    """Return whether headers of a response set a cookie."""
    return bool(_values(headers, b"set-cookie"))


def why_not_stored(response: Response, more: Headers, vary: Collection[str]) -> str | None:
    """Return why a response must not be stored, or None.

    ``more`` are headers that are added to it, ``vary`` the lower-case names of the request headers
    that the key contains.
    """
    if response.status_code not in _STATUSES:
        return f"status {response.status_code}"
    if type(response).__call__ is not Response.__call__:
        return "streamed"
    headers = (*response.raw_headers, *more)
    if sets_cookie(headers):
        return "Set-Cookie"
    if {"no-store", "private"} & words(headers, b"cache-control"):
        return "Cache-Control"
    return None if words(headers, b"vary") <= set(vary) else "Vary"


def asks_for_new(request: Request) -> bool:
    """Return whether the client asks for a response from the origin, not from a cache."""
    return bool({"no-cache", "max-age=0"} & request_directives(request))


def request_directives(request: Request) -> set[str]:
    """Return the Cache-Control of a request, in lower case."""
    return words(tuple(request.headers.raw), b"cache-control")


def words(headers: Headers, name: bytes) -> set[str]:
    """Return the words of a header that is a list, in lower case."""
    text = ",".join(_values(headers, name)).lower()
    # Directives may have values: private="set-cookie".
    words = {word.strip() for word in _SEPARATOR.split(text)} - {""}
    return words | {word.partition("=")[0].strip() for word in words}


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for each, value in headers if each.lower() == name]
