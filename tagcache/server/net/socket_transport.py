"""The base of our transports: their socket and producer methods."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address


class SocketTransport:
    """The methods of an ITCPTransport for its socket and its producer.

    ``client`` is the address of the peer, as ``socket.accept`` returns it.
    """

    def __init__(self, sock: socket.socket, client: Any) -> None:
        self.socket = sock
        self.connected = True
        self._client = client
        self._producer: Any = None
        self._streaming = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if not self.connected:
            producer.stopProducing()
            return
        self._producer, self._streaming = producer, streaming
        if not streaming:
            self._pull()

    def _pull(self) -> None:
        """Ask a producer that is not streaming for data, whenever everything is sent."""
        raise NotImplementedError

    def getPeer(self) -> IPv4Address | IPv6Address:
        return _address(self._client)

    def getHost(self) -> IPv4Address | IPv6Address:
        return _address(self.socket.getsockname())

    def getHandle(self) -> socket.socket:
        return self.socket

    def fileno(self) -> int:
        return self.socket.fileno()

    def getTcpNoDelay(self) -> bool:
        return bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(enabled))

    def getTcpKeepAlive(self) -> bool:
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(enabled))

    def reset_at_close(self) -> None:
        """Make closing the socket drop unsent data, and send the peer a reset."""
        if self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _address(address: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    if len(address) == 4:
        host = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
        return IPv6Address("TCP", host, *address[1:])
    return IPv4Address("TCP", *address)
