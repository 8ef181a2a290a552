"""Listen on Twisted endpoint strings, with our options on the listening socket."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import ServerFactory
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from tagcache.server.net.transports import server_transport
from tagcache.server.observe.log_throttle import LogThrottle
from tagcache.sockopts import ListenOptions

log = Logger(namespace="tagcache.listener")


def description(port: str, host: str) -> str:
    """Return the endpoint string for ``port``, which is a number or already such a string."""
    if not port.isdigit():
        return port
    kind = "tcp6" if ":" in host else "tcp"
    return f"{kind}:{port}:interface={quoteStringArgument(host)}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where an endpoint would listen. ``interface`` is None for a UNIX socket."""

    kind: str
    interface: str | None

    @property
    def only_local(self) -> bool:
        """Whether only processes on this machine can reach it."""
        if self.interface is None or self.interface == "localhost":
            return True
        try:
            return ip_address(self.interface).is_loopback
        except ValueError:
            return False


def targets(endpoint: str) -> list[Target]:
    """Return where an endpoint string would listen, without listening.

    Raises ValueError if the string cannot be used; its text says why in a sentence.
    """
    kind = endpoint.partition(":")[0]
    recorder = _RecordingReactor()
    failed: list[Failure] = []
    try:
        serverFromString(recorder, endpoint).listen(ServerFactory()).addErrback(failed.append)
        for failure in failed:
            failure.raiseException()
    except _NotAdopted:
        return recorder.targets
    except ImportError as error:
        # Twisted's TLS is the only kind whose packages may be missing.
        raise ValueError("needs an extra: pip install 'tagcache-server[tls]'") from error
    except Exception as error:
        # Parsers raise many types: OSError for a missing certificate, TypeError for an unknown
        # argument, ValueError for an unknown kind.
        why = str(error)
        if kind == "systemd" and isinstance(error, LookupError):
            why = "systemd has passed no such socket"
        raise ValueError(f"cannot be used as an endpoint: {why}") from error
    # An unknown kind of endpoint is considered open to all.
    return recorder.targets or [Target(kind, "")]


class ListeningReactor:
    """Wraps a reactor to apply ListenOptions to listening sockets.

    Twisted's endpoints create, bind and listen in one call; this sets the options in between.
    """

    def __init__(self, reactor: Any, options: ListenOptions, explicit_backlog: bool) -> None:
        self._reactor = reactor
        self._options = options
        self._explicit_backlog = explicit_backlog

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        listening = _Port(port, factory, self._backlog(backlog), interface, self._reactor)
        listening.options = self._options
        listening.startListening()
        return listening

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        # Imported here because it needs an extra that is only for TLS.
        from twisted.protocols.tls import TLSMemoryBIOFactory

        from tagcache.server.net.tls import ServerTls

        wrapped = TLSMemoryBIOFactory(ServerTls(contextFactory, factory), False, factory)
        listening = self.listenTCP(port, wrapped, backlog, interface)
        listening._type = "TLS"  # type: ignore[attr-defined]  # shown in its log lines
        return listening

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, backlog: int = 50, *args: Any, **more: Any
    ) -> IListeningPort:
        port: IListeningPort = self._reactor.listenUNIX(
            address, factory, self._backlog(backlog), *args, **more
        )
        return port

    def _backlog(self, given: int) -> int:
        wanted = self._options.listen_backlog
        return given if self._explicit_backlog or wanted is None else wanted


@implementer(ILogObserver)
class _OutOfDescriptors:
    """Replaces Twisted's log line for each connection it cannot accept by a throttled warning."""

    def __init__(self) -> None:
        self._log_throttle = LogThrottle()

    def __call__(self, event: dict[str, Any]) -> None:
        if "EMFILE" not in event.get("log_format", ""):
            globalLogPublisher(event)
        elif (more := self._log_throttle.now()) is not None:
            log.warn(
                "out of file descriptors: new connections are closed until some are free "
                "(ulimit -n, LimitNOFILE=){more}",
                more=more,
            )


class _Port(tcp.Port):
    options: ListenOptions
    transport = staticmethod(server_transport)  # type: ignore[assignment]  # any callable works
    _logger = Logger(namespace="tagcache.listener", observer=_OutOfDescriptors())

    def createInternetSocket(self) -> socket.socket:
        sock: socket.socket = super().createInternetSocket()
        self.options.apply_before_bind(sock)
        return sock


def listen(
    endpoint: str, factory: IProtocolFactory, options: ListenOptions, reactor: Any
) -> Deferred[IListeningPort]:
    """Listen on ``endpoint``. A ``backlog=`` in the string overrides the option."""
    wrapped = ListeningReactor(reactor, options, explicit_backlog=":backlog=" in endpoint)
    listening: Deferred[IListeningPort] = serverFromString(wrapped, endpoint).listen(factory)
    return listening


class _NotAdopted(Exception):
    pass


class _RecordingReactor:
    """Records the addresses it is asked to listen on."""

    def __init__(self) -> None:
        self.targets: list[Target] = []

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> None:
        self.targets.append(Target("tcp", interface))

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> None:
        from tagcache.server.net.tls import check_options

        check_options(contextFactory)
        self.targets.append(Target("ssl", interface))

    def listenUNIX(self, address: str, factory: Any, *args: Any, **more: Any) -> None:
        self.targets.append(Target("unix", None))

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> None:
        interface = None
        if family != socket.AF_UNIX:
            with socket.fromfd(descriptor, family, socket.SOCK_STREAM) as sock:
                interface = sock.getsockname()[0]
        self.targets.append(Target("systemd", interface))
        # Do not adopt it: the endpoint would close the descriptor, which the server still needs.
        raise _NotAdopted
