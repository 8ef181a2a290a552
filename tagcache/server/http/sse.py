"""Server-sent events: samples and events, pushed to whoever listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from twisted.internet.defer import Deferred, succeed

from tagcache.server.http.messages import Call, Outlet, Request, Response, Stream, failure
from tagcache.server.observe.events import EventLog

MOST_STREAMS = 32
CONTENT_TYPE = b"text/event-stream; charset=utf-8"
# Of one batch; who needs more asks for the log.
_MOST_EVENTS = 100
_TOO_MANY = failure(503, "too_many_streams", f"at most {MOST_STREAMS} at once")


class Streams:
    """The open streams of ``GET /events``.

    Every sample is pushed, which is the heart-beat too: a client that hears nothing for some
    seconds may take the connection for lost. ``engine`` returns what INFO tells of where entries
    are kept, which is pushed with a sample when it has changed; None where it never does.
    ``admits`` says of the request that a stream answers whether it would still be let in; one that
    would not (its token has expired, the password was changed) is told so, and ends.
    """

    def __init__(
        self, events: EventLog, engine: Callable[[], dict[str, Any] | None] = lambda: None
    ) -> None:
        self.admits: Callable[[Request], bool] = lambda request: True
        self._events = events
        self._engine = engine
        # What every stream was told of it.
        self._engine_told = b""
        self._open: dict[Outlet, Request] = {}
        # The event up to which every stream was told.
        self._told = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, call: Call) -> Deferred[Response]:
        """Answer to a request for a stream."""
        if len(self._open) >= MOST_STREAMS:
            self.refused += 1
            return succeed(_TOO_MANY)
        request = call.request

        def opened(outlet: Outlet) -> None:
            self._open[outlet] = request
            outlet.push(event("hello", orjson.dumps({"connection": outlet.id})))
            # Told to all again with the next sample.
            self._engine_told = b""

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
        """Push a sample (a JSON array), and what has happened since the last one."""
        last = self._events.last
        data = event("sample", sample)
        if self._open and last > self._told:
            new = self._events.after(self._told, _MOST_EVENTS)
            data += event("log", orjson.dumps(new))
        self._told = last
        stands = self._engine() if self._open else None
        if stands is not None and (engine := orjson.dumps(stands)) != self._engine_told:
            self._engine_told = engine
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
