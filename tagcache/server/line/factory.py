"""Makes a protocol for each connection of the cache port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tagcache.config.settings import Settings
from tagcache.model.limits import Limits
from tagcache.server.auth.rates import Rates
from tagcache.server.commands.local import Commands
from tagcache.server.line.protocol import CacheProtocol
from tagcache.server.net.listener import Listener
from tagcache.server.net.serving import ServedProtocol, ServingFactory
from tagcache.wire import line as wire


def limits_of(settings: Settings) -> Limits:
    """Return what ``[cache]`` says of entries."""
    cache = settings.cache
    return Limits(
        max_key_length=cache.max_key_length,
        max_value_length=cache.max_value_length,
        max_tags_per_entry=cache.max_tags_per_entry,
        max_tag_length=cache.max_tag_length,
        default_ttl_ms=round(settings.cache.default_ttl_seconds * 1000),
        max_memory=cache.max_memory,
    )


class CacheFactory(ServingFactory):
    """The door of the line protocol."""

    full = wire.error("max_connections")

    def __init__(
        self,
        listener: Listener,
        commands: Commands,
        rates: Rates,
        settings: Settings,
        reactor: Any,
        protocol: Callable[..., CacheProtocol] = CacheProtocol,
    ) -> None:
        self._protocol = protocol
        self._commands = commands
        self._rates = rates
        self._require_auth = False
        super().__init__(listener, settings, reactor)

    def configure(self, settings: Settings) -> None:
        """Take new settings.

        Connections that never had to log in are closed where that is required now.
        """
        super().configure(settings)
        self._max_line_length = wire.max_line_length(limits_of(settings))
        had_to, self._require_auth = self._require_auth, settings.security.require_tcp_auth
        if self._require_auth and not had_to:
            self.listener.close(
                lambda connection: not connection.logged_in,
                "they have not logged in, and security.require_tcp_auth is true now",
            )
        for protocol in self.protocols:
            protocol.use_limit(self._max_line_length)

    def credentials_changed(self) -> None:
        """Close the connections that logged in with the credentials of before."""
        self.listener.close(
            lambda connection: connection.logged_in, "the credentials they logged in with changed"
        )

    def build(self) -> ServedProtocol:
        verbs = self._commands.verbs(authenticated=not self._require_auth)
        return self._protocol(
            self, verbs, self._max_line_length, self._rates, self._commands.traffic
        )
