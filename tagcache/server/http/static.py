"""Serve the files of the dashboard from memory."""

from __future__ import annotations

from hashlib import sha256
from importlib import resources

from tagcache.server.http.messages import HttpRequest, Response, failure

_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_POLICY = (
    b"content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    b"connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'\r\n"
    b"x-content-type-options: nosniff\r\n"
    b"x-frame-options: DENY\r\n"
    b"referrer-policy: no-referrer\r\n"
    b"cross-origin-opener-policy: same-origin\r\n"
    b"cross-origin-resource-policy: same-origin\r\n"
    b"cache-control: no-cache\r\n"
)
_NO_FILE = failure(404, "not_found", "the dashboard has no such file")
_PREFIX = b"/dashboard/"
# The dashboard sends this header with each request.
_MARK = b"tagcache-dashboard"


def comes_from_dashboard(request: HttpRequest) -> bool:
    """Return whether the request comes from the dashboard, or from a browser that loads it."""
    path = request.path
    return _MARK in request.headers or path == b"/" or path.startswith(_PREFIX)


class DashboardFiles:
    """The files of ``tagcache/dashboard``, by name."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, Response, Response]] = {}
        for file in resources.files("tagcache.dashboard").iterdir():
            _, dot, kind = file.name.rpartition(".")
            content_type = _TYPES.get(dot + kind)
            if content_type is None:
                continue
            content = file.read_bytes()
            tag = b'"%b"' % sha256(content).hexdigest()[:32].encode()
            headers = _POLICY + b"etag: %b\r\n" % tag
            self._files[file.name] = (
                tag,
                Response(200, content, content_type, headers),
                Response(304, b"", content_type, headers),
            )

    def response(self, request: HttpRequest, name: str) -> Response:
        """Return a file, or a 304 if the browser has the current one."""
        found = self._files.get(name)
        if found is None:
            return _NO_FILE
        tag, whole, unchanged = found
        known = request.headers.get(b"if-none-match", b"")
        return unchanged if tag in known or known == b"*" else whole
