"""Create the protocol of each HTTP connection, and close connections that are too slow."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from tagcache.config.settings import Settings
from tagcache.server.http.application import HttpApplication
from tagcache.server.http.messages import failure
from tagcache.server.http.protocol import HttpProtocol
from tagcache.server.net.connections import Connection
from tagcache.server.net.factory import ServingFactory
from tagcache.server.net.listener import Listener
from tagcache.server.net.serving import ServedProtocol

_CHECK_SECONDS = 0.5


@implementer(IProtocolNegotiationFactory)
class HttpFactory(ServingFactory):
    """Creates the protocols of the HTTP port.

    ``plain`` is the PlainRequests of database 0; None if there is none.
    """

    full = failure(503, "max_connections", "the server has no room").encode(False, True)

    def __init__(
        self,
        listener: Listener,
        application: HttpApplication,
        settings: Settings,
        reactor: Any,
        plain: Any = None,
    ) -> None:
        self._application = application
        self.plain = plain
        self._timeouts = LoopingCall(self._end_slow)
        self._timeouts.clock = reactor
        super().__init__(listener, settings, reactor)

    def configure(self, settings: Settings) -> None:
        super().configure(settings)
        server = settings.server
        self._head_timeout = server.http_header_timeout_seconds
        self._body_timeout = server.http_body_timeout_seconds
        self._keepalive_timeout = server.http_keepalive_timeout_seconds
        for protocol in self.protocols:
            protocol.forget_head()

    def startFactory(self) -> None:
        self._timeouts.start(_CHECK_SECONDS, now=False)

    def stopFactory(self) -> None:
        if self._timeouts.running:
            self._timeouts.stop()

    def acceptableProtocols(self) -> list[bytes]:
        """Return the protocols that TLS clients may choose by ALPN."""
        return [b"http/1.1"]

    def build(self) -> ServedProtocol:
        return HttpProtocol(self, self._application)

    def _end_slow(self) -> None:
        now = self.listener.connections.monotonic()
        for protocol in list(self.protocols):
            if protocol.overdue(now, self._head_timeout, self._body_timeout):
                protocol.time_out()
            elif protocol.waits_for_request and self._is_idle(protocol.connection, now):
                protocol.end()

    def _is_idle(self, connection: Connection, now: float) -> bool:
        if now - connection.last_active <= self._keepalive_timeout:
            return False
        connection.catch_up()
        return now - connection.last_active > self._keepalive_timeout
