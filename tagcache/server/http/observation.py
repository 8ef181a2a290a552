"""The endpoints to watch the server by: history, events, metrics, connections, the slow log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred

from tagcache.server.http.fields import UNSIGNED, Field, one_of
from tagcache.server.http.messages import Call, Response, json_response
from tagcache.server.http.routes import Access, Route
from tagcache.server.http.schema import (
    BOOLEAN,
    INTEGER,
    NUMBER,
    STRING,
    array,
    nullable,
    obj,
)
from tagcache.server.http.sse import Streams
from tagcache.server.net.connections import Connections
from tagcache.server.observe.events import KINDS, EventLog
from tagcache.server.observe.history import History
from tagcache.server.observe.metrics import CONTENT_TYPE, Metrics
from tagcache.server.observe.traffic import MOST_SLOW, Traffic
from tagcache.server.then import then
from tagcache.server.upkeep.slices import Slices

MOST_EVENTS = 500
_COUNTS = {"type": "object", "additionalProperties": INTEGER}
_SLOW = obj(
    id=INTEGER,
    time=NUMBER,
    duration_ms=NUMBER,
    command=STRING,
    commands=INTEGER,
    argument=nullable(STRING),
    peer=STRING,
)


class Observation:
    """The endpoints, bound to what they tell about.

    ``info`` returns what INFO answers; ``requires_auth`` says whether the API asks for credentials.
    """

    def __init__(
        self,
        connections: Connections,
        slices: Slices,
        traffic: Traffic,
        history: History,
        events: EventLog,
        streams: Streams,
        metrics: Metrics,
        info: Callable[[], dict[str, Any] | Deferred[dict[str, Any]]],
        requires_auth: Callable[[], bool],
    ) -> None:
        self._connections = connections
        self._slices = slices
        self._traffic = traffic
        self._history = history
        self._events = events
        self._streams = streams
        self._metrics = metrics
        self._info = info
        self._requires_auth = requires_auth

    def info(self, call: Call) -> Response | Deferred[Response]:
        return then(self._info(), json_response)

    def history(self, call: Call) -> Response:
        return Response(200, self._history.dump())

    def log(self, call: Call) -> Response:
        limit = min(call.query.get("limit", 100), MOST_EVENTS)
        kind = call.query.get("kind")
        found = self._events.after(
            call.query.get("after", 0), limit, KINDS if kind is None else (kind,)
        )
        return json_response({"events": found})

    def slow_log(self, call: Call) -> Response:
        limit = min(call.query.get("limit", MOST_SLOW), MOST_SLOW)
        return json_response(
            {
                "slow_command_ms": self._traffic.slow_ms,
                "total": self._traffic.slow_total,
                "slow": [each.describe() for each in self._traffic.slow(limit)],
            }
        )

    def traffic(self, call: Call) -> Response:
        return json_response(self._traffic.describe())

    def metrics(self, call: Call) -> Response:
        return Response(200, self._metrics.text(), CONTENT_TYPE)

    def close(self, call: Call) -> Response:
        id = call.body["id"]
        connection = self._connections.get(id)
        if connection is not None:
            abort = connection.abort

            def soon() -> Iterator[None]:
                # After the answer has gone out, which may be on this very connection.
                yield
                abort()

            self._slices.run(soon())
        return json_response({"id": id, "closed": connection is not None})

    def auth_required(self, call: Call) -> Response:
        return json_response({"auth_required": self._requires_auth()})

    def routes(self) -> list[Route]:
        """Return what leads here."""
        post, get = "POST", "GET"
        return [
            Route(
                *(
                    get,
                    "/info",
                    self.info,
                    "What INFO tells: the server, its listeners, its cache.",
                ),
                {"type": "object"},
            ),
            Route(
                *(get, "/history", self.history, "The last hour, a sample every two seconds."),
                obj(
                    interval_seconds=NUMBER,
                    columns=array(STRING),
                    samples=array(array({"type": ["number", "null"]})),
                ),
            ),
            Route(
                *(get, "/events", self._streams.open),
                "Samples and events as they come: server-sent events, until one side closes.",
                None,
                content_type="text/event-stream",
                statuses=(503,),
            ),
            Route(
                *(get, "/events/log", self.log),
                "Invalidations, slow commands, refused connections, warnings and errors of late, "
                "the newest first.",
                obj(events=array(obj(id=INTEGER, time=NUMBER, kind=STRING))),
                query=(
                    Field("kind", one_of(*KINDS), "only of this kind"),
                    Field("after", UNSIGNED, "only those with a larger id"),
                    Field("limit", UNSIGNED, f"absent: 100; never more than {MOST_EVENTS}"),
                ),
            ),
            Route(
                *(get, "/slowlog", self.slow_log, "The slow commands of late, the newest first."),
                obj(slow_command_ms=INTEGER, total=INTEGER, slow=array(_SLOW)),
                query=(Field("limit", UNSIGNED, f"never more than {MOST_SLOW}"),),
            ),
            Route(
                *(get, "/traffic", self.traffic),
                "How many there were since the start: commands by verb, HTTP requests by route, "
                "errors by code, failed requests by status.",
                obj(
                    **dict.fromkeys(("commands", "requests", "errors", "failed_requests"), _COUNTS)
                ),
            ),
            Route(
                *(get, "/metrics", self.metrics, "Counters and gauges for Prometheus."),
                None,
                content_type="text/plain",
            ),
            Route(
                *(post, "/connections/close", self.close, "Close a connection at once."),
                obj(id=INTEGER, closed=BOOLEAN),
                (Field("id", UNSIGNED, "its id, from /connections", required=True),),
            ),
            Route(
                *(get, "/auth/required", self.auth_required),
                "Whether the API asks for credentials.",
                obj(auth_required=BOOLEAN),
                access=Access.OPEN,
            ),
        ]
