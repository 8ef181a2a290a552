"""One blocking connection: it sends requests and receives replies."""

from __future__ import annotations

import os
import socket
import time
from typing import Any, NoReturn

from tagcache.client.making import greeting
from tagcache.client.options import Options, address_for_people
from tagcache.client.polled_socket import PolledSocket
from tagcache.client.replies import Replies
from tagcache.client.requests import PING
from tagcache.client.unread import watch
from tagcache.errors import ClientError, ConnectionFailed, TimedOut
from tagcache.sockopts import AppliedOption
from tagcache.wire.resp_replies import only_string

_CHUNK = 1 << 16


class Connection:
    """A connection, closed at first; ``open`` logs in and sets the socket options.

    ``socket_options`` are the requested values and those in effect right after connecting.
    ``home`` is the pool's set of connections that this one belongs to. After any exception of
    ``open`` or ``exchange`` the state is unknown: close it before opening again.
    """

    __slots__ = (
        "__weakref__",
        "_channel",
        "_options",
        "_receive",
        "_replies",
        "_send",
        "_sock",
        "_timeout",
        "_unread",
        "home",
        "last_used",
        "socket_options",
    )
    _sock: socket.socket | None

    def __init__(self, options: Options) -> None:
        self._options = options
        self._sock = None
        self._replies = Replies()
        self._timeout = options.timeout
        self.socket_options: tuple[AppliedOption, ...] = ()
        self.home: object = None
        self.last_used = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the connection has been opened, and not been closed since."""
        return self._sock is not None

    def open(self) -> None:
        """Connect, authenticate, and select the database.

        Raises ConnectionFailed, TimedOut, AuthenticationFailed, Refused.
        """
        options = self._options
        sock, self.socket_options = _connected(options)
        try:
            if options.tls:
                context = options.tls_context()
                name = options.tls_server_name or options.host
                sock = context.wrap_socket(sock, server_hostname=name)
                channel: socket.socket | PolledSocket = sock
            else:
                channel = PolledSocket(sock)
            channel.settimeout(options.timeout)
        except TimeoutError:
            sock.close()
            raise TimedOut(f"{options.address} did not answer the TLS handshake") from None
        except OSError as error:
            sock.close()
            raise ConnectionFailed(f"{options.address}: {error}") from error
        except BaseException:
            sock.close()
            raise
        self._channel = channel
        self._send = channel.sendall
        self._receive = channel.recv
        self._unread = watch(sock.fileno())
        self._sock = sock
        self._replies = Replies()
        self.last_used = time.monotonic()
        for request in greeting(options):
            request.read(self.exchange(request.payload, 1)[0])

    def exchange(self, payload: bytes, count: int) -> list[Any]:
        """Send ``payload`` and return the ``count`` replies.

        Raises ConnectionFailed, TimedOut, UnexpectedReply.
        """
        began = time.monotonic()
        try:
            self._send(payload)
            if len(payload) > _CHUNK:
                # Sending may have taken a while, so the timeout of recv is no longer right.
                return self._collect(b"", count, began)
            chunk = self._receive(_CHUNK)
            if count == 1 and (string := only_string(chunk)) is not None:
                return [string]
            return self._collect(chunk or self._ended(), count, began)
        except TimeoutError:
            raise TimedOut(
                f"{self._options.address} did not answer within {self._timeout} s"
            ) from None
        except OSError as error:
            raise ConnectionFailed(f"{self._options.address}: {error}") from error

    def _collect(self, chunk: bytes, count: int, began: float) -> list[Any]:
        """Receive until all replies have arrived; ``chunk`` was received before (b"": nothing).

        The timeout starts again with each reply, which may come in any number of chunks.
        """
        if self._sock is None:
            raise ConnectionFailed(f"{self._options.address}: the connection is closed")
        channel = self._channel
        replies = self._replies
        replies.expect(count)
        if chunk and (found := replies.feed(chunk)) is not None:
            return found
        timeout = self._timeout
        seen = 0
        try:
            while True:
                if timeout is not None:
                    if replies.progress > seen:
                        seen = replies.progress
                        began = time.monotonic()
                    left = began + timeout - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    channel.settimeout(left)
                found = replies.feed(self._receive(_CHUNK) or self._ended())
                if found is not None:
                    return found
        finally:
            if timeout is not None:
                channel.settimeout(timeout)

    def _ended(self) -> NoReturn:
        raise ConnectionFailed(f"{self._options.address} closed the connection")

    def is_usable(self) -> bool:
        """Return whether the connection is open and works, with nothing to read on it."""
        if self._sock is None or self._unread(0):
            return False
        if time.monotonic() - self.last_used < self._options.health_check_seconds:
            return True
        return self._is_answered()

    def _is_answered(self) -> bool:
        self._timeout = self._options.health_check_timeout
        self._channel.settimeout(self._timeout)
        try:
            if not PING.read(self.exchange(PING.payload, 1)[0]):
                return False
        except ClientError:
            return False
        finally:
            self._timeout = self._options.timeout
        self._channel.settimeout(self._timeout)
        return True

    def applied_options(self) -> tuple[AppliedOption, ...]:
        """Return the current socket options."""
        return () if self._sock is None else self._options.socket_options.read(self._sock)

    def close(self) -> None:
        """Close the connection. Never raises OSError."""
        sock, self._sock = self._sock, None
        if sock is not None:
            try:
                sock.close()
            except OSError:
                return

    def abandon(self) -> None:
        """Close this process's descriptor only: another process uses the connection."""
        sock, self._sock = self._sock, None
        if sock is not None:
            os.close(sock.detach())


def _connected(options: Options) -> tuple[socket.socket, tuple[AppliedOption, ...]]:
    """Try all addresses of the server in turn, with the socket options set before connecting."""
    if options.path is not None:
        addresses = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", options.path)]
    else:
        try:
            addresses = socket.getaddrinfo(  # type: ignore[assignment]
                options.host, options.port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            raise ConnectionFailed(f"{options.host} is not known: {error}") from error
    faults = []
    late = True
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            options.socket_options.apply(sock)
            sock.settimeout(options.connect_timeout)
            sock.connect(address)
            return sock, options.socket_options.read(sock)
        except OSError as error:
            sock.close()
            late = late and isinstance(error, TimeoutError)
            faults.append(f"{address_for_people(address)}: {error.strerror or error}")
        except BaseException:
            sock.close()
            raise
    raise (TimedOut if late else ConnectionFailed)("; ".join(faults))
