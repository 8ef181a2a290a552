"""Create the protocol of each connection of the cache port."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from tagcache.config.limits import limits_of
from tagcache.config.settings import Settings
from tagcache.model.interfaces import IDatabases
from tagcache.server.auth.rates import Rates
from tagcache.server.cache_port.protocol import CacheProtocol
from tagcache.server.commands.table import CommandTable
from tagcache.server.line.framing import LineFraming
from tagcache.server.net.factory import ServingFactory
from tagcache.server.net.listener import Listener
from tagcache.server.net.serving import ServedProtocol
from tagcache.server.observe.events import EventLog
from tagcache.server.observe.log_throttle import LogThrottle
from tagcache.server.observe.traffic import Traffic
from tagcache.server.resp.commands import RespTable
from tagcache.server.resp.framing import RespFraming
from tagcache.server.upkeep.slices import Slices
from tagcache.server.waits import Waits
from tagcache.wire import line as wire

log = Logger(namespace="tagcache.commands")


class CacheFactory(ServingFactory):
    """The cache port: the policy of admission, and the state that all its clients share.

    ``traffic`` counts requests, ``events`` records invalidations, and ``waits`` holds the look-ups
    that wait for a value.
    """

    full = wire.error("max_connections")

    def __init__(
        self,
        listener: Listener,
        table: CommandTable,
        resp_table: RespTable,
        databases: IDatabases,
        slices: Slices,
        events: EventLog,
        traffic: Traffic,
        rates: Rates,
        waits: Waits,
        settings: Settings,
        reactor: Any,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.table = table
        self._resp_table = resp_table
        self.databases = databases
        self.slices = slices
        self.events = events
        self._traffic = traffic
        traffic.know_verbs(table.everything.commands)
        traffic.know_verbs(row.verb for row in resp_table.supported)
        self._rates = rates
        self.waits = waits
        self._wall = wall
        self._left_out = LogThrottle()
        self._require_auth = False
        super().__init__(listener, settings, reactor)

    def configure(self, settings: Settings) -> None:
        """Take new settings.

        Connections without a log-in are closed if one is now required.
        """
        super().configure(settings)
        self._max_line_length = wire.max_line_length(limits_of(settings))
        had_to, self._require_auth = self._require_auth, settings.security.require_tcp_auth
        if self._require_auth and not had_to:
            self.listener.close(
                lambda connection: not connection.logged_in,
                "they have not logged in, and security.require_tcp_auth is now true",
            )
        for protocol in self.protocols:
            protocol.use_limit(self._max_line_length)

    def credentials_changed(self) -> None:
        """Close the connections that logged in with the old credentials."""
        self.listener.close(
            lambda connection: connection.logged_in, "the credentials they logged in with changed"
        )

    def log_left_out(self, peer: str, count: int) -> None:
        """Log that a reply left out keys that a line cannot contain."""
        more = self._left_out.now()
        if more is not None:
            log.info(
                "KEYS for {peer} left out {count} keys that contain a comma or a line feed{more}",
                more=more,
                peer=peer,
                count=count,
            )

    def line_framing(self, protocol: CacheProtocol) -> LineFraming:
        """Return the framing of the line protocol for a connection."""
        return LineFraming(protocol, self.table, self._max_line_length)

    def resp_framing(self, protocol: CacheProtocol) -> RespFraming:
        """Return the framing of RESP for a connection."""
        return RespFraming(protocol, self._resp_table, self._max_line_length, self._wall)

    @property
    def requires_login(self) -> bool:
        """Whether a client must authenticate before anything else."""
        return self._require_auth

    def build(self) -> ServedProtocol:
        return CacheProtocol(self, not self._require_auth, self._rates, self._traffic)
