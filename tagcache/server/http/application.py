"""Check each request, and pass it to its endpoint."""

from __future__ import annotations

import math
import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.config.settings import Settings
from tagcache.errors import (
    AnswerTooLarge,
    BackendUnavailable,
    CommandError,
    ConfigurationError,
    CredentialsFixed,
    InvalidDatabase,
    OutOfMemory,
    TagCacheError,
    ValueTooLarge,
)
from tagcache.server.auth.credentials import Credentials
from tagcache.server.auth.rates import Rates
from tagcache.server.http import jsontext
from tagcache.server.http.browsers import BrowserRules
from tagcache.server.http.fields import InvalidField, check_query, read_body
from tagcache.server.http.messages import (
    Call,
    EventualResponse,
    HttpRequest,
    Response,
    failure,
    plain,
    too_many,
    too_many_failures,
)
from tagcache.server.http.routes import Access, Route, Routes
from tagcache.server.observe.traffic import UNKNOWN, Traffic
from tagcache.server.then import then
from tagcache.server.upkeep.slices import Slices

log = Logger(namespace="tagcache.http")

_JSON_TYPE = re.compile(rb"application/(?:json|[^\s;/]+\+json)\s*(?:;.*)?", re.IGNORECASE)
_UNAUTHORIZED = failure(
    401, "unauthorized", headers=b'www-authenticate: Basic realm="TagCache", charset="UTF-8"\r\n'
)
_TOO_LARGE = (ValueTooLarge, AnswerTooLarge)
_NOTHING: dict[str, Any] = {}
# The limit for the body of a request that needs no credentials, or has no valid ones.
_MOST_OPEN_BODY = 64 * 1024
_PERCENT = b"%"[0]
_NOT_FOUND = failure(404, "not_found", "there is no such path")


