"""Set socket options, and read their effective values back from the kernel.

An option that the platform lacks or refuses is reported, and is never fatal.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tagcache.config.settings import PerformanceSettings


@dataclass(frozen=True, slots=True)
class AppliedOption:
    """One option of one socket.

    ``asked`` is the configured value (int or bool; None if the option is left to the system).
    ``effective`` is what getsockopt returned afterwards (None if it could not be read). ``error``
    says why the option could not be set or read. ``at_least``: the kernel may use a larger value.
    """

    name: str
    asked: int | bool | None
    effective: int | bool | None
    error: str | None
    at_least: bool = False

    @property
    def honoured(self) -> bool:
        """Whether the effective value is the requested one, or what the kernel makes of that.

        Linux doubles buffer sizes for its own bookkeeping, and rounds the defer-accept time up to
        a retransmission. For these options, a larger value counts as the requested one.
        """
        if self.asked is None:
            return True
        if self.error is not None or self.effective is None:
            return False
        if self.at_least:
            return self.effective >= self.asked
        return self.effective == self.asked

    def describe(self) -> dict[str, Any]:
        """Return the option as a JSON object."""
        described: dict[str, Any] = {"asked": self.asked, "effective": self.effective}
        if self.error is not None:
            described["error"] = self.error
        return described


@dataclass(frozen=True, slots=True)
class _Option:
    """How one option is set and read. ``needs`` are the names of its constants in ``socket``."""

    name: str
    needs: tuple[str, ...]
    write: Callable[[socket.socket, int], None]
    read: Callable[[socket.socket], int | bool]
    at_least: bool = False
    only_tcp: bool = True

    def apply(self, sock: socket.socket, asked: int | bool | None) -> AppliedOption:
        missing = [name for name in self.needs if not hasattr(socket, name)]
        if missing:
            lacking = f"this platform has no {', '.join(missing)}"
            return AppliedOption(self.name, asked, None, lacking, self.at_least)
        error: str | None = None
        effective = None
        try:
            if asked is not None:
                self.write(sock, asked)
        except OSError as refused:
            error = refused.strerror or str(refused)
        try:
            effective = self.read(sock)
        except OSError as refused:
            error = error or refused.strerror or str(refused)
        return AppliedOption(self.name, asked, effective, error, self.at_least)


def _plain(name: str, level: str, constant: str, **more: Any) -> _Option:
    def write(sock: socket.socket, asked: int) -> None:
        sock.setsockopt(getattr(socket, level), getattr(socket, constant), asked)

    def read(sock: socket.socket) -> int:
        return sock.getsockopt(getattr(socket, level), getattr(socket, constant))

    return _Option(name, (level, constant), write, read, **more)


def _switch(name: str, level: str, constant: str) -> _Option:
    plain = _plain(name, level, constant)
    return _Option(name, plain.needs, plain.write, lambda sock: bool(plain.read(sock)))


def _write_keepalive(sock: socket.socket, idle: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(idle > 0))
    if idle > 0:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)


def _read_keepalive(sock: socket.socket) -> int:
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return 0
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)


def _write_backlog(sock: socket.socket, backlog: int) -> None:
    # A second listen() changes the backlog of a listening socket.
    sock.listen(backlog)


def _read_backlog(sock: socket.socket) -> int:
    # For a listening socket, tcpi_sacked of tcp_info is the limit of its accept queue.
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    backlog: int = struct.unpack_from("=I", info, 28)[0]
    return backlog


_SEND_BUFFER = _plain("send_buffer_bytes", "SOL_SOCKET", "SO_SNDBUF", at_least=True, only_tcp=False)
_RECEIVE_BUFFER = _plain(
    "receive_buffer_bytes", "SOL_SOCKET", "SO_RCVBUF", at_least=True, only_tcp=False
)
_CONNECTION_OPTIONS = (
    _switch("tcp_nodelay", "IPPROTO_TCP", "TCP_NODELAY"),
    _Option(
        "tcp_keepalive_seconds",
        ("SO_KEEPALIVE", "TCP_KEEPIDLE"),
        _write_keepalive,
        _read_keepalive,
    ),
    _plain("tcp_keepalive_interval_seconds", "IPPROTO_TCP", "TCP_KEEPINTVL"),
    _plain("tcp_keepalive_probes", "IPPROTO_TCP", "TCP_KEEPCNT"),
    _plain("tcp_user_timeout_ms", "IPPROTO_TCP", "TCP_USER_TIMEOUT"),
    _SEND_BUFFER,
    _RECEIVE_BUFFER,
)
# These must be set before bind and listen. The receive buffer is one of them because it determines
# the window scale, which accepted sockets inherit.
_BEFORE_LISTEN = (
    _switch("reuse_port", "SOL_SOCKET", "SO_REUSEPORT"),
    _plain("defer_accept_seconds", "IPPROTO_TCP", "TCP_DEFER_ACCEPT", at_least=True),
    _RECEIVE_BUFFER,
)
_ON_LISTEN = (
    _Option("listen_backlog", ("TCP_INFO",), _write_backlog, _read_backlog),
    _plain("fast_open_queue", "IPPROTO_TCP", "TCP_FASTOPEN"),
)


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """The options of an accepted connection's socket. None leaves an option to the system."""

    tcp_nodelay: bool | None = None
    tcp_keepalive_seconds: int | None = None
    tcp_keepalive_interval_seconds: int | None = None
    tcp_keepalive_probes: int | None = None
    tcp_user_timeout_ms: int | None = None
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None

    @classmethod
    def from_settings(cls, performance: PerformanceSettings) -> SocketOptions:
        """Take them from ``[performance]``, where 0 leaves an option to the system."""
        return cls(
            tcp_nodelay=performance.tcp_nodelay,
            tcp_keepalive_seconds=performance.tcp_keepalive_seconds,
            tcp_keepalive_interval_seconds=performance.tcp_keepalive_interval_seconds or None,
            tcp_keepalive_probes=performance.tcp_keepalive_probes or None,
            tcp_user_timeout_ms=performance.tcp_user_timeout_ms or None,
            send_buffer_bytes=performance.send_buffer_bytes or None,
            receive_buffer_bytes=performance.receive_buffer_bytes or None,
        )

    def apply(self, sock: socket.socket) -> tuple[AppliedOption, ...]:
        """Set every option that the socket's family has, and read each one back."""
        return _apply(self, _CONNECTION_OPTIONS, sock)

    def probe(self, family: int) -> tuple[AppliedOption, ...]:
        """Apply the options to a new, unconnected socket, and return the effective values."""
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            return self.apply(sock)

    def read(self, sock: socket.socket) -> tuple[AppliedOption, ...]:
        """Read the effective values without setting anything."""
        untouched = _apply(SocketOptions(), _CONNECTION_OPTIONS, sock)
        return tuple(
            AppliedOption(
                each.name, getattr(self, each.name), each.effective, each.error, each.at_least
            )
            for each in untouched
        )


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """The options of a listening socket. None leaves an option to the system."""

    listen_backlog: int | None = None
    reuse_port: bool | None = None
    defer_accept_seconds: int | None = None
    fast_open_queue: int | None = None
    receive_buffer_bytes: int | None = None

    @classmethod
    def from_settings(cls, performance: PerformanceSettings) -> ListenOptions:
        """Take them from ``[performance]``, where 0 leaves an option to the system."""
        return cls(
            listen_backlog=performance.listen_backlog,
            reuse_port=performance.reuse_port,
            defer_accept_seconds=performance.defer_accept_seconds or None,
            fast_open_queue=performance.fast_open_queue or None,
            receive_buffer_bytes=performance.receive_buffer_bytes or None,
        )

    def apply_before_bind(self, sock: socket.socket) -> None:
        """Set the options that must precede bind and listen; ``apply_listening`` reports them."""
        _apply(self, _BEFORE_LISTEN, sock)

    def apply_listening(self, sock: socket.socket) -> tuple[AppliedOption, ...]:
        """Set the options that a listening socket can still take, and read all of them back."""
        return _apply(self, _BEFORE_LISTEN + _ON_LISTEN, sock)


def _apply(
    wanted: SocketOptions | ListenOptions, options: tuple[_Option, ...], sock: socket.socket
) -> tuple[AppliedOption, ...]:
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
    return tuple(
        option.apply(sock, getattr(wanted, option.name))
        for option in options
        if is_tcp or not option.only_tcp
    )


@contextmanager
def socket_of(transport: Any) -> Iterator[socket.socket | None]:
    """Lend the socket under a transport (TCP, UNIX, or TLS over either); None if it has none.

    The handle of a TLS transport is an OpenSSL object; only the file descriptor is common to all.
    """
    fileno = getattr(transport, "fileno", None)
    descriptor = fileno() if callable(fileno) else -1
    if not isinstance(descriptor, int) or descriptor < 0:
        yield None
        return
    sock = socket.socket(fileno=descriptor)
    try:
        yield sock
    finally:
        sock.detach()
