"""Endpoints for the dashboard, a page in the browser."""

from __future__ import annotations

from tagcache.server.http.messages import Call, Response
from tagcache.server.http.routes import Access, route
from tagcache.server.http.static import DashboardFiles


class Dashboard:
    """Endpoints for the files of the dashboard."""

    def __init__(self) -> None:
        self._files = DashboardFiles()

    @route("GET", "/", None, access=Access.OPEN, content_type="text/html", statuses=(304,))
    def index(self, call: Call) -> Response:
        """The dashboard: a page for people."""
        return self._files.response(call.request, "index.html")

    @route(
        "GET",
        "/dashboard/{key}",
        None,
        access=Access.OPEN,
        content_type="text/javascript",
        statuses=(304, 404),
    )
    def file(self, call: Call) -> Response:
        """A file of the dashboard."""
        return self._files.response(call.request, call.key)
