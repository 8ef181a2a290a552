"""Endpoints for the connections of all listeners."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from tagcache.server.http.fields import UNSIGNED, Field
from tagcache.server.http.messages import Call, EventualResponse, json_list, json_response
from tagcache.server.http.routes import route
from tagcache.server.http.schema import BOOLEAN, INTEGER, array, obj
from tagcache.server.net.connections import Connections
from tagcache.server.upkeep.slices import Slices


class ConnectionList:
    """Endpoints for connections."""

    def __init__(self, connections: Connections, slices: Slices) -> None:
        self._connections = connections
        self._slices = slices

    @route("GET", "/connections", obj(connections=array({"type": "object"})))
    def connections(self, call: Call) -> EventualResponse:
        """The open connections, with their requested and effective socket options."""
        described: list[bytes] = []
        connections = list(self._connections)
        now = self._connections.monotonic()

        def describe_each() -> Iterator[None]:
            for connection in connections:
                described.append(orjson.dumps(connection.describe(now)))
                yield

        done = self._slices.run(describe_each())
        return done.addCallback(lambda _: json_list(b"connections", described))

    @route(
        "POST",
        "/connections/close",
        obj(id=INTEGER, closed=BOOLEAN),
        body=(Field("id", UNSIGNED, "its id, from /connections", required=True),),
    )
    def close(self, call: Call) -> EventualResponse:
        """Close a connection at once."""
        id = call.body["id"]
        connection = self._connections.get(id)
        if connection is not None:
            abort = connection.abort

            def soon() -> Iterator[None]:
                # Close after the response is sent, because it may use this same connection.
                yield
                abort()

            self._slices.run(soon())
        return json_response({"id": id, "closed": connection is not None})
