"""What an endpoint string refers to, and which options its listening socket gets."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import Clock
from zope.interface.verify import verifyClass, verifyObject

from tagcache.server.http.factory import HttpFactory
from tagcache.server.net import endpoints
from tagcache.server.net.endpoints import Target, description, listen, targets
from tagcache.server.net.tls import ServerTls
from tagcache.sockopts import ListenOptions, socket_of
from tests.integration.tls import tls_endpoint


@pytest.mark.parametrize(
    ("port", "host", "endpoint", "only_local"),
    [
        ("1984", "127.0.0.1", "tcp:1984:interface=127.0.0.1", True),
        ("1984", "127.9.9.9", "tcp:1984:interface=127.9.9.9", True),
        ("1984", "localhost", "tcp:1984:interface=localhost", True),
        ("0", "0.0.0.0", "tcp:0:interface=0.0.0.0", False),
        ("0", "::1", r"tcp6:0:interface=\:\:1", True),
        ("0", "::", r"tcp6:0:interface=\:\:", False),
        ("0", "example.org", "tcp:0:interface=example.org", False),
        ("tcp:5", "127.0.0.1", "tcp:5", False),
        ("tcp:5:interface=10.0.0.1", "127.0.0.1", "tcp:5:interface=10.0.0.1", False),
        ("unix:/run/x", "0.0.0.0", "unix:/run/x", True),
    ],
)
def test_who_can_reach_it(port: str, host: str, endpoint: str, only_local: bool) -> None:
    assert description(port, host) == endpoint
    (target,) = targets(endpoint)
    assert target.only_local is only_local


@pytest.mark.parametrize(
    "endpoint",
    ["nope:1", "tcp:abc", "tcp:1:color=red", "ssl:1:privateKey=/nowhere.pem", "tcp:"],
)
def test_an_endpoint_that_cannot_be_used_is_reported(endpoint: str) -> None:
    with pytest.raises(ValueError, match="cannot be used as an endpoint: ."):
        targets(endpoint)


def test_kinds(tmp_path: Path) -> None:
    endpoint, _ = tls_endpoint(tmp_path)
    assert targets("unix:/x") == [Target("unix", None)]
    assert targets("tcp:1:interface=10.0.0.1") == [Target("tcp", "10.0.0.1")]
    assert targets(endpoint) == [Target("ssl", "127.0.0.1")]
    assert targets(endpoint.replace(":interface=127.0.0.1", "")) == [Target("ssl", "")]
    assert targets("haproxy:tcp:1") == [Target("tcp", "")]


def test_tls_has_the_interfaces_that_twisted_uses(tmp_path: Path) -> None:
    tls_endpoint(tmp_path)
    key, chain = (tmp_path / name for name in ("key.pem", "cert.pem"))
    certificate = ssl.PrivateCertificate.loadPEM(chain.read_bytes() + key.read_bytes())
    made = ServerTls(certificate.options(), ServerFactory())
    assert verifyObject(IOpenSSLServerConnectionCreator, made)
    assert verifyClass(IProtocolNegotiationFactory, HttpFactory)


def test_options_that_tls_does_not_have_are_refused(tmp_path: Path) -> None:
    endpoint, _ = tls_endpoint(tmp_path)
    parameters = tmp_path / "dh.pem"
    parameters.write_text("")
    with pytest.raises(ValueError, match="sslmethod and dhParameters have no use"):
        targets(f"{endpoint}:dhParameters={parameters}")
    with (
        pytest.warns(DeprecationWarning, match="method"),
        pytest.raises(ValueError, match="TLS 1.2 with ECDHE, and TLS 1.3"),
    ):
        targets(f"{endpoint}:sslmethod=TLSv1_2_METHOD")


def test_an_unknown_kind_of_endpoint_counts_as_open_to_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Strange:
        def listen(self, factory: ServerFactory) -> Deferred[None]:
            return succeed(None)

    monkeypatch.setattr(endpoints, "serverFromString", lambda reactor, text: Strange())
    (target,) = targets("strange:1")
    assert not target.only_local


async def listen_and_look(endpoint: str, options: ListenOptions) -> dict[str, Any]:
    factory = ServerFactory()
    factory.noisy = False
    port = await listen(endpoint, factory, options, reactor)
    try:
        with socket_of(port) as sock:
            assert sock is not None
            return {each.name: each.effective for each in options.apply_listening(sock)} | {
                "reuse": sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
                if sock.family != socket.AF_UNIX
                else None
            }
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_listening_socket_gets_its_options() -> None:
    options = ListenOptions(listen_backlog=9, reuse_port=True, receive_buffer_bytes=40_000)
    told = await listen_and_look("tcp:0:interface=127.0.0.1", options)
    assert (told["listen_backlog"], told["reuse"], told["receive_buffer_bytes"]) == (9, 1, 80_000)


@pytest_twisted.ensureDeferred
async def test_reuse_port_is_set_before_bind_so_that_two_can_listen() -> None:
    factory = ServerFactory()
    factory.noisy = False
    options = ListenOptions(reuse_port=True)
    first = await listen("tcp:0:interface=127.0.0.1", factory, options, reactor)
    number = first.getHost().port
    second = await listen(f"tcp:{number}:interface=127.0.0.1", factory, options, reactor)
    await first.stopListening()
    await second.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_backlog_in_the_endpoint_string_goes_first() -> None:
    from tests.integration.sockets import listen_queue

    factory = ServerFactory()
    factory.noisy = False
    endpoint = "tcp:0:interface=127.0.0.1:backlog=3"
    port = await listen(endpoint, factory, ListenOptions(listen_backlog=9), reactor)
    with socket_of(port) as sock:
        assert sock is not None
        assert listen_queue(sock) == 3
    await port.stopListening()


def test_a_unix_socket_gets_the_backlog() -> None:
    asked = []

    class Reactor(Clock):
        def listenUNIX(self, address: str, factory: Any, backlog: int, **more: Any) -> None:
            asked.append((address, backlog))

    listen("unix:/run/x", ServerFactory(), ListenOptions(listen_backlog=9), Reactor())
    assert asked == [("/run/x", 9)]


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_listens(tmp_path: Path) -> None:
    told = await listen_and_look(f"unix:{tmp_path / 'socket'}", ListenOptions(listen_backlog=9))
    assert set(told) == {"receive_buffer_bytes", "reuse"}
