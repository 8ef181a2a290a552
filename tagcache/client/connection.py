"""One blocking connection: requests out, reply lines in."""

from __future__ import annotations

import _socket
import os
import socket
import struct
import time

from tagcache import wire
from tagcache.client import requests
from tagcache.client.options import Options
from tagcache.errors import ConnectionFailed, TimedOut
from tagcache.sockopts import AppliedOption

_CHUNK = 1 << 16
# A connection that was idle for less is taken for alive without a look.
TRUSTED_SECONDS = 0.1
# Where nobody has replaced the socket module's, the kernel can do the timing, which saves a system
# call for each of ours.
_KERNEL_TIMES = socket.socket.recv is _socket.socket.recv


class Connection:
    """A connection, authenticated and with its socket options applied.

    ``socket_options`` is what was asked, and what held right after. After any exception its
    state is unknown: it must be closed. Raises ConnectionFailed, TimedOut, AuthenticationFailed.
    """

    __slots__ = ("_options", "_receive", "_send", "_sock", "_timed", "last_used", "socket_options")

    def __init__(self, options: Options) -> None:
        self._options = options
        sock, self.socket_options = _connected(options)
        self._timed = True
        try:
            if options.tls:
                context = options.tls_context()
                name = options.tls_server_name or options.host
                sock = context.wrap_socket(sock, server_hostname=name)
            elif _KERNEL_TIMES:
                self._timed = False
                sock.settimeout(None)
                _set_timeouts(sock, options.timeout)
            if self._timed:
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
        try:
            self._send(payload)
            chunk = self._receive(_CHUNK)
            if count == 1 and chunk.find(b"\n") == len(chunk) - 1 and chunk:
                return [chunk[:-1]]
            return self._collect(chunk, count)
        except (TimeoutError, BlockingIOError):
            raise self._late() from None
        except OSError as error:
            raise ConnectionFailed(f"{self._options.address}: {error}") from error

    def _collect(self, chunk: bytes, count: int) -> list[bytes]:
        """Receive until all the replies are there, the first chunk of which has come."""
        replies = wire.Replies(count)
        timeout = self._options.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while chunk:
                lines = replies.feed(chunk)
                if lines is not None:
                    return lines
                if deadline is not None:
                    # The time is that of the whole, however it trickles in.
                    self._wait_at_most(deadline - time.monotonic())
                chunk = self._receive(_CHUNK)
        finally:
            if deadline is not None:
                self._wait_at_most(timeout)
        raise ConnectionFailed(f"{self._options.address} closed the connection")

    def _wait_at_most(self, seconds: float | None) -> None:
        if seconds is not None and seconds <= 0:
            raise self._late()
        if self._timed:
            self._sock.settimeout(seconds)
        else:
            _set_timeouts(self._sock, seconds)

    def _late(self) -> TimedOut:
        return TimedOut(f"{self._options.address} did not answer within {self._options.timeout} s")

    def is_usable(self) -> bool:
        """Say whether the connection, which was idle, still works."""
        idle = time.monotonic() - self.last_used
        if idle < TRUSTED_SECONDS:
            return True
        if idle >= self._options.health_check_seconds:
            try:
                return requests.PING.read(self.exchange(requests.PING.payload, 1)[0])
            except Exception:
                return False
        if self._options.tls:
            return True
        try:
            # The end of the stream, or what nobody asked for.
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
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
        except OSError as error:
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


def _set_timeouts(sock: socket.socket, seconds: float | None) -> None:
    whole, rest = divmod(max(seconds or 0, 1e-6 if seconds is not None else 0), 1)
    value = struct.pack("@ll", int(whole), int(rest * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
