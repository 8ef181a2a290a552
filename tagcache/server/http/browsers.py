"""The rules about Host, Origin and Sec-Fetch-Site, which limit what a page in a browser can do.

A page on the internet can make an operator's browser send requests to this server. The browser
attaches the credentials that it remembers; these headers say where the request comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from twisted.logger import Logger

from tagcache.config.settings import Settings
from tagcache.server.http.messages import HttpRequest, Response, failure
from tagcache.server.observe.log_throttle import LogThrottle

log = Logger(namespace="tagcache.http")

_HOST = re.compile(
    rb"(\[[0-9a-f:.]+\]|[^\x00-\x20\x7f-\xff:/?#@\[\]\\]+)(?::[0-9]*)?[ \t]*", re.IGNORECASE
)
_DEFAULT_PORT = {b"http": b":80", b"https": b":443"}
_SAFE_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_FOREIGN_SITES = frozenset((b"cross-site", b"same-site"))
# The most values of Host that are remembered as checked.
_MOST_REMEMBERED = 256
_MOST_LOGGED = 200

_BAD_HOST = failure(400, "bad_request", "Host is not a name or an address, with or without a port")
_UNKNOWN_HOST = failure(
    421, "unknown_host", "server.allowed_hosts does not name the requested host"
)
_FOREIGN_ORIGIN = failure(
    403,
    "foreign_origin",
    "a page of another origin cannot change anything; server.allowed_origin allows one",
)


class BrowserRules:
    """Refuses requests from a page of another origin, or for a host name that is not ours.

    ``own_names`` are the names of this machine. An address, ``localhost`` and a name without a
    dot are always known, because nobody can register such a name and point it to this machine.
    """

    def __init__(self, own_names: Iterable[str], settings: Settings) -> None:
        self._own_names = frozenset(_plain(name) for name in own_names)
        self._good_hosts: set[bytes] = set()
        self._unknown_hosts = LogThrottle()
        self._foreign_origins = LogThrottle()
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take new settings."""
        server = settings.server
        self._allowed_origin = server.allowed_origin.encode("latin-1", "replace")
        patterns = server.allowed_hosts
        self._allowed = self._own_names.union(patterns)
        self._suffixes = tuple(each[1:] for each in patterns if each.startswith("*."))
        self._good_hosts.clear()

    def knows_host(self, headers: dict[bytes, bytes]) -> bool:
        """Return whether the Host of a request is a name of this server.

        A request without Host is HTTP/1.0, which no browser uses.
        """
        host = headers.get(b"host")
        return host is None or host in self._good_hosts or self._is_known(host)

    def refusal(self, request: HttpRequest) -> Response | None:
        """Return the error for a request that no credentials could make acceptable, or None."""
        headers = request.headers
        if not self.knows_host(headers):
            return self._refuse_host(request)
        if request.method in _SAFE_METHODS or not self._is_foreign(request):
            return None
        _log(self._foreign_origins, request, "origin", headers.get(b"origin", b"another"))
        return _FOREIGN_ORIGIN

    def _refuse_host(self, request: HttpRequest) -> Response:
        host = request.headers[b"host"]
        if _HOST.fullmatch(host) is None:
            return _BAD_HOST
        _log(self._unknown_hosts, request, "host", host)
        return _UNKNOWN_HOST

    def _is_known(self, host: bytes) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = _plain(match[1].decode("ascii"))
        if (
            ("." not in name and name[:1] not in ("", "["))
            or name in self._allowed
            or name.endswith(self._suffixes)
            or _is_address(name.strip("[]"))
        ):
            if len(self._good_hosts) >= _MOST_REMEMBERED:
                self._good_hosts.clear()
            self._good_hosts.add(host)
            return True
        return False

    def _is_foreign(self, request: HttpRequest) -> bool:
        """Return whether a request comes from a page of another origin that is not allowed."""
        headers = request.headers
        origin = headers.get(b"origin")
        if origin and origin == self._allowed_origin:
            return False
        # The parser does not strip trailing space from a value.
        if headers.get(b"sec-fetch-site", b"").rstrip() in _FOREIGN_SITES:
            return True
        return origin is not None and not _is_own(origin, request)


def _is_own(origin: bytes, request: HttpRequest) -> bool:
    """Return whether the browser sent the request to this same origin.

    A request without TLS may have used TLS up to a proxy.
    """
    scheme, _, authority = origin.partition(b"://")
    port = _DEFAULT_PORT.get(scheme)
    if port is None or (request.secure and scheme != b"https"):
        return False
    host = request.headers.get(b"host", b"").lower()
    return host != b"" and authority in (host, host.removesuffix(port))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _plain(name: str) -> str:
    """Return a name for comparison: in lower case, without a final dot."""
    return name.lower().removesuffix(".")


def _log(throttle: LogThrottle, request: HttpRequest, what: str, value: bytes) -> None:
    more = throttle.now()
    if more is not None:
        log.warn(
            "http: refused {method} from {peer}: {what} {value!r}{more}",
            method=request.method.decode(),
            peer=request.peer,
            what=what,
            value=value[:_MOST_LOGGED].decode("latin-1"),
            more=more,
            refusal=what,
        )
