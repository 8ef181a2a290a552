"""Endpoints to observe the server: samples, events, slow commands, traffic, metrics."""

from __future__ import annotations

from tagcache.server.http.fields import UNSIGNED, Field, one_of
from tagcache.server.http.messages import Call, EventualResponse, Response, json_response
from tagcache.server.http.routes import route
from tagcache.server.http.schema import INTEGER, NUMBER, STRING, array, nullable, obj
from tagcache.server.http.sse import Streams
from tagcache.server.observe.events import KINDS, EventLog
from tagcache.server.observe.history import History
from tagcache.server.observe.metrics import CONTENT_TYPE, Metrics
from tagcache.server.observe.traffic import MOST_SLOW, Traffic

_MOST_EVENTS = 500
_HISTORY = obj(
    interval_seconds=NUMBER,
    columns=array(STRING),
    samples=array(array({"type": ["number", "null"]})),
)
_LOG = obj(events=array(obj(id=INTEGER, time=NUMBER, kind=STRING)))
_SLOW = obj(
    id=INTEGER,
    time=NUMBER,
    duration_ms=NUMBER,
    command=STRING,
    commands=INTEGER,
    argument=nullable(STRING),
    peer=STRING,
)
_COUNTS = {"type": "object", "additionalProperties": INTEGER}
_TRAFFIC = obj(**dict.fromkeys(("commands", "requests", "errors", "failed_requests"), _COUNTS))


class Observation:
    """Endpoints for counts, measurements and events."""

    def __init__(
        self,
        traffic: Traffic,
        history: History,
        events: EventLog,
        streams: Streams,
        metrics: Metrics,
    ) -> None:
        self._traffic = traffic
        self._history = history
        self._events = events
        self._streams = streams
        self._metrics = metrics

    @route("GET", "/history", _HISTORY)
    def history(self, call: Call) -> Response:
        """The samples of the last hour, one every two seconds."""
        return Response(200, self._history.dump())

    @route("GET", "/events", None, content_type="text/event-stream", statuses=(503,))
    def events(self, call: Call) -> EventualResponse:
        """Samples and events as they occur: server-sent events, until one side closes."""
        return self._streams.open(call)

    @route(
        "GET",
        "/events/log",
        _LOG,
        query=(
            Field("kind", one_of(*KINDS), "only events of this kind"),
            Field("after", UNSIGNED, "only events with a larger id"),
            Field("limit", UNSIGNED, f"absent: 100; never more than {_MOST_EVENTS}"),
        ),
    )
    def log(self, call: Call) -> Response:
        """Recent invalidations, slow commands, refused connections, warnings and errors, newest
        first.
        """
        limit = min(call.query.get("limit", 100), _MOST_EVENTS)
        kind = call.query.get("kind")
        found = self._events.after(
            call.query.get("after", 0), limit, KINDS if kind is None else (kind,)
        )
        return json_response({"events": found})

    @route(
        "GET",
        "/slowlog",
        obj(slow_command_ms=INTEGER, total=INTEGER, slow=array(_SLOW)),
        query=(Field("limit", UNSIGNED, f"never more than {MOST_SLOW}"),),
    )
    def slow_log(self, call: Call) -> Response:
        """The recent slow commands, newest first."""
        limit = min(call.query.get("limit", MOST_SLOW), MOST_SLOW)
        return json_response(
            {
                "slow_command_ms": self._traffic.slow_ms,
                "total": self._traffic.slow_total,
                "slow": [each.describe() for each in self._traffic.slow(limit)],
            }
        )

    @route("GET", "/traffic", _TRAFFIC)
    def traffic(self, call: Call) -> Response:
        """Counts since the start: commands by verb, HTTP requests by route, errors by code, failed
        requests by status.
        """
        return json_response(self._traffic.describe())

    @route("GET", "/metrics", None, content_type="text/plain")
    def metrics(self, call: Call) -> Response:
        """Counters and gauges for Prometheus."""
        return Response(200, self._metrics.text(), CONTENT_TYPE)
