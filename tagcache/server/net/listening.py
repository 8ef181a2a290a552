"""The service of a listening port, which sets the options of its socket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from socket import AF_UNSPEC
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.config.settings import Settings
from tagcache.errors import ListenError
from tagcache.server.net.connections import address_text
from tagcache.server.net.endpoints import listen
from tagcache.server.net.listener import Listener
from tagcache.sockopts import AppliedOption, ListenOptions, socket_of

log = Logger(namespace="tagcache.service")


class ListenerService(Service):
    """Listens while the service runs. A port that cannot be opened fails the start.

    ``knob`` is the name of the setting of the port, for messages. ``endpoint`` is a Twisted
    endpoint description.
    """

    port: IListeningPort | None = None
    socket_options: tuple[AppliedOption, ...] = ()

    def __init__(
        self,
        knob: str,
        endpoint: str,
        factory: IProtocolFactory,
        listener: Listener,
        options: ListenOptions,
        reactor: Any,
    ) -> None:
        self.setName(listener.name)
        self._listener = listener
        self._knob = knob
        self.endpoint = endpoint
        self._factory = factory
        self._options = options
        self._reactor = reactor

    @property
    def address(self) -> str:
        """The address it listens on, as text; empty while it does not listen."""
        return address_text(self.port.getHost()) if self.port is not None else ""

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        listening = maybeDeferred(
            listen, self.endpoint, self._factory, self._options, self._reactor
        )
        failed: list[Failure] = []
        listening.addCallbacks(self._listening, failed.append)
        if failed:
            error = failed[0].value
            reason = getattr(error, "socketError", None) or error
            raise ListenError(
                f"{self.name}: cannot listen on {self.endpoint} ({self._knob}): {reason}"
            )

    def startService(self) -> None:
        if self.port is None:
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        if self.port is None:
            return succeed(None)
        port, self.port = self.port, None
        return maybeDeferred(port.stopListening)

    def configure(self, settings: Settings) -> None:
        """Apply a new receive buffer size, which accepted sockets inherit."""
        wanted = ListenOptions.from_settings(settings.performance)
        if wanted.receive_buffer_bytes == self._options.receive_buffer_bytes:
            return
        if wanted.receive_buffer_bytes is None:
            log.warn(
                "{name}: performance.receive_buffer_bytes returns to the system's default only "
                "at the next start",
                name=self.name,
            )
            return
        self._options = replace(self._options, receive_buffer_bytes=wanted.receive_buffer_bytes)
        self._apply()

    def _listening(self, port: IListeningPort) -> None:
        self.port = port
        family = self._apply()
        each = self._listener.socket_options.probe(family)
        different = [one for one in (*self.socket_options, *each) if not one.honoured]
        log.info(
            "{name}: listening on {address}; socket options: {options}",
            name=self.name,
            address=self.address,
            options=_options_text(different) if different else "as asked",
        )
        log.debug(
            "{name}: options of the listening socket: {listening}; of each connection: {each}",
            name=self.name,
            listening=_options_text(self.socket_options),
            each=_options_text(each),
        )
        for option in self.socket_options:
            if not option.honoured:
                log.warn(
                    "{name}: listening socket: {option}",
                    name=self.name,
                    option=_option_text(option),
                )

    def _apply(self) -> int:
        """Set the listening socket's options; return its address family."""
        with socket_of(self.port) as sock:
            if sock is None:
                return AF_UNSPEC
            self.socket_options = self._options.apply_listening(sock)
            return sock.family


def _options_text(options: Sequence[AppliedOption]) -> str:
    return ", ".join(_option_text(each) for each in options) or "no options"


def _option_text(option: AppliedOption) -> str:
    asked = "system's choice" if option.asked is None else option.asked
    text = f"{option.name}={option.effective}"
    if option.asked is None or option.effective != option.asked:
        text += f" (asked: {asked})"
    return text + (f" ({option.error})" if option.error else "")
