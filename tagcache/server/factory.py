"""Makes a protocol for each connection of the cache port, and sees them off at the end."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import LoopingCall

from tagcache import wire
from tagcache.config.settings import Settings
from tagcache.engine.limits import Limits
from tagcache.server.commands import Commands
from tagcache.server.listener import Listener, Refusal
from tagcache.server.protocol import CacheProtocol, RefusedProtocol

_FULL = wire.error("max_connections")


def limits_of(settings: Settings) -> Limits:
    """Return what ``[cache]`` says of entries."""
    cache = settings.cache
    return Limits(
        max_key_length=cache.max_key_length,
        max_value_length=cache.max_value_length,
        max_tags_per_entry=cache.max_tags_per_entry,
        max_tag_length=cache.max_tag_length,
        default_ttl_ms=round(settings.cache.default_ttl_seconds * 1000),
    )


class CacheFactory(ServerFactory):
    """Admits connections, arms their protocols with its options, and ends idle ones."""

    noisy = False

    def __init__(
        self, listener: Listener, commands: Commands, settings: Settings, reactor: Any
    ) -> None:
        self.listener = listener
        self._commands = commands
        self._reactor = reactor
        self._protocols: set[CacheProtocol] = set()
        self._drained: Deferred[None] | None = None
        self._idle_check = LoopingCall(self._end_idle)
        self._idle_check.clock = reactor
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take new settings; connections that are open keep their reply limit and their login."""
        self._max_line_length = wire.max_line_length(limits_of(settings))
        self._max_reply_buffer = settings.performance.max_reply_buffer_bytes
        self._require_auth = settings.security.require_tcp_auth
        self._idle_timeout = settings.performance.idle_timeout_seconds
        for protocol in self._protocols:
            protocol.use_limit(self._max_line_length)
        if self._idle_check.running:
            self._idle_check.stop()
        if self._idle_timeout:
            self._idle_check.start(min(max(self._idle_timeout / 4, 0.05), 60), now=False)

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        refusal = self.listener.refuse(addr)
        if refusal is Refusal.ADDRESS:
            return None
        if refusal is Refusal.FULL:
            return RefusedProtocol(_FULL)
        verbs, otherwise = self._commands.verbs(authenticated=not self._require_auth)
        protocol = CacheProtocol(
            self.listener,
            verbs,
            otherwise,
            self._max_line_length,
            self._max_reply_buffer,
            self._reactor.callLater,
            self._protocols.add,
            self._lost,
        )
        protocol.factory = self
        return protocol

    def drain(self, grace: float) -> Deferred[None]:
        """Answer what has arrived, then close every connection; nothing outlives ``grace`` seconds.

        The Deferred fires when the last connection is gone. The port must not listen any more.
        """
        if self._idle_check.running:
            self._idle_check.stop()
        for protocol in list(self._protocols):
            protocol.drain()
        if not self._protocols:
            return succeed(None)
        self._drained = Deferred()
        too_late = self._reactor.callLater(grace, self._abort_all)
        return self._drained.addBoth(lambda _: too_late.active() and too_late.cancel())

    def _lost(self, protocol: CacheProtocol) -> None:
        self._protocols.discard(protocol)
        if self._drained is not None and not self._protocols:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def _abort_all(self) -> None:
        for protocol in list(self._protocols):
            protocol.connection.abort()

    def _end_idle(self) -> None:
        now = self.listener.connections.monotonic()
        for protocol in list(self._protocols):
            if now - protocol.connection.last_active >= self._idle_timeout:
                protocol.end_idle()
