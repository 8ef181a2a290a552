"""Socket options, on real sockets: the kernel reports the values that were set."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tagcache import sockopts
from tagcache.sockopts import AppliedOption, ListenOptions, SocketOptions, socket_of
from tests.helpers import settings_with


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


def by_name(options: tuple[AppliedOption, ...]) -> dict[str, AppliedOption]:
    return {each.name: each for each in options}


@pytest.mark.parametrize(
    ("name", "asked", "level", "option", "raw"),
    [
        ("tcp_nodelay", True, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ("tcp_nodelay", False, socket.IPPROTO_TCP, socket.TCP_NODELAY, 0),
        ("tcp_keepalive_seconds", 77, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77),
        ("tcp_keepalive_seconds", 77, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        ("tcp_keepalive_seconds", 0, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0),
        ("tcp_keepalive_interval_seconds", 13, socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 13),
        ("tcp_keepalive_probes", 4, socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
        ("tcp_user_timeout_ms", 5000, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000),
        ("send_buffer_bytes", 50_000, socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000),
        ("receive_buffer_bytes", 50_000, socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000),
    ],
)
def test_each_option_is_on_the_socket(
    sock: socket.socket, name: str, asked: int | bool, level: int, option: int, raw: int
) -> None:
    # Set the opposite first, so that a default cannot be mistaken for an effect.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(not asked))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(not asked))
    applied = by_name(SocketOptions(**{name: asked}).apply(sock))
    assert int(bool(sock.getsockopt(level, option)) if raw in (0, 1) else 0) == (
        raw if raw in (0, 1) else 0
    )
    if raw not in (0, 1):
        assert sock.getsockopt(level, option) == raw
    assert applied[name].asked == asked
    assert applied[name].error is None
    assert applied[name].honoured
    if not applied[name].at_least:
        assert applied[name].effective == asked


def test_what_is_not_asked_is_left_alone_and_read(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 99)
    for applied in (SocketOptions().apply(sock), SocketOptions().read(sock)):
        told = by_name(applied)
        assert told["tcp_nodelay"] == AppliedOption("tcp_nodelay", None, True, None)
        assert told["tcp_keepalive_seconds"].effective == 99
        assert all(each.honoured for each in applied)


def test_reading_shows_a_difference_without_mending_it(sock: socket.socket) -> None:
    options = SocketOptions(tcp_nodelay=True)
    options.apply(sock)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    read = by_name(options.read(sock))["tcp_nodelay"]
    assert (read.asked, read.effective, read.honoured) == (True, False, False)
    assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_refused_option_is_reported_and_the_others_are_applied(sock: socket.socket) -> None:
    told = by_name(SocketOptions(tcp_keepalive_probes=1000, tcp_nodelay=True).apply(sock))
    assert told["tcp_keepalive_probes"].error == "Invalid argument"
    assert told["tcp_keepalive_probes"].effective == 9
    assert not told["tcp_keepalive_probes"].honoured
    assert told["tcp_nodelay"].honoured


def test_an_option_that_the_platform_lacks_is_reported(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    told = by_name(SocketOptions(tcp_user_timeout_ms=5).apply(sock))["tcp_user_timeout_ms"]
    assert told.error == "this platform has no TCP_USER_TIMEOUT"
    assert (told.effective, told.honoured) == (None, False)
    assert told.describe() == {"asked": 5, "effective": None, "error": told.error}


def test_a_socket_that_is_gone_is_reported(sock: socket.socket) -> None:
    class Gone:
        family = socket.AF_INET

        def setsockopt(self, *args: object) -> None:
            raise OSError(9, "Bad file descriptor")

        getsockopt = setsockopt

    told = SocketOptions(tcp_nodelay=True).apply(Gone())  # type: ignore[arg-type]
    assert {each.error for each in told} == {"Bad file descriptor"}


def test_tcp_options_are_skipped_on_a_unix_socket() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        told = by_name(SocketOptions(tcp_nodelay=True, send_buffer_bytes=50_000).apply(sock))
        assert set(told) == {"send_buffer_bytes", "receive_buffer_bytes"}
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 100_000


def test_listening_options_are_on_the_socket(sock: socket.socket) -> None:
    wanted = ListenOptions(
        listen_backlog=7,
        reuse_port=True,
        defer_accept_seconds=5,
        fast_open_queue=3,
        receive_buffer_bytes=60_000,
    )
    wanted.apply_before_bind(sock)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
    sock.bind(("127.0.0.1", 0))
    sock.listen(50)
    told = by_name(wanted.apply_listening(sock))
    assert all(each.honoured for each in told.values()), told
    assert told["listen_backlog"].effective == 7
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN) == 3
    # The kernel rounds it up to a number of retransmissions.
    assert 5 <= sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) <= 7
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 120_000


def test_a_backlog_beyond_the_kernels_limit_is_reported(sock: socket.socket) -> None:
    from pathlib import Path

    limit = int(Path("/proc/sys/net/core/somaxconn").read_text())
    sock.bind(("127.0.0.1", 0))
    sock.listen(1)
    told = by_name(ListenOptions(listen_backlog=limit + 1).apply_listening(sock))
    assert told["listen_backlog"].effective == limit
    assert not told["listen_backlog"].honoured


def test_options_come_from_the_settings_and_zero_leaves_them_to_the_system() -> None:
    defaults = settings_with().performance
    assert SocketOptions.from_settings(defaults) == SocketOptions(
        tcp_nodelay=True, tcp_keepalive_seconds=7200
    )
    assert ListenOptions.from_settings(defaults) == ListenOptions(
        listen_backlog=1024, reuse_port=False
    )
    everything = settings_with(
        performance={
            "tcp_nodelay": False,
            "tcp_keepalive_seconds": 0,
            "tcp_keepalive_interval_seconds": 1,
            "tcp_keepalive_probes": 2,
            "tcp_user_timeout_ms": 3,
            "send_buffer_bytes": 4,
            "receive_buffer_bytes": 5,
            "listen_backlog": 6,
            "reuse_port": True,
            "defer_accept_seconds": 7,
            "fast_open_queue": 8,
        }
    ).performance
    assert SocketOptions.from_settings(everything) == SocketOptions(False, 0, 1, 2, 3, 4, 5)
    assert ListenOptions.from_settings(everything) == ListenOptions(6, True, 7, 8, 5)


def test_a_transport_without_a_socket_lends_none() -> None:
    class Closed:
        def fileno(self) -> int:
            return -1

    for transport in (object(), Closed(), None):
        with socket_of(transport) as sock:
            assert sock is None


def test_lending_a_socket_does_not_close_it(sock: socket.socket) -> None:
    with socket_of(sock) as lent:
        assert lent is not None
        assert lent.family == socket.AF_INET
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM


def test_every_option_is_known_by_its_knob() -> None:
    performance = set(settings_with().performance.__dataclass_fields__)
    named = {each.name for each in sockopts._CONNECTION_OPTIONS + sockopts._BEFORE_LISTEN}
    named |= {each.name for each in sockopts._ON_LISTEN}
    assert named <= performance
