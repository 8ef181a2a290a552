"""Server-sent events: samples and events, pushed to all open streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from twisted.internet.defer import Deferred, succeed

from tagcache.server.http.messages import Call, HttpRequest, Outlet, Response, Stream, failure
from tagcache.server.observe.events import EventLog

MOST_STREAMS = 32
CONTENT_TYPE = b"text/event-stream; charset=utf-8"
# The most events in one batch; a client can get more from /events/log.
_MOST_EVENTS = 100
_TOO_MANY = failure(503, "too_many_streams", f"at most {MOST_STREAMS} at once")


class Streams:
    """The open streams of ``GET /events``.

    Every sample is pushed, and serves as the heartbeat: a client that receives nothing for some
    seconds may consider the connection lost. ``engine`` returns the part of INFO about the engine,
    which is pushed with a sample when it has changed; None if it never changes. ``admits`` returns
    whether the request of a stream would still be admitted. If not (its token has expired, or the
    password has changed), the stream ends with an event that says so.
    """

    def __init__(
        self, events: EventLog, engine: Callable[[], dict[str, Any] | None] = lambda: None
    ) -> None:
        self.admits: Callable[[HttpRequest], bool] = lambda request: True
        self._events = events
        self._engine = engine
        # The last state of the engine that every stream has received.
        self._engine_sent = b""
        self._open: dict[Outlet, HttpRequest] = {}
        # The last event that every stream has received.
        self._sent = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, call: Call) -> Deferred[Response]:
        """Return the stream that answers a request."""
        if len(self._open) >= MOST_STREAMS:
            self.refused += 1
            return succeed(_TOO_MANY)
        request = call.request

        def opened(outlet: Outlet) -> None:
            self._open[outlet] = request
            outlet.push(event("hello", orjson.dumps({"connection": outlet.id})))
            # The next sample brings the state to all streams again, and so to the new one.
            self._engine_sent = b""

        return succeed(
            Stream(
                200,
                b"",
                CONTENT_TYPE,
                b"cache-control: no-store\r\nx-accel-buffering: no\r\n",
                opened,
                self._lost,
            )
        )

    def publish(self, sample: bytes) -> None:
        """Push a sample (a JSON array) and the events since the last one."""
        last = self._events.last
        data = event("sample", sample)
        if self._open and last > self._sent:
            new = self._events.after(self._sent, _MOST_EVENTS)
            data += event("log", orjson.dumps(new))
        self._sent = last
        state = self._engine() if self._open else None
        if state is not None and (engine := orjson.dumps(state)) != self._engine_sent:
            self._engine_sent = engine
            data += event("engine", engine)
        for outlet, request in list(self._open.items()):
            if not self.admits(request):
                self._open.pop(outlet, None)
                outlet.push(event("bye", b'{"reason":"unauthorized"}'))
                outlet.end()
            elif not outlet.push(data):
                self._open.pop(outlet, None)

    def _lost(self, outlet: Outlet) -> None:
        self._open.pop(outlet, None)


def event(name: str, data: bytes) -> bytes:
    """Return one event; ``data`` is one line."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
