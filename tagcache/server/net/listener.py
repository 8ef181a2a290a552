"""Admit each new connection, set its socket options, and count it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from tagcache.config.settings import Settings
from tagcache.server.net.connections import Connection, Connections, address_text
from tagcache.server.observe.log_throttle import LogThrottle
from tagcache.sockopts import AppliedOption, SocketOptions, socket_of

log = Logger(namespace="tagcache.listener")


class Rejection(enum.Enum):
    """Why a connection is rejected."""

    ADDRESS = "address not allowed"
    FULL = "max_connections reached"
    HTTP = "received an HTTP request, maybe from a page in a browser"
    TLS = "received a TLS handshake, but this port does not use TLS"


class Listener:
    """The policy of one listening port: who may connect, how many, with which socket options.

    ``counted`` says whether its connections count towards ``max_connections``: an admin shell
    must stay reachable when clients have used up the limit.
    """

    def __init__(
        self, name: str, settings: Settings, connections: Connections, counted: bool = True
    ) -> None:
        self.name = name
        self.connections = connections
        self.counted = counted
        self._unhonoured: set[str] = set()
        self._refusals = LogThrottle()
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take new settings; connections from addresses that are no longer allowed are closed.

        The socket options apply to new connections only.
        """
        self.socket_options = SocketOptions.from_settings(settings.performance)
        self.max_connections = settings.performance.max_connections
        self.allowed = settings.security.allowed_ips
        self._unhonoured.clear()
        self.close(
            lambda connection: not self._admits(connection.host),
            "their addresses are no longer in security.allowed_ips",
        )

    def close(self, stale: Callable[[Connection], bool], why: str) -> None:
        """Close at once the connections of this listener for which ``stale`` returns True."""
        closed = 0
        for connection in self.connections:
            if connection.listener == self.name and stale(connection):
                connection.abort()
                closed += 1
        if closed:
            log.info(
                "{listener}: closed {count} connections: {why}",
                listener=self.name,
                count=closed,
                why=why,
            )

    def refuse(self, address: IAddress | None) -> Rejection | None:
        """Return why a connection from ``address`` is rejected; None if it is admitted."""
        if not self._admits(getattr(address, "host", None)):
            refusal = Rejection.ADDRESS
        elif self.counted and self.connections.clients >= self.max_connections:
            refusal = Rejection.FULL
        else:
            return None
        self.refused(address_text(address), refusal)
        return refusal

    def refused(self, peer: str, refusal: Rejection) -> None:
        """Count a refused connection, and log some of them."""
        self.connections.refused += 1
        more = self._refusals.now()
        if more is not None:
            log.warn(
                "{listener}: refused {peer}: {reason}{more}",
                more=more,
                listener=self.name,
                peer=peer,
                reason=refusal.value,
                refusal=refusal,
            )

    def opened(self, transport: Any) -> Connection:
        """Set the socket options of a new connection, and record it."""
        with socket_of(transport) as sock:
            options = self.socket_options.apply(sock) if sock is not None else ()
        self._warn(options)
        connection = self.connections.open(self.name, transport, options, self.counted)
        log.debug(
            "{listener}: connection {id} from {peer} opened",
            listener=self.name,
            id=connection.id,
            peer=connection.peer,
        )
        return connection

    def closed(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self.connections.close(connection)
        log.debug(
            "{listener}: connection {id} from {peer} closed",
            listener=self.name,
            id=connection.id,
            peer=connection.peer,
        )

    def _admits(self, host: str | None) -> bool:
        if not self.allowed or host in (None, "unix"):
            return True
        ip = ip_address(host)
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip.version == network.version and ip in network for network in self.allowed)

    def _warn(self, options: tuple[AppliedOption, ...]) -> None:
        """Log each option that differs from the request, once for each configuration."""
        for option in options:
            if not option.honoured and option.name not in self._unhonoured:
                self._unhonoured.add(option.name)
                log.warn(
                    "{listener}: socket option {option}: asked {asked}, in effect {effective}{why}",
                    listener=self.name,
                    option=option.name,
                    asked=option.asked,
                    effective=option.effective,
                    why=f" ({option.error})" if option.error else "",
                )
