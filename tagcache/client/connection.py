"""One blocking connection: requests out, reply lines in."""

from __future__ import annotations

import os
import select
import socket
import time

from tagcache import wire
from tagcache.client import requests
from tagcache.client.options import Options
from tagcache.errors import ConnectionFailed, TimedOut
from tagcache.sockopts import AppliedOption

_CHUNK = 1 << 16
# A connection that was idle for less is taken for alive without a look.
TRUSTED_SECONDS = 0.1


class Connection:
    """A connection, authenticated and with its socket options applied.

    ``socket_options`` is what was asked, and what held right after. After any exception its
    state is unknown: it must be closed. Raises ConnectionFailed, TimedOut, AuthenticationFailed.
    """

    __slots__ = ("_options", "_receive", "_send", "_sock", "last_used", "socket_options")

    def __init__(self, options: Options) -> None:
        self._options = options
        sock, self.socket_options = _connected(options)
        try:
            if options.tls:
                context = options.tls_context()
                name = options.tls_server_name or options.host
                sock = context.wrap_socket(sock, server_hostname=name)
            sock.settimeout(options.timeout)
        except TimeoutError:
            sock.close()
            raise TimedOut(f"{options.address} did not answer the TLS handshake") from None
        except OSError as error:
            sock.close()
            raise ConnectionFailed(f"{options.address}: {error}") from error
        self._sock = sock
        self._send = sock.sendall
        self._receive = sock.recv
        self.last_used = time.monotonic()
        if options.username is not None and options.password is not None:
            request = requests.auth(options.username, options.password)
            try:
                request.read(self.exchange(request.payload, 1)[0])
            except BaseException:
                self.close()
                raise

    def exchange(self, payload: bytes, count: int) -> list[bytes]:
        """Send ``payload`` and return the ``count`` reply lines, without their ends."""
        began = time.monotonic()
        try:
            self._send(payload)
            if len(payload) > _CHUNK:
                # That may have taken a while.
                return self._collect(b"", count, began)
            chunk = self._receive(_CHUNK)
            if count == 1 and chunk.find(b"\n") == len(chunk) - 1 and chunk:
                return [chunk[:-1]]
            return self._collect(chunk, count, began)
        except TimeoutError:
            raise self._late() from None
        except OSError as error:
            raise ConnectionFailed(f"{self._options.address}: {error}") from error

    def _collect(self, chunk: bytes, count: int, began: float) -> list[bytes]:
        """Receive until all the replies are there, after the first chunk, if there is one.

        The time is that of the whole exchange since it began, however the replies trickle in.
        """
        replies = wire.Replies(count)
        timeout = self._options.timeout
        try:
            while True:
                lines = replies.feed(chunk) if chunk else None
                if lines is not None:
                    return lines
                if timeout is not None:
                    left = began + timeout - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    self._sock.settimeout(left)
                chunk = self._receive(_CHUNK)
                if not chunk:
                    raise ConnectionFailed(f"{self._options.address} closed the connection")
        finally:
            if timeout is not None:
                self._sock.settimeout(timeout)

    def _late(self) -> TimedOut:
        return TimedOut(f"{self._options.address} did not answer within {self._options.timeout} s")

    def is_usable(self) -> bool:
        """Say whether the connection, which was idle, still works."""
        idle = time.monotonic() - self.last_used
        if idle < TRUSTED_SECONDS:
            return True
        # What can be read is the end of the stream, or what nobody asked for; of TLS, it may
        # be for the encryption alone.
        reading = select.poll()
        reading.register(self._sock, select.POLLIN)
        is_silent = not reading.poll(0)
        if idle < self._options.health_check_seconds and (is_silent or not self._options.tls):
            return is_silent
        try:
            return requests.PING.read(self.exchange(requests.PING.payload, 1)[0])
        except Exception:
            return False

    def applied_options(self) -> tuple[AppliedOption, ...]:
        """Return the socket options as they are now."""
        return self._options.socket_options.read(self._sock)

    def close(self) -> None:
        """Close it; never raises."""
        try:
            self._sock.close()
        except OSError:
            return

    def abandon(self) -> None:
        """Close this process's copy, without a word to the server: another process uses it."""
        os.close(self._sock.detach())


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
            faults.append(f"{address}: {error.strerror or error}")
    raise (TimedOut if late else ConnectionFailed)("; ".join(faults))
