"""The transports of accepted connections."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.protocol import Protocol
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tagcache import native
from tagcache.server.net.pump_transport import PumpTransport
from tagcache.server.net.transports import UvloopTransport, server_transport, unsent_bytes


@implementer(IHalfCloseableProtocol)
class Recorder(Protocol):
    """A protocol that records its events."""

    def __init__(self) -> None:
        self.happened: list[Any] = []
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def readConnectionLost(self) -> None:
        self.happened.append("read ended")

    def writeConnectionLost(self) -> None:
        self.happened.append("write ended")

    def connectionLost(self, reason: Any = None) -> None:
        self.happened.append(reason.type)


class Producer:
    """Writes a chunk for each request (pull), or records when it should pause (push)."""

    def __init__(self, transport: Any, count: int = 0) -> None:
        self.transport, self.left, self.calls = transport, count, []

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        if self.left:
            self.left -= 1
            self.transport.write(b"x" * 10_000)
            if not self.left:
                self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class PumpLoop(asyncio.SelectorEventLoop):
    """An event loop beside a pump; also what a transport needs of a reactor that has one."""

    def __init__(self) -> None:
        super().__init__()
        assert native.core is not None
        self._others = select.epoll()
        self.pump = native.core.Pump(self._others.fileno())

    def callLater(self, delay: float, call: Any, *arguments: Any) -> None:
        self.call_later(delay, call, *arguments)

    async def pumping(self) -> None:
        while True:
            assert not self.pump.run(0.0)
            await asyncio.sleep(0.001)

    def close(self) -> None:
        super().close()
        self._others.close()


@pytest.fixture(params=["uvloop", "pump"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    if request.param == "pump" and native.core is None:
        pytest.skip("the native core is not in use")
    loop = uvloop.new_event_loop() if request.param == "uvloop" else PumpLoop()
    yield loop
    loop.close()


class Pair:
    """A transport on a running loop, and the other end as a plain socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname())
            sock, address = listening.accept()
        assert sock.getblocking()
        self.peer.settimeout(60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        self.protocol = Recorder()
        self.transport = server_transport(sock, self.protocol, address, None, 0, loop)
        self.protocol.makeConnection(self.transport)

    async def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await asyncio.to_thread(self.peer.recv, 1_000_000)
            if not more:
                break
            data += more
        return data

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)


def run(loop: asyncio.AbstractEventLoop, work: Any) -> None:
    async def with_pair() -> None:
        pair = Pair(loop)
        expected = PumpTransport if isinstance(loop, PumpLoop) else UvloopTransport
        assert isinstance(pair.transport, expected)
        pumping = asyncio.create_task(loop.pumping()) if isinstance(loop, PumpLoop) else None
        try:
            await work(pair)
        finally:
            pair.peer.close()
            if pair.transport.connected:
                pair.transport.abortConnection()
            await pair.until(lambda: not pair.transport.connected)
            if pumping is not None:
                pumping.cancel()

    loop.run_until_complete(with_pair())


def test_it_is_complete(loop: asyncio.AbstractEventLoop) -> None:
    async def work(pair: Pair) -> None:
        assert verifyObject(ITCPTransport, pair.transport)
        assert pair.transport.getPeer().port == pair.peer.getsockname()[1]
        assert pair.transport.getHost().port == pair.peer.getpeername()[1]
        assert pair.transport.getHandle().fileno() == pair.transport.fileno()

    run(loop, work)


def test_no_delay_stays_as_it_was_set(loop: asyncio.AbstractEventLoop) -> None:
    async def work(pair: Pair) -> None:
        pair.transport.write(b"x")
        await pair.read(1)
        await asyncio.sleep(0.02)
        assert pair.transport.getTcpNoDelay() is False
        pair.transport.setTcpNoDelay(True)
        assert pair.transport.getTcpNoDelay() is True
        pair.transport.setTcpKeepAlive(True)
        assert pair.transport.getTcpKeepAlive() is True

    run(loop, work)


