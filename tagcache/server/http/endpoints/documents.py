"""The description of the API, for programs and for people."""

from __future__ import annotations

from tagcache.server.http.messages import Call, Response, json_response
from tagcache.server.http.openapi import describe, page
from tagcache.server.http.routes import Access, Routes, route, routes_of


class Documents:
    """Endpoints that describe all endpoints.

    ``routes`` are those of all groups.
    """

    def __init__(self, *groups: object) -> None:
        self.routes = Routes(routes_of(*groups, self))
        document = describe(self.routes.all)
        self._openapi = json_response(document)
        self._page = page(document)

    @route("GET", "/openapi.json", {"type": "object"}, access=Access.OPEN)
    def openapi(self, call: Call) -> Response:
        """This description."""
        return self._openapi

    @route("GET", "/docs", None, access=Access.OPEN, content_type="text/html; charset=utf-8")
    def docs(self, call: Call) -> Response:
        """The description of the API as a page."""
        return self._page
