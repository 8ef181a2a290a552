"""The base factory of all ports: admits clients, watches them, and drains them at a stop."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.config.settings import Settings
from tagcache.server.net.listener import Listener, Rejection
from tagcache.server.net.serving import LINGER_SECONDS, ServedProtocol
from tagcache.server.observe.log_throttle import LogThrottle
from tagcache.server.upkeep.slices import Turns

log = Logger(namespace="tagcache.serving")


class ClosingProtocol(Protocol):
    """Tells a client why it cannot be served, and closes."""

    transport: Any

    def __init__(self, reply: bytes, reactor: Any) -> None:
        self._reply = reply
        self._reactor = reactor

    def connectionMade(self) -> None:
        # A TLS handshake that never ends must not keep the connection open.
        self._too_late = self._reactor.callLater(LINGER_SECONDS, self.transport.abortConnection)
        self.transport.write(self._reply)
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._too_late.active():
            self._too_late.cancel()


class ServingFactory(ServerFactory):
    """Admits the clients of a port, and drains them at a stop; ``build`` makes their protocol.

    ``full`` is the reply to a client that exceeds the limit of connections.
    """

    noisy = False
    full = b""

    def __init__(self, listener: Listener, settings: Settings, reactor: Any) -> None:
        self.listener = listener
        self.reactor = reactor
        self.protocols: set[Any] = set()
        self._drained: Deferred[None] | None = None
        self.turns = Turns(reactor, listener.connections.monotonic)
        self._idle_check = LoopingCall(self._end_idle)
        self._idle_check.clock = reactor
        # The clients whose transport is paused: how many bytes they had not read at the last check,
        # and since when that number has not changed.
        self._blocked: dict[ServedProtocol, tuple[int, float]] = {}
        self._send_check = LoopingCall(self._drop_unread)
        self._send_check.clock = reactor
        self._out_of_memory = LogThrottle(1.0)
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take new settings."""
        self.max_reply_buffer = settings.performance.max_reply_buffer_bytes
        self._idle_timeout = settings.performance.idle_timeout_seconds
        self._send_timeout = settings.performance.send_timeout_seconds
        _run_often(self._idle_check, self._idle_timeout)
        _run_often(self._send_check, self._send_timeout if self._blocked else 0)

    def build(self) -> ServedProtocol:
        """Return a protocol for an admitted client. Subclasses override it."""
        raise NotImplementedError

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        refusal = self.listener.refuse(addr)
        if refusal is Rejection.ADDRESS:
            return None
        if refusal is Rejection.FULL:
            return ClosingProtocol(self.full, self.reactor)
        return self.build()

    def made(self, protocol: ServedProtocol) -> None:
        """Record that a client has connected."""
        self.protocols.add(protocol)

    def lost(self, protocol: ServedProtocol) -> None:
        """Record that a client has disconnected."""
        self.protocols.discard(protocol)
        self.watch_no_longer(protocol)
        if self._drained is not None and not self.protocols:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def out_of_memory(self, protocol: ServedProtocol) -> None:
        """Log that a client was dropped because the system had no memory left."""
        try:
            more = self._out_of_memory.now()
            if more is not None:
                log.error(
                    "{listener}: dropped {peer}: the system gives no more memory; a lower "
                    "cache.max_memory prevents that{more}",
                    listener=self.listener.name,
                    peer=protocol.connection.peer,
                    more=more,
                )
        except MemoryError:
            pass  # not even enough memory for a log line

    def watch(self, protocol: ServedProtocol) -> None:
        """Start checking whether a client reads its replies."""
        self._blocked[protocol] = (0, self.listener.connections.monotonic())
        if not self._send_check.running:
            _run_often(self._send_check, self._send_timeout)

    def watch_no_longer(self, protocol: ServedProtocol) -> None:
        """Stop checking a client: it reads again, or has disconnected."""
        self._blocked.pop(protocol, None)
        if not self._blocked:
            _run_often(self._send_check, 0)

    def drain(self, grace: float) -> Deferred[None]:
        """Answer what has arrived, then close all connections, within ``grace`` seconds.

        The Deferred fires when the last connection is closed. The port must have stopped listening.
        """
        _run_often(self._idle_check, 0)
        for protocol in list(self.protocols):
            protocol.drain()
        if not self.protocols:
            return succeed(None)
        self._drained = Deferred()
        too_late = self.reactor.callLater(grace, self.abort_all)
        return self._drained.addBoth(lambda _: too_late.cancel() if too_late.active() else None)

    def abort_all(self) -> None:
        """Close every connection at once."""
        for protocol in list(self.protocols):
            protocol.connection.abort()

    def _end_idle(self) -> None:
        now = self.listener.connections.monotonic()
        for protocol in list(self.protocols):
            protocol.connection.catch_up()
            if now - protocol.connection.last_active >= self._idle_timeout:
                protocol.end_idle()

    def _drop_unread(self) -> None:
        now = self.listener.connections.monotonic()
        for protocol, (before, since) in list(self._blocked.items()):
            untaken = protocol.untaken_bytes()
            if untaken != before:
                self._blocked[protocol] = (untaken, now)
            elif now - since >= self._send_timeout:
                log.warn(
                    "{listener}: dropped {peer}: it has read no replies for {seconds} seconds",
                    listener=self.listener.name,
                    peer=protocol.connection.peer,
                    seconds=self._send_timeout,
                )
                protocol.connection.abort()


def _run_often(check: LoopingCall, timeout: float) -> None:
    """Run ``check`` a few times within each timeout (seconds); never if that is 0."""
    if check.running:
        check.stop()
    if timeout:
        check.start(min(max(timeout / 4, 0.05), 60), now=False)