def test_what_is_written_before_it_is_attached_comes_first(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def work(pair: Pair) -> None:
        pair.transport.write(b"1")
        pair.transport.writeSequence([b"2", b"3"])
        await asyncio.sleep(0.02)
        pair.transport.write(b"4")
        assert await pair.read(4) == b"1234"
        pair.peer.sendall(b"hello")
        await pair.until(lambda: pair.protocol.data == b"hello")

    run(loop, work)


@pytest.mark.parametrize("attached", [False, True])
def test_closing_sends_what_is_written(loop: asyncio.AbstractEventLoop, attached: bool) -> None:
    async def work(pair: Pair) -> None:
        await asyncio.sleep(0.02 if attached else 0)
        pair.transport.write(b"x" * 5_000_000)
        pair.transport.loseConnection()
        assert len(await pair.read(6_000_000)) == 5_000_000
        await pair.until(lambda: pair.protocol.happened == [ConnectionDone])

    run(loop, work)


@pytest.mark.parametrize("attached", [False, True])
def test_half_a_close(loop: asyncio.AbstractEventLoop, attached: bool) -> None:
    async def work(pair: Pair) -> None:
        await asyncio.sleep(0.02 if attached else 0)
        pair.transport.write(b"x" * 3_000_000)
        pair.transport.loseWriteConnection()
        assert len(await pair.read(4_000_000)) == 3_000_000
        await pair.until(lambda: pair.protocol.happened == ["write ended"])
        pair.peer.sendall(b"still heard")
        await pair.until(lambda: pair.protocol.data == b"still heard")
        pair.peer.shutdown(socket.SHUT_WR)
        await pair.until(lambda: pair.protocol.happened == ["write ended", "read ended"])

    run(loop, work)


@pytest.mark.parametrize("attached", [False, True])
def test_an_abort_resets(loop: asyncio.AbstractEventLoop, attached: bool) -> None:
    async def work(pair: Pair) -> None:
        await asyncio.sleep(0.02 if attached else 0)
        pair.transport.abortConnection()
        with pytest.raises(ConnectionResetError):
            await pair.read(1)
        await pair.until(lambda: len(pair.protocol.happened) == 1)

    run(loop, work)


@pytest.mark.parametrize("attached", [False, True])
def test_reading_can_be_paused(loop: asyncio.AbstractEventLoop, attached: bool) -> None:
    async def work(pair: Pair) -> None:
        await asyncio.sleep(0.02 if attached else 0)
        pair.transport.pauseProducing()
        pair.transport.pauseProducing()
        pair.peer.sendall(b"data")
        await asyncio.sleep(0.1)
        assert pair.protocol.data == b""
        pair.transport.resumeProducing()
        await pair.until(lambda: pair.protocol.data == b"data")

    run(loop, work)


def test_a_push_producer_is_paused_while_the_peer_does_not_read(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def work(pair: Pair) -> None:
        producer = Producer(pair.transport)
        pair.transport.registerProducer(producer, True)
        with pytest.raises(RuntimeError):
            pair.transport.registerProducer(producer, True)
        await asyncio.sleep(0.02)
        pair.transport.write(b"x" * 10_000_000)
        await pair.until(lambda: producer.calls == ["pause"])
        pair.transport.loseConnection()
        assert len(await pair.read(11_000_000)) == 10_000_000
        await pair.until(lambda: pair.protocol.happened == [ConnectionDone])
        assert producer.calls[:2] == ["pause", "resume"]

    run(loop, work)


def test_what_the_peer_has_not_taken_is_known_with_tls_too(loop: asyncio.AbstractEventLoop) -> None:
    async def work(pair: Pair) -> None:
        over_tls = Protocol()
        over_tls.transport = pair.transport
        await asyncio.sleep(0.02)
        assert unsent_bytes(pair.transport) == unsent_bytes(over_tls) == 0
        pair.transport.write(b"x" * 20_000_000)
        assert unsent_bytes(pair.transport) == unsent_bytes(over_tls) > 1_000_000

    run(loop, work)


def test_a_pull_producer_is_asked_until_it_has_no_more(loop: asyncio.AbstractEventLoop) -> None:
    async def work(pair: Pair) -> None:
        pair.transport.registerProducer(Producer(pair.transport, 500), False)
        pair.transport.loseConnection()
        assert len(await pair.read(6_000_000)) == 5_000_000
        await pair.until(lambda: pair.protocol.happened == [ConnectionDone])

    run(loop, work)


def test_a_lost_peer_stops_the_producer(loop: asyncio.AbstractEventLoop) -> None:
    async def work(pair: Pair) -> None:
        producer = Producer(pair.transport)
        pair.transport.registerProducer(producer, True)
        await asyncio.sleep(0.02)
        pair.transport.abortConnection()
        await pair.until(lambda: producer.calls == ["stop"])
        late = Producer(pair.transport)
        pair.transport.registerProducer(late, True)
        assert late.calls == ["stop"]
        pair.transport.write(b"nobody hears this")

    run(loop, work)