class HttpApplication:
    """Answers requests according to the table of routes.

    The checks come in this order: host and origin, path and method, rate, authentication, path and
    query, content type, JSON, fields. ``objection`` makes the checks that need no body.
    """

    def __init__(
        self,
        routes: Routes,
        credentials: Credentials,
        rates: Rates,
        settings: Settings,
        traffic: Traffic,
        slices: Slices,
        browsers: BrowserRules,
    ) -> None:
        self._slices = slices
        self._routes = routes
        self._browsers = browsers
        self._credentials = credentials
        self._rates = rates
        self.traffic = traffic
        traffic.know_routes(route.label for route in routes.all)
        self._counts = traffic.routes
        # Has no items while heads that were accepted need no check when they come again.
        self.revoked: list[None] = []
        credentials.on_recheck = self._revoke
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take new settings."""
        self._require_auth = settings.security.require_auth
        self._allowed_origin = settings.server.allowed_origin.encode("latin-1", "replace")
        self.max_body_bytes = settings.server.max_body_bytes
        self._revoke()

    def _revoke(self) -> None:
        """Have all heads checked again that were accepted before."""
        self.revoked.append(None)
        self.revoked = []

    def answer(self, request: HttpRequest) -> EventualResponse:
        methods, raw_key = self._routes.find(request.path)
        route = methods.get(request.method) if methods is not None else None
        self._counts[UNKNOWN if route is None else route.label] += 1
        refusal = self._browsers.refusal(request)
        if refusal is not None:
            return refusal
        if route is None:
            return self._no_route(methods, request)
        if self._rates.limited:
            refusal = self._rate(request)
            if refusal is not None:
                return refusal
        allowed = self._admitted_at_once(route, request)
        if allowed:
            return self._call(route, raw_key, request)
        if allowed is not None:
            return _UNAUTHORIZED
        header = request.headers[b"authorization"]
        checked = self._credentials.verify_header(header, request.peer)
        # A thread checks a hashed password; a plain one is compared at once.
        request.waited = not checked.called
        return checked.addCallbacks(
            lambda right: (
                self._call(route, raw_key, request) if right else self._unauthorized(request)
            ),
            _translate,
        )

    def look_up(self, path: bytes, headers: dict[bytes, bytes], peer: str) -> bytes | None:
        """Return the whole response to a GET that is a plain look-up of a key.

        None if anything else is necessary, even a slow check: ``answer`` then handles the request.
        """
        start, _, key = path.rpartition(b"/")
        route = self._routes.lookups.get(start)
        if (
            route is None
            or route.lookup is None
            or not key
            or self._allowed_origin
            or self._rates.limited
            or not key.isascii()
            or _PERCENT in key
            or not self._browsers.knows_host(headers)
        ):
            return None
        if self._require_auth:
            header = headers.get(b"authorization")
            if header is None or not self._credentials.known_header(header, peer):
                return None
        self._counts[route.label] += 1
        return plain(route.lookup(key))

    def valid_until(self, headers: dict[bytes, bytes]) -> float:
        """Return until when these headers of an answered request need no other check.

        It is in seconds of the monotonic clock, or 0.0 if they need one each time. They do earlier
        if ``revoked`` as it is now gets an item.
        """
        if self._allowed_origin or self._rates.limited:
            return 0.0
        if not self._require_auth:
            return math.inf
        return self._credentials.valid_until(headers[b"authorization"])

    def max_body(self, request: HttpRequest) -> int:
        """Return the maximum length of a request's body in bytes.

        The limit is small for requests without valid credentials, and for open endpoints.
        """
        route = self._routes.route(request.method, request.path)
        if (
            route is None
            or route.access is Access.OPEN
            or self._admitted_at_once(route, request) is False
        ):
            return min(_MOST_OPEN_BODY, self.max_body_bytes)
        return self.max_body_bytes

    def label(self, method: bytes, path: bytes) -> str:
        """Return the name under which requests with this method and path are counted."""
        route = self._routes.route(method, path)
        return UNKNOWN if route is None else route.label

    def still_admits(self, request: HttpRequest) -> bool:
        """Return whether a request that is still being answered would be admitted now."""
        route = self._routes.route(request.method, request.path)
        return (
            route is not None
            and self._browsers.refusal(request) is None
            and self._admitted_at_once(route, request) is True
        )

    def objection(self, request: HttpRequest) -> Response | None:
        methods, _ = self._routes.find(request.path)
        route = methods.get(request.method) if methods is not None else None
        refusal = self._browsers.refusal(request)
        if refusal is not None:
            return refusal
        if route is None:
            return self._no_route(methods, request)
        # Further checks would reveal whether the credentials are right before they are verified.
        return _UNAUTHORIZED if self._admitted_at_once(route, request) is False else None

    def header_lines(self, request: HttpRequest) -> bytes:
        """Return the CORS headers for the allowed origin; none if no origin is configured."""
        if not self._allowed_origin:
            return b""
        lines = b"vary: origin\r\n"
        if request.headers.get(b"origin") == self._allowed_origin:
            lines += b"access-control-allow-origin: %b\r\n" % self._allowed_origin
            lines += b"access-control-allow-credentials: true\r\n"
            if b"access-control-request-method" in request.headers:
                lines += (
                    b"access-control-allow-methods: GET, POST, PUT, DELETE\r\n"
                    b"access-control-allow-headers: authorization, content-type\r\n"
                    b"access-control-max-age: 600\r\n"
                )
        return lines

    def _no_route(self, methods: dict[bytes, Route] | None, request: HttpRequest) -> Response:
        """Return the response for an unknown path, or an unknown method of a path."""
        if methods is None:
            return _NOT_FOUND
        allow = b"allow: " + b",".join(methods) + b"\r\n"
        if request.method == b"OPTIONS":
            return Response(200, b"", headers=allow)
        return failure(405, "method_not_allowed", "see the allow header", headers=allow)

    def _rate(self, request: HttpRequest) -> Response | None:
        wait = self._rates.take(request.peer)
        if not wait:
            return None
        return too_many("rate_limited", "too many requests from this address", wait)

    def _admitted_at_once(self, route: Route, request: HttpRequest) -> bool | None:
        """Return whether the request is admitted; None if only a slow check can tell."""
        if route.access is Access.OPEN or not self._require_auth:
            return True
        if route.access is Access.LOOPBACK_OPEN and is_loopback(request.peer):
            return True
        header = request.headers.get(b"authorization")
        if header is None:
            return False
        return self._credentials.known_header(header, request.peer)

    def _unauthorized(self, request: HttpRequest) -> Response:
        """Return the response to credentials that are wrong, or were not checked."""
        pause = self._credentials.throttle.pause(request.peer)
        return too_many_failures(pause) if pause else _UNAUTHORIZED

    def _call(self, route: Route, raw_key: bytes, request: HttpRequest) -> EventualResponse:
        try:
            if request.query or route.needs_query or b"%" in raw_key:
                key, query = self._path_and_query(route, raw_key, request)
            else:
                key, query = raw_key.decode(), _NOTHING
        except UnicodeDecodeError:
            return failure(400, "bad_request", "the key in the path is not UTF-8")
        except InvalidField as error:
            return failure(400, "bad_request", str(error))
        if route.body is not None:
            wrong_type = _content_type(request)
            if wrong_type is not None:
                return wrong_type
        if request.too_large:
            return failure(413, "body_too_large", f"at most {self.max_body(request)} bytes")
        if route.body is None:
            return self._run(route, Call(request, key, query, _NOTHING))
        fields = route.body
        try:
            response = then(
                self._slices.finish(read_body(request.body, fields)),
                lambda body: self._run(route, Call(request, key, query, body)),
            )
        except (jsontext.NotJson, InvalidField) as error:
            return _refused_body(error)
        if isinstance(response, Deferred):
            response.addErrback(_refuse_body)
        return response

    def _run(self, route: Route, call: Call) -> EventualResponse:
        try:
            response = route.endpoint(call)
        except TagCacheError as error:
            refusal = response_to(error)
            if refusal is None:
                raise
            return refusal
        if isinstance(response, Deferred):
            response.addErrback(_translate)
        return response

    def _path_and_query(
        self, route: Route, raw_key: bytes, request: HttpRequest
    ) -> tuple[str, dict[str, object]]:
        """Return the checked path and query. Raises UnicodeDecodeError, InvalidField."""
        key = unquote_to_bytes(raw_key).decode()
        query = {}
        if route.query:
            pairs = parse_qsl(
                request.query.decode("latin-1"),
                keep_blank_values=True,
                errors="replace",
            )
            query = check_query(pairs, route.query)
        return key, query


def _content_type(request: HttpRequest) -> Response | None:
    """Return the error for a body whose content type is not JSON; None if it is JSON."""
    given = request.headers.get(b"content-type", b"")
    if given == b"application/json" or _JSON_TYPE.fullmatch(given):
        return None
    return failure(415, "unsupported_media_type", "content-type must be application/json")


def response_to(error: BaseException | None) -> Response | None:
    """Return the response to an error that an endpoint may raise; None for an unexpected one."""
    if isinstance(error, OutOfMemory):
        return failure(507, error.code, str(error))
    if isinstance(error, BackendUnavailable):
        return failure(503, error.code, str(error))
    if isinstance(error, InvalidDatabase):
        return failure(400, error.code, str(error))
    if isinstance(error, CommandError):
        return failure(413 if isinstance(error, _TOO_LARGE) else 422, error.code, str(error))
    if isinstance(error, CredentialsFixed):
        return failure(409, "credentials_fixed", str(error))
    if isinstance(error, ConfigurationError):
        log.error("nothing was changed: {why}", why=str(error))
        return failure(500, "not_persisted", "; ".join(error.faults))
    return None


def is_loopback(peer: str) -> bool:
    """Return whether an address belongs to this machine: loopback, or a UNIX socket."""
    if peer == "unix":
        return True
    try:
        ip = ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def _translate(reason: Failure) -> Response | Failure:
    return response_to(reason.value) or reason


def _refuse_body(reason: Failure) -> Response:
    reason.trap(jsontext.NotJson, InvalidField)
    return _refused_body(reason.value)


def _refused_body(error: BaseException | None) -> Response:
    if isinstance(error, jsontext.NotJson):
        return failure(400, "invalid_json", str(error))
    return failure(422, "invalid_field", str(error))
