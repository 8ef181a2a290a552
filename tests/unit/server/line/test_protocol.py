"""The line protocol over an in-memory transport."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tagcache.config.limits import limits_of
from tagcache.config.settings import Settings
from tagcache.engine.caches import MemoryCaches
from tagcache.engine.databases import MemoryDatabases
from tagcache.engine.memory import MemoryCache
from tagcache.server.auth.rates import Rates
from tagcache.server.cache_port.factory import CacheFactory
from tagcache.server.cache_port.protocol import CacheProtocol
from tagcache.server.commands.admin import AdminCommands
from tagcache.server.commands.cache import CACHE_COMMANDS
from tagcache.server.commands.fresh import FRESH_COMMANDS
from tagcache.server.commands.resp.admin import StateCommands
from tagcache.server.commands.resp.connection import ConnectionCommands
from tagcache.server.commands.resp.server import ServerCommands
from tagcache.server.commands.table import CommandTable, Verbs
from tagcache.server.net.connections import Connections
from tagcache.server.net.listener import Listener, Rejection
from tagcache.server.net.states import FINISHED
from tagcache.server.net.write_buffer import WriteBuffer
from tagcache.server.observe.events import EventLog
from tagcache.server.observe.traffic import Traffic
from tagcache.server.resp.commands import RespTable
from tagcache.server.upkeep.slices import SLICE_SECONDS, Slices
from tagcache.server.waits import Waits
from tests.helpers import credentials_of, only, settings_with


class Transport(StringTransport):
    """A StringTransport that can be full on request, and records how it was closed."""

    half_closed = False
    aborted = False
    writes = 0
    protocol: Any = None

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def all_is_sent(self) -> None:
        """Report that all data is sent, as a transport does after loseWriteConnection."""
        self.protocol.writeConnectionLost()

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


INFO = {
    "server": {"event_loop": "epoll", "native_core": "in use", "uptime_seconds": 90_000.5},
    "connections": {"clients": 1, "max_connections": 10, "total": 2, "refused": 0},
    "cache": {
        "items": 3,
        "hits": 4,
        "misses": 5,
        "expirations": 6,
        "evictions": 7,
        "memory_used_bytes": 2048,
        "max_memory_bytes": 0,
        "eviction_policy": "sieve",
    },
    "databases": [{"db": 0, "items": 3}, {"db": 1, "items": 0}, {"db": 7, "items": 9}],
}


class Server:
    """A factory with everything it needs, on a ``task.Clock``, and its clients."""

    def __init__(self, settings: Settings, slice_clock: Callable[[], float] | None = None) -> None:
        self.clock = Clock()
        limits, seconds = limits_of(settings), self.clock.seconds
        policy = settings.cache.eviction_policy
        caches = MemoryCaches(
            lambda: MemoryCache(
                limits,
                monotonic=seconds,
                wall=seconds,
                policy=policy,
                random_bits=Random(1).getrandbits,
            ),
            settings.cache.databases,
        )
        self.cache = caches[0]
        self.connections = Connections(self.clock.seconds)
        self.listener = Listener("cache", settings, self.connections)
        self.slices = Slices(self.clock, slice_clock or self.clock.seconds)
        self.events = EventLog(self.clock.seconds)
        self.traffic = Traffic(settings, self.clock.seconds, self.events.slow)
        self.admin = AdminCommands(
            self.connections,
            credentials_of(settings, self.clock.seconds),
            lambda: {"some": "info"},
            lambda: self.engine.check(),
            self.traffic,
            self.slices,
        )
        connection_commands = ConnectionCommands(
            self.connections, credentials_of(settings, self.clock.seconds)
        )
        server_commands = ServerCommands(
            lambda: INFO, lambda: settings, self.traffic, self.clock.seconds
        )
        state_commands = StateCommands(self.connections, lambda: INFO, self.traffic)
        self.resp_table = RespTable(
            (*connection_commands.rows(), *server_commands.rows(), *state_commands.rows())
        )
        self.databases = MemoryDatabases(caches, seconds, self.slices.finish)
        self.engine: Any = self.databases[0]
        self.rates = Rates(settings, self.clock.seconds)
        self.waits = Waits(self.clock)
        self.factory = self.factory_of(self.databases, settings)

    def factory_of(self, databases: Any, settings: Settings) -> CacheFactory:
        return CacheFactory(
            self.listener,
            CommandTable((*CACHE_COMMANDS, *FRESH_COMMANDS, *self.admin.rows())),
            self.resp_table,
            databases,
            self.slices,
            self.events,
            self.traffic,
            self.rates,
            self.waits,
            settings,
            self.clock,
            self.clock.seconds,
        )

    def connect(self, host: str = "127.0.0.1") -> tuple[Any, Transport]:
        address = IPv4Address("TCP", host, 5000)
        protocol = self.factory.buildProtocol(address)
        transport = Transport(peerAddress=address)
        if protocol is not None:
            transport.protocol = protocol
            protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, data: bytes) -> bytes:
        protocol, transport = self.connect()
        protocol.dataReceived(data)
        self.clock.pump([0] * 3)
        lose(protocol)
        return transport.value()


def lose(protocol: CacheProtocol) -> None:
    protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def server() -> Server:
    return Server(settings_with())


def test_it_can_be_closed_by_halves(server: Server) -> None:
    protocol, transport = server.connect()
    assert verifyObject(IHalfCloseableProtocol, protocol)
    assert verifyObject(IPushProducer, transport.producer)


def test_replies_of_one_chunk_leave_in_one_write(server: Server) -> None:
    protocol, transport = server.connect()
    protocol.dataReceived(b"PUT\tk\t-\t-\tv\n" + b"GET\tk\n" * 500)
    assert transport.writes == 1
    assert transport.value() == b"OK\n" + b"VALUE\tv\n" * 500


def test_a_request_in_pieces(server: Server) -> None:
    protocol, transport = server.connect()
    for byte in b"PUT\tk\t-\ta,b\tv w\r\nGET\tk\r\n":
        protocol.dataReceived(bytes([byte]))
    assert transport.value() == b"OK\nVALUE\tv w\n"


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"PUT\tk\tabc\t-\tv\nGET\tk\n", b"ERR invalid_ttl\nNF\n"),
        (b"ADD\tk\t-1\t-\tv\nGET\tk\n", b"ERR invalid_ttl\nNF\n"),
        (b"INCR\tk\tabc\nGET\tk\n", b"ERR invalid_by\nNF\n"),
        (b"TOUCH\tk\t5\n", b"NF\n"),
        (b"TOUCH\n", b"ERR missing_key\n"),
        (b"PUT\tk\t-\ta\tv\nTOUCH\tk\tx\n", b"OK\nERR invalid_ttl\n"),
        (b"PUT\tk\t-\ta\tv\ntouch\tk\t9\nKEYS\ta\n", b"OK\nTOUCHED\nKEYS\tk\n"),
        (b"DECR\tk\t1\tabc\nGET\tk\n", b"ERR invalid_ttl\nNF\n"),
        (b"PUT\t" + b"k" * 1025 + b"\t-\t-\tv\n", b"ERR key_too_long\n"),
        (b"PUT\tk\t-\t" + b"t" * 1025 + b"\tv\nGET\tk\n", b"ERR tag_too_long\nNF\n"),
        (
            b"PUT\tk\t-\t" + b",".join(b"%d" % n for n in range(101)) + b"\tv\nGET\tk\n",
            b"ERR too_many_tags\nNF\n",
        ),
        (b"PUT\tk\t-\t-\t" + b"v" * 1048577 + b"\nGET\tk\n", b"ERR value_too_large\nNF\n"),
        (b"PING\n", b"PONG\n"),
        (b"ping\n", b"PONG\n"),
        (b"Ping\textra\n", b"PONG\n"),
        (b"CLIENT_KILL\n", b"ERR missing_id\n"),
        (b"CLIENT_KILL\tx\n", b"ERR invalid_id\n"),
        (b"CLIENT_KILL\t99\n", b'CLIENT_KILL\t{"id":99,"killed":false}\n'),
        (b"INFO\n", b'INFO\t{"some":"info"}\n'),
        (b"AUTH\n", b"ERR auth_failed\n"),
        (b"AUTH\tsometoken\n", b"ERR auth_failed\n"),
        (b"AUTH\tadmin\twrong\n", b"ERR auth_failed\n"),
        (b"AUTH\tadmin\tpassword\n", b"OK\n"),
        (b"\xff\xfe\n", b"ERR unknown_command\n"),
        (b"PUT\tk\t-\t-\t\xff\xfe\x00\nGET\tk\n", b"OK\nVALUE\t\xff\xfe\x00\n"),
    ],
)
def test_what_the_reference_does_not_say(server: Server, request_: bytes, reply: bytes) -> None:
    assert server.ask(request_) == reply


def test_a_value_with_a_line_feed_is_not_sent(server: Server) -> None:
    server.cache.put(b"k", b"a\nb")
    assert server.ask(b"GET\tk\nPING\n") == b"ERR value_not_representable\nPONG\n"


def test_keys_that_cannot_be_listed_are_logged(server: Server) -> None:
    server.cache.put(b"a,b", b"", [b"t"])
    server.cache.put(b"c", b"", [b"t"])
    with capturedLogs() as events:
        assert server.ask(b"KEYS\tt\n") == b"KEYS\tc\n"
    assert [event["count"] for event in events if "left out" in event["log_format"]] == [1]


def test_clients_describes_every_connection(server: Server) -> None:
    other, _ = server.connect("10.1.2.3")
    other.dataReceived(b"GET\tk\nping\n")
    server.clock.advance(2.5)
    protocol, transport = server.connect()
    protocol.dataReceived(b"CLIENTS\nPING\n")
    server.clock.pump([0] * 5)
    reply, pong = transport.value().splitlines()
    assert pong == b"PONG"
    first, second = json.loads(reply.removeprefix(b"CLIENTS\t"))
    assert first == {
        "id": 1,
        "listener": "cache",
        "peer": "10.1.2.3:5000",
        "age_seconds": 2.5,
        "idle_seconds": 2.5,
        "commands": 2,
        "bytes_in": 11,
        "bytes_out": 8,
        "held_bytes": 0,
        "dashboard": False,
        "name": "",
        "last_verb": "PING",
        "socket_options": {},
    }
    assert (second["id"], second["last_verb"], second["commands"]) == (2, "CLIENTS", 1)


def test_what_is_not_a_verb_is_not_shown(server: Server) -> None:
    protocol, _ = server.connect()
    protocol.dataReceived(b"AUTH admin hunter2\n")
    assert [each.last_verb for each in server.connections] == [b"unknown"]


def test_another_connection_can_be_killed(server: Server) -> None:
    _, victim = server.connect()
    assert server.ask(b"CLIENT_KILL\t1\n") == b'CLIENT_KILL\t{"id":1,"killed":true}\n'
    assert victim.aborted


def test_killing_oneself_is_answered_first(server: Server) -> None:
    protocol, transport = server.connect()
    protocol.dataReceived(b"CLIENT_KILL\t1\nPING\n")
    assert transport.value() == b'CLIENT_KILL\t{"id":1,"killed":true}\n'
    assert transport.half_closed


def test_quit_answers_what_came_before_and_nothing_after(server: Server) -> None:
    protocol, transport = server.connect()
    protocol.dataReceived(b"PING\nQUIT\nPING\n")
    protocol.dataReceived(b"PING\n")
    assert transport.value() == b"PONG\nOK\n"
    assert transport.half_closed
    assert not transport.disconnecting
    protocol.readConnectionLost()
    assert transport.disconnecting


def test_a_client_that_does_not_close_after_us_is_closed(server: Server) -> None:
    protocol, transport = server.connect()
    protocol.dataReceived(b"QUIT\n")
    server.clock.advance(59)
    assert not transport.aborted
    transport.all_is_sent()
    server.clock.advance(0.9)
    assert not transport.aborted
    server.clock.advance(0.2)
    assert transport.aborted


def test_the_wait_for_a_close_ends_with_the_connection(server: Server) -> None:
    protocol, transport = server.connect()
    protocol.dataReceived(b"QUIT\n")
    transport.all_is_sent()
    lose(protocol)
    assert server.clock.getDelayedCalls() == []


def test_end_of_stream_discards_an_unfinished_line_and_answers_the_rest(server: Server) -> None:
    protocol, transport = server.connect()
    protocol.dataReceived(b"PING\nPUT\tk\t-\t-\tcut sho")
    protocol.readConnectionLost()
    assert transport.value() == b"PONG\n"
    assert transport.disconnecting
    assert server.cache.peek(b"k") is None


def test_quit_before_a_line_too_long_is_what_is_answered() -> None:
    server = Server(
        settings_with(cache={"max_key_length": 1, "max_value_length": 1, "max_tags_per_entry": 0})
    )
    later = Later(server)
    later.protocol.dataReceived(b"LATER\nQUIT\n" + b"x" * 1000)
    later.waiting[0].callback(b"FIRST\n")
    assert later.transport.value() == b"FIRST\nOK\n"


def test_a_line_that_is_too_long_is_answered_and_closes(server: Server) -> None:
    server = Server(
        settings_with(cache={"max_key_length": 1, "max_value_length": 1, "max_tags_per_entry": 0})
    )
    protocol, transport = server.connect()
    protocol.dataReceived(b"PING\n" + b"x" * 1000)
    assert transport.value() == b"PONG\nERR line_too_long\n"
    assert transport.half_closed
    protocol.dataReceived(b"\nPING\n")
    assert transport.value() == b"PONG\nERR line_too_long\n"


def test_a_command_that_fails_is_logged_and_answered_without_detail(server: Server) -> None:
    def fail(tag: bytes, soft: bool) -> bytes:
        raise RuntimeError("secret detail")

    server.cache.invalidate_tag = fail  # type: ignore[method-assign,assignment]
    with capturedLogs() as events:
        assert server.ask(b"INV_TAG\tk\nPING\n") == b"ERR internal_error\nPONG\n"
    failures = [event for event in events if "log_failure" in event]
    assert len(failures) == 1
    assert failures[0]["log_failure"].check(RuntimeError)


class Later:
    """A verb that replies when the test says so."""

    def __init__(self, server: Server) -> None:
        self.waiting: list[Deferred[bytes]] = []
        verbs = server.factory.table.everything
        commands = {**verbs.commands, b"LATER": self.answer}
        self.protocol, self.transport = server.connect()
        self.protocol.framing.use_verbs(verbs._replace(commands=commands))

    def answer(self, client: Any, fields: list[bytes]) -> Deferred[bytes]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


def test_replies_keep_their_order_behind_one_that_takes_time(server: Server) -> None:
    later = Later(server)
    later.protocol.dataReceived(b"PING\nLATER\nPING\nLATER\n")
    later.protocol.dataReceived(b"GET\tk\nPING\n")
    assert later.transport.value() == b"PONG\n"
    assert later.transport.producerState == "paused"
    later.waiting[0].callback(b"FIRST\n")
    assert later.transport.value() == b"PONG\nFIRST\nPONG\n"
    later.waiting[1].callback(b"SECOND\n")
    assert later.transport.value() == b"PONG\nFIRST\nPONG\nSECOND\nNF\nPONG\n"
    assert later.transport.producerState == "producing"


def test_a_reply_that_fails_late_is_logged(server: Server) -> None:
    later = Later(server)
    later.protocol.dataReceived(b"LATER\nPING\n")
    with capturedLogs() as events:
        later.waiting[0].errback(RuntimeError("secret"))
    assert later.transport.value() == b"ERR internal_error\nPONG\n"
    assert any("log_failure" in event for event in events)


def test_end_of_stream_waits_for_a_reply_that_takes_time(server: Server) -> None:
    later = Later(server)
    later.protocol.dataReceived(b"LATER\nPING\n")
    later.protocol.readConnectionLost()
    assert not later.transport.disconnecting
    later.waiting[0].callback(b"FIRST\n")
    assert later.transport.value() == b"FIRST\nPONG\n"
    assert later.transport.disconnecting


def test_quit_behind_a_reply_that_takes_time(server: Server) -> None:
    later = Later(server)
    later.protocol.dataReceived(b"LATER\nQUIT\nPING\n")
    later.waiting[0].callback(b"FIRST\n")
    assert later.transport.value() == b"FIRST\nOK\n"
    assert later.transport.half_closed


def test_a_connection_lost_meanwhile_cancels_the_work(server: Server) -> None:
    later = Later(server)
    later.protocol.dataReceived(b"LATER\nPING\n")
    with capturedLogs() as events:
        lose(later.protocol)
    assert later.waiting[0].called
    assert later.transport.value() == b""
    assert not any("log_failure" in event for event in events)


def test_replies_wait_while_the_transport_is_full(server: Server) -> None:
    protocol, transport = server.connect()
    transport.producer.pauseProducing()
    protocol.dataReceived(b"PING\n")
    protocol.dataReceived(b"GET\tk\n")
    assert transport.value() == b""
    transport.producer.resumeProducing()
    assert transport.value() == b"PONG\nNF\n"


def test_what_waits_is_sent_before_a_close(server: Server) -> None:
    protocol, transport = server.connect()
    transport.producer.pauseProducing()
    protocol.dataReceived(b"PING\nQUIT\n")
    assert transport.value() == b""
    transport.producer.resumeProducing()
    assert transport.value() == b"PONG\nOK\n"
    assert transport.half_closed
    assert transport.producer is None


def test_a_client_that_takes_nothing_is_dropped_after_a_while() -> None:
    server = Server(settings_with(performance={"send_timeout_seconds": 8.0}))
    protocol, transport = server.connect()
    transport.producer.pauseProducing()
    protocol.dataReceived(b"PING\n")
    server.clock.pump([1] * 7)
    assert not transport.aborted
    with capturedLogs() as events:
        server.clock.pump([1] * 2)
    assert transport.aborted
    assert any("dropped" in event["log_format"] for event in events)
    lose(protocol)
    assert server.clock.getDelayedCalls() == []


def test_a_client_that_takes_a_little_now_and_then_is_not_dropped() -> None:
    server = Server(settings_with(performance={"send_timeout_seconds": 8.0}))
    _, transport = server.connect()
    for _ in range(10):
        transport.producer.pauseProducing()
        server.clock.pump([1] * 5)
        transport.producer.resumeProducing()
    assert not transport.aborted
    assert server.clock.getDelayedCalls() == []


def test_a_client_that_does_not_read_is_read_from_up_to_a_limit() -> None:
    server = Server(settings_with(performance={"max_reply_buffer_bytes": 10}))
    protocol, transport = server.connect()
    transport.producer.pauseProducing()
    protocol.dataReceived(b"PING\n")
    protocol.dataReceived(b"PING\n")
    assert transport.producerState == "producing"
    protocol.dataReceived(b"PING\n")
    assert transport.producerState == "paused"
    transport.producer.resumeProducing()
    assert transport.value() == b"PONG\n" * 3
    assert transport.producerState == "producing"


def test_held_replies_go_out_only_as_fast_as_the_transport_takes_them() -> None:
    class Narrow(Transport):
        def write(self, data: bytes) -> None:
            super().write(data)
            self.producer.pauseProducing()

    transport = Narrow()
    drained: list[int] = []
    buffer = WriteBuffer(transport, lambda: None, lambda: drained.append(buffer.held_bytes))
    for data in (b"a", b"b", b"c"):
        buffer.write(data)
    assert (transport.value(), buffer.held_bytes) == (b"a", 2)
    buffer.resumeProducing()
    assert (transport.value(), buffer.held_bytes) == (b"ab", 1)
    buffer.resumeProducing()
    buffer.resumeProducing()
    assert (transport.value(), drained) == (b"abc", [0])


def test_without_authentication_only_auth_is_understood() -> None:
    server = Server(settings_with(security={"require_tcp_auth": True}))
    protocol, transport = server.connect()
    protocol.dataReceived(b"GET\tk\nPING\nnope\nAUTH\tadmin\tpasswor\nGET\tk\n")
    assert transport.value() == (
        b"ERR auth_required\n" * 3 + b"ERR auth_failed\n" + b"ERR auth_required\n"
    )
    transport.clear()
    protocol.dataReceived(b"auth\tadmin\tpassword\nGET\tk\nnope\n")
    assert transport.value() == b"OK\nNF\nERR unknown_command\n"


def test_a_failed_authentication_is_logged_without_the_password(server: Server) -> None:
    with capturedLogs() as events:
        server.ask(b"AUTH\tadmin\thunter2\n")
    assert any("failed" in event["log_format"] for event in events)
    assert "hunter2" not in repr(events)


def test_one_connection_too_many_is_answered_and_closed() -> None:
    server = Server(settings_with(performance={"max_connections": 2}))
    first, _ = server.connect()
    server.connect()
    _, refused = server.connect()
    assert refused.value() == b"ERR max_connections\n"
    assert refused.disconnecting
    assert server.connections.refused == 1
    lose(first)
    _, welcome = server.connect()
    assert welcome.value() == b""
    assert server.connections.clients == 2


def test_a_client_that_is_refused_cannot_stay(server: Server) -> None:
    server = Server(settings_with(performance={"max_connections": 1}))
    server.connect()
    protocol, transport = server.connect()
    server.clock.advance(2)
    assert transport.aborted
    lose(protocol)
    protocol, transport = server.connect()
    lose(protocol)
    server.clock.advance(2)
    assert not transport.aborted


def test_refusals_do_not_flood_the_log() -> None:
    server = Server(settings_with(performance={"max_connections": 1}))
    server.connect()
    with capturedLogs() as events:
        for _ in range(100):
            server.connect()
    assert len([event for event in events if "refused" in event["log_format"]]) == 1
    assert server.connections.refused == 100


HTTP = (
    b"POST /%b HTTP/1.1\r\nHost: 127.0.0.1:1984\r\nContent-Type: text/plain\r\n\r\n"
    b"PUT\tevil\t-\t-\tevil\r\nPUT\tevil\t-\t-\tevil\n"
)


@pytest.fixture(params=["in this process", "elsewhere"])
def served(request: pytest.FixtureRequest) -> Server:
    server = Server(settings_with())
    if request.param == "elsewhere":
        elsewhere: Any = SimpleNamespace(store=None, open_session=server.engine.open_session)
        server.factory = server.factory_of(only(elsewhere), settings_with())
    return server


@pytest.mark.parametrize("before", [b"", b"\n", b"\r\n\r\n"])
@pytest.mark.parametrize("path", [b"short", b"long" * 1000])
@pytest.mark.parametrize("piece", [1, 7, 1460, 2**30])
def test_a_request_of_http_ends_the_connection(
    served: Server, before: bytes, path: bytes, piece: int
) -> None:
    protocol, transport = served.connect()
    data = before + HTTP % path
    with capturedLogs() as events:
        for start in range(0, len(data), piece):
            protocol.dataReceived(data[start : start + piece])
            # The method alone identifies HTTP.
            assert protocol.phase is FINISHED or start + piece < len(before) + len(b"POST ")
    assert transport.half_closed
    assert (transport.value(), served.cache.get(b"evil")) == (b"", None)
    assert (protocol.connection.commands, served.connections.refused) == (0, 1)
    assert [event["refusal"] for event in events if "refusal" in event] == [Rejection.HTTP]


def test_other_beginnings_of_http(served: Server) -> None:
    for first in (b"Host: x\r\n", b"FOO /x HTTP/1.1\r\n", b"GET /\n", b"\nGET /\n"):
        assert served.ask(first + b"PUT\tevil\t-\t-\tevil\n") == b""
    assert served.cache.get(b"evil") is None
    assert served.connections.refused == 4


def test_a_tls_handshake_is_refused_whatever_lines_it_carries(served: Server) -> None:
    """A web page can choose some of its bytes, for example those of a session ticket."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
    for sent in (hello + b"\nPUT\tk\t-\t-\tevil\n", hello):
        protocol, transport = served.connect()
        protocol.dataReceived(sent)
        assert transport.value() == b""
        assert transport.half_closed or transport.disconnecting
    assert served.cache.totals().items == 0
    assert served.connections.refused == 2


def test_http_before_a_line_that_is_too_long(served: Server) -> None:
    too_long = b"x" * (served.factory._max_line_length + 1)
    assert served.ask(HTTP % b"" + too_long + b"\n") == b""
    assert served.cache.get(b"evil") is None
    assert served.ask(b"PUT\tk\t-\t-\tv\n" + too_long + b"\n") == b"OK\nERR line_too_long\n"


def test_http_in_a_chunk_of_its_own_after_an_empty_line(served: Server) -> None:
    protocol, transport = served.connect()
    protocol.dataReceived(b"\n")
    protocol.dataReceived(b"GET / HTTP/1.1\n")
    assert transport.half_closed
    assert transport.value() == b""


def test_after_the_first_request_it_is_an_unknown_command(served: Server) -> None:
    protocol, transport = served.connect()
    protocol.dataReceived(b"GET\tk\nGET k\n")
    protocol.dataReceived(b"POST / HTTP/1.1\r\n")
    served.clock.pump([0] * 3)
    assert transport.value() == b"NF\n" + b"ERR unknown_command\n" * 2
    assert not transport.half_closed


def test_requests_that_only_look_like_http(served: Server) -> None:
    assert served.ask(b"PUT\tGET / HTTP/1.1\t-\t-\tHost: x\n") == b"OK\n"
    assert served.ask(b"GET\tGET / HTTP/1.1\n") == b"VALUE\tHost: x\n"
    assert served.ask(b"hello there\n") == b"ERR unknown_command\n"
    assert served.connections.refused == 0


def test_requests_of_http_do_not_flood_the_log(server: Server) -> None:
    with capturedLogs() as events:
        for _ in range(100):
            server.ask(HTTP % b"")
    assert len([event for event in events if "refused" in event["log_format"]]) == 1
    assert server.connections.refused == 100


def test_failed_authentications_do_not_flood_the_log(server: Server) -> None:
    with capturedLogs() as events:
        reply = server.ask(b"AUTH\tadmin\twrong\n" * 2000)
    assert reply == b"ERR auth_failed\n" * 2000
    assert 1 <= len([event for event in events if "failed" in event["log_format"]]) <= 10


def test_an_address_that_fails_too_often_has_to_pause(server: Server) -> None:
    server.ask(b"AUTH\tadmin\twrong\n" * 10)
    assert server.ask(b"AUTH\tadmin\tpassword\n") == b"ERR auth_failed\n"
    server.clock.advance(60)
    assert server.ask(b"AUTH\tadmin\tpassword\n") == b"OK\n"


def test_rates_are_limited_by_address() -> None:
    server = Server(settings_with(security={"rate_limit_per_minute": 6}))
    assert server.ask(b"PING\n" * 8) == b"PONG\n" * 6 + b"ERR rate_limited\n" * 2
    other, transport = server.connect("10.0.0.9")
    other.dataReceived(b"PING\n")
    assert transport.value() == b"PONG\n"
    server.clock.advance(10)
    assert server.ask(b"PING\nPING\n") == b"PONG\nERR rate_limited\n"


class Full(Transport):
    """A transport that accepts one write, and no more until the test resumes it."""

    def write(self, data: bytes) -> None:
        super().write(data)
        self.producer.pauseProducing()


def connect_full(server: Any) -> tuple[Any, Full]:
    protocol = server.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
    assert protocol is not None
    transport = Full()
    protocol.makeConnection(transport)
    return protocol, transport


def test_small_requests_with_large_replies_wait_until_the_client_takes_them(
    server: Server,
) -> None:
    """Replies to one chunk of requests must be bounded, and the client must not be dropped."""
    server.cache.put(b"k", b"v" * 500_000)
    protocol, transport = connect_full(server)
    protocol.dataReceived(b"GET\tk\n" * 1000)
    assert server.cache.counters().hits <= 32
    assert protocol.held_bytes() < 20_000_000
    replies = 0
    for _ in range(3000):
        replies += transport.value().count(b"\n")
        transport.clear()
        transport.producer.resumeProducing()
        server.clock.pump([0])
    assert replies == 1000 == server.cache.counters().hits
    assert not transport.aborted


def next_event(clock: Clock) -> None:
    """Run one delayed call, but not those that it schedules, as one turn of a reactor does."""
    call = clock.calls.pop(0)
    call.called = 1
    call.func(*call.args, **call.kw)


def test_a_long_chunk_is_executed_in_turns() -> None:
    """A turn lasts for three commands here; other clients are served between the turns."""
    server = Server(settings_with())
    ticks = itertools.count()

    def slow(client: CacheProtocol, fields: list[bytes]) -> bytes:
        server.clock.rightNow += SLICE_SECONDS / 2.5
        return b"%d\n" % next(ticks)

    protocol, transport = server.connect()
    protocol.framing.use_verbs(Verbs({b"SLOW": slow}, slow))
    protocol.dataReceived(b"SLOW\n" * 30)
    assert transport.value().count(b"\n") == 3
    assert transport.producerState == "paused"
    other, others = server.connect()
    turns = 0
    while transport.value().count(b"\n") < 30:
        other.dataReceived(b"PING\n")
        next_event(server.clock)
        turns += 1
    assert turns == 9
    assert others.value() == b"PONG\n" * 9
    assert transport.value() == b"".join(b"%d\n" % number for number in range(30))
    assert transport.producerState == "producing"


@pytest.mark.parametrize("awaiting", [False, True])
def test_nothing_more_is_executed_for_a_closed_client(awaiting: bool) -> None:
    server = Server(settings_with())
    executed = 0
    answers: list[Deferred[bytes]] = []

    def slow(client: CacheProtocol, fields: list[bytes]) -> bytes | Deferred[bytes]:
        nonlocal executed
        executed += 1
        server.clock.rightNow += SLICE_SECONDS / 2
        if not awaiting:
            return b"OK\n"
        answers.append(Deferred())
        return answers[-1]

    protocol, transport = server.connect()
    protocol.framing.use_verbs(Verbs({b"SLOW": slow}, slow))
    protocol.dataReceived(b"SLOW\n" * 30)
    before = executed
    assert before < 30
    server.listener.close(lambda connection: True, "of this test")
    assert transport.aborted
    # The reactor may do other work before it reports the lost connection.
    for answer in answers:
        answer.callback(b"OK\n")
    server.clock.pump([0] * 50)
    assert executed == before
    lose(protocol)
    assert not len(server.connections)


@pytest.mark.parametrize("full_when", ["its turn is over", "it waits for its next turn"])
def test_a_client_that_takes_nothing_is_still_read_from(full_when: str) -> None:
    """Some clients send everything before they read. They must not wait for ever."""
    server = Server(settings_with())

    def slow(client: CacheProtocol, fields: list[bytes]) -> bytes:
        server.clock.rightNow += SLICE_SECONDS
        return b"OK\n"

    protocol, transport = (
        connect_full(server) if full_when == "its turn is over" else server.connect()
    )
    protocol.framing.use_verbs(Verbs({b"SLOW": slow}, slow))
    protocol.dataReceived(b"SLOW\n" * 3)
    if full_when != "its turn is over":
        transport.producer.pauseProducing()
    assert transport.producerState == "paused"
    next_event(server.clock)
    assert transport.value() == b"OK\n"
    assert transport.producerState == "producing"
    for _ in range(3):
        transport.producer.resumeProducing()
        server.clock.pump([0])
    assert transport.value() == b"OK\n" * 3


def test_many_with_long_chunks_share_the_time() -> None:
    """Many clients together get no more turns between two events than one client alone."""
    server = Server(settings_with())
    executed = 0

    def slow(client: CacheProtocol, fields: list[bytes]) -> bytes:
        nonlocal executed
        executed += 1
        server.clock.rightNow += SLICE_SECONDS / 2
        return b"OK\n"

    for _ in range(20):
        protocol, _ = server.connect()
        protocol.framing.use_verbs(Verbs({b"SLOW": slow}, slow))
        protocol.dataReceived(b"SLOW\n" * 10)
    executed = 0
    next_event(server.clock)
    assert executed <= 2


def test_a_command_that_runs_out_of_memory_later_is_counted(server: Server) -> None:
    protocol, transport = server.connect()
    later: Deferred[bytes] = Deferred()
    protocol.framing.use_verbs(Verbs({b"LATER": lambda client, fields: later}, lambda *_: b""))
    protocol.dataReceived(b"LATER\n")
    later.errback(MemoryError())
    assert transport.value() == b"ERR out_of_memory\n"
    assert server.traffic.errors == {"out_of_memory": 1}


def test_what_a_client_asked_for_is_counted_when_it_is_dropped_meanwhile(server: Server) -> None:
    protocol, transport = server.connect()

    def drop(client: CacheProtocol, fields: list[bytes]) -> bytes:
        client.connection.abort()
        return b"OK\n"

    protocol.framing.use_verbs(Verbs({b"PING": drop}, drop))
    protocol.dataReceived(b"PING\n" * 3)
    assert transport.aborted
    assert server.traffic.verbs[b"PING"] == protocol.connection.commands >= 1


def test_before_auth_little_is_held() -> None:
    server = Server(settings_with(security={"require_tcp_auth": True}))
    protocol, transport = server.connect()
    protocol.dataReceived(b"PUT\tk\t-\t-\t" + b"v" * 70_000)
    assert transport.value() == b"ERR line_too_long\n"
    assert transport.half_closed
    protocol, transport = server.connect()
    protocol.dataReceived(b"AUTH\tadmin\tpassword\nPUT\tk\t-\t-\t" + b"v" * 70_000)
    protocol.dataReceived(b"\n")
    assert transport.value() == b"OK\nOK\n"


def test_before_auth_little_is_held_of_a_client_that_takes_no_replies() -> None:
    server = Server(settings_with(security={"require_tcp_auth": True}))
    protocol, transport = connect_full(server)
    protocol.dataReceived(b"A\n")
    assert transport.value() == b"ERR auth_required\n"
    protocol.dataReceived(b"A\n" * 30_000)
    assert transport.producerState == "producing"
    protocol.dataReceived(b"A\n" * 10_000)
    assert transport.producerState == "paused"
    # Execution continues as soon as the client takes replies.
    transport.producer.resumeProducing()
    assert transport.producerState == "producing"
    assert transport.value().count(b"\n") > 10_000


def test_short_lines_that_wait_count_as_what_they_take() -> None:
    """Each line is a separate object, which takes much more memory than its bytes."""
    server = Server(settings_with())
    protocol, _ = connect_full(server)
    chunk = b"xx\n" * 60_000
    protocol.dataReceived(chunk)
    waiting = protocol._waiting
    taken = sum(map(sys.getsizeof, waiting)) + sys.getsizeof(waiting)
    taken += protocol.inbox.held_bytes()
    # Data that is not split into lines yet takes only its own bytes.
    assert 5_000 < len(waiting) < 25_000
    assert taken * 0.9 < server.connections.held_bytes < taken * 1.5


def test_small_chunks_that_wait_count_as_what_they_take() -> None:
    server = Server(settings_with())
    protocol, _ = connect_full(server)
    protocol.dataReceived(b"PING\n")
    chunks = [b"%04d" % number for number in range(10_000)]
    for chunk in chunks:
        protocol.dataReceived(chunk)
    taken = sum(map(sys.getsizeof, chunks)) + sys.getsizeof(chunks)
    assert taken * 0.9 < server.connections.held_bytes < taken * 1.5


def test_what_was_taken_since_it_was_noted_does_not_count() -> None:
    """The transport does not report when a client takes only a part of its backlog."""
    server = Server(settings_with())
    server.connections.configure(settings_with(performance={"max_client_memory": 1_000_000}))
    taken, _ = server.connect()
    server.connections.hold(taken.connection, 300_000)
    protocol, transport = server.connect()
    protocol.dataReceived(b"PUT\tk\t-\t-\t" + b"v" * 800_000)
    assert not transport.aborted
    assert 800_000 < server.connections.held_bytes == protocol.held_bytes() < 1_000_000


def test_all_clients_together_hold_no_more_than_they_may() -> None:
    server = Server(settings_with(performance={"max_client_memory": 1_000_000}))
    server.connections.configure(settings_with(performance={"max_client_memory": 1_000_000}))
    clients = [server.connect() for _ in range(4)]
    for size, (protocol, _) in zip((200_000, 500_000, 250_000, 100_000), clients, strict=True):
        protocol.dataReceived(b"PUT\tk\t-\t-\t" + b"v" * size)
    assert [transport.aborted for _, transport in clients] == [False, True, False, False]
    assert server.connections.held_bytes < 1_000_000
    for protocol, _ in clients:
        lose(protocol)
    assert server.connections.held_bytes == 0


def test_an_address_that_is_not_allowed_is_closed_without_a_reply() -> None:
    from ipaddress import ip_network

    allowed = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    server = Server(settings_with(security={"allowed_ips": allowed}))
    build = server.factory.buildProtocol
    assert build(IPv4Address("TCP", "127.0.0.1", 1)) is None
    assert build(IPv4Address("TCP", "10.200.0.1", 1)) is not None
    from twisted.internet.address import IPv6Address

    assert build(IPv6Address("TCP", "fd00::1", 1)) is not None
    assert build(IPv6Address("TCP", "fe80::1%eth0", 1)) is None
    assert build(IPv6Address("TCP", "::ffff:10.0.0.1", 1)) is not None
    assert build(IPv6Address("TCP", "::ffff:11.0.0.1", 1)) is None
    assert build(UNIXAddress(b"/run/socket")) is not None


def test_idle_connections_are_ended() -> None:
    server = Server(settings_with(performance={"idle_timeout_seconds": 10.0}))
    _, idle_transport = server.connect()
    busy, busy_transport = server.connect()
    for _ in range(12):
        server.clock.advance(1)
        busy.dataReceived(b"PING\n")
    assert idle_transport.disconnecting
    assert not busy_transport.disconnecting
    assert not busy_transport.half_closed


def test_replies_that_are_not_taken_after_the_end_do_not_hold_an_idle_connection() -> None:
    server = Server(settings_with(performance={"idle_timeout_seconds": 10.0}))
    protocol, transport = server.connect()
    protocol.dataReceived(b"QUIT\n")
    server.clock.pump([1] * 7)
    assert not transport.aborted
    server.clock.pump([1] * 4)
    assert transport.aborted


def test_new_settings_hold_for_connections_that_are_open(server: Server) -> None:
    protocol, transport = server.connect()
    server.factory.configure(
        settings_with(
            cache={"max_key_length": 1, "max_value_length": 1, "max_tags_per_entry": 0},
            performance={"idle_timeout_seconds": 4.0},
        )
    )
    protocol.dataReceived(b"x" * 1000)
    assert transport.value() == b"ERR line_too_long\n"
    _, other = server.connect()
    server.clock.pump([1] * 6)
    assert other.disconnecting
    server.factory.configure(settings_with())
    _, third = server.connect()
    server.clock.pump([1] * 100)
    assert not third.disconnecting


def test_draining_closes_everyone_and_reports_when_it_is_done(server: Server) -> None:
    protocol, transport = server.connect()
    done: list[None] = []
    server.factory.drain(5).addCallback(done.append)
    assert transport.half_closed
    assert done == []
    lose(protocol)
    assert done == [None]
    assert server.clock.getDelayedCalls() == []


def test_draining_does_not_outlive_its_grace(server: Server) -> None:
    later = Later(server)
    later.protocol.dataReceived(b"LATER\n")
    server.factory.drain(5)
    server.clock.advance(4.9)
    assert not later.transport.aborted
    server.clock.advance(0.2)
    assert later.transport.aborted


def test_draining_nobody_is_done_at_once(server: Server) -> None:
    done: list[None] = []
    server.factory.drain(5).addCallback(done.append)
    assert done == [None]


def test_replies_keep_their_order_around_a_large_invalidation(server: Server) -> None:
    for number in range(5000):
        server.cache.put(b"%d" % number, b"v", [b"all", b"even" if number % 2 == 0 else b"odd"])
    other, seen = server.connect()
    asked = server.ask(
        b"GET\t2\nINV_TAGS_ALL\tall,even\nGET\t2\nGET\t3\nINV_TAGS_ANY\todd,all\nGET\t3\nFLUSH\n"
    )
    assert asked == (
        b"VALUE\tv\nINV_TAGS_ALL\t2500\nNF\nVALUE\tv\nINV_TAGS_ANY\t2500\nNF\nFLUSH\t0\n"
    )
    other.dataReceived(b"KEYS_BY_TAG\tall\n")
    assert seen.value() == b"KEYS\t\n"


def test_a_large_invalidation_lets_others_in_between() -> None:
    looks = itertools.count()
    # Each reading of the clock advances it by half a slice.
    server = Server(settings_with(), lambda: next(looks) * SLICE_SECONDS / 2)
    for number in range(5000):
        server.cache.put(b"%d" % number, b"v", [b"x", b"y"])
    asking, answer = server.connect()
    asking.dataReceived(b"INV_TAGS_ALL\tx,y\nPING\n")
    other, seen = server.connect()
    other.dataReceived(b"GET\t1\nPUT\t2\t-\tx,y\tnew\nPUT\tz\t-\tx,y\tnew\n")
    assert answer.value() == b""
    assert seen.value() == b"VALUE\tv\nOK\nOK\n"
    server.clock.pump([0] * 100)
    assert answer.value() == b"INV_TAGS_ALL\t5001\nPONG\n"
    other.dataReceived(b"GET\t1\nGET\tz\n")
    assert seen.value().endswith(b"NF\nNF\n")


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"SLOWLOG\n", b"SLOWLOG\t[]"),
        (b"INCR\tzeros\n", b"ERR value is not an integer"),
        (b"GET\tlarge\n", b"VALUE\t"),
    ],
)
def test_many_of_what_takes_long_are_executed_in_turns(
    server: Server, request_: bytes, reply: bytes
) -> None:
    server.cache.put(b"zeros", b"0" * 100_000 + b"x")
    server.cache.put(b"large", b"v" * 20_000)
    protocol, transport = server.connect()
    # Each reading of the clock advances it by a quarter of a slice.
    readings = itertools.count(step=SLICE_SECONDS / 4)
    protocol._monotonic = lambda: next(readings)
    protocol.dataReceived(request_ * 200)
    other, others = server.connect()
    turns = 0
    while transport.value().count(reply) < 200:
        assert transport.producerState == "paused"
        other.dataReceived(b"PING\n")
        next_event(server.clock)
        turns += 1
    assert turns >= 40
    assert others.value() == b"PONG\n" * turns


def test_keys_of_a_large_tag_let_others_in_between() -> None:
    looks = itertools.count()
    # Each reading of the clock advances it by half a slice.
    server = Server(settings_with(), lambda: next(looks) * SLICE_SECONDS / 2)
    keys = [b"%d" % number for number in range(20_000)]
    for key in keys:
        server.cache.put(key, b"v", [b"t"])
    asking, answer = server.connect()
    asking.dataReceived(b"KEYS\tt\nPING\n")
    other, others = server.connect()
    turns = 0
    while not answer.value():
        other.dataReceived(b"PING\n")
        next_event(server.clock)
        turns += 1
    assert turns > 20
    assert others.value() == b"PONG\n" * turns
    listed, pong, _ = answer.value().split(b"\n")
    assert sorted(listed.removeprefix(b"KEYS\t").split(b",")) == sorted(keys)
    assert pong == b"PONG"


def test_the_largest_set_goes_when_the_request_arrives() -> None:
    server = Server(settings_with())
    for number in range(5000):
        server.cache.put(b"%d" % number, b"v", [b"t"])
    assert server.ask(b"INV_TAG\tt\nGET\t1\nPUT\t1\t-\tt\tnew\n") == b"INV_TAG\t5000\nNF\nOK\n"
    for _ in server.cache.reclaim():
        pass
    assert server.ask(b"GET\t1\nKEYS_BY_TAG\tt\n") == b"VALUE\tnew\nKEYS\t1\n"


def test_a_full_cache_says_so() -> None:
    server = Server(settings_with(cache={"max_memory": 1000, "max_value_length": 5000}))
    assert server.ask(b"PUT\tk\t-\t-\t" + b"x" * 2000 + b"\nPING\n") == b"ERR out_of_memory\nPONG\n"


@given(
    st.lists(
        st.sampled_from(
            [
                b"GET\ta",
                b"GET\tb",
                b"GET\t",
                b"GET\ta\tx",
                b"GET",
                b"get\ta",
                b"GET\ta\r",
                b"",
                b"PING",
                b"PUT\tb\t-\tt\tv",
                b"DEL\tb",
                b"GET\tlf",
                b"GET\tempty",
            ]
        ),
        max_size=8,
    ),
    st.lists(st.integers(0, 120), max_size=3),
)
def test_the_fast_paths_answer_as_the_general_path(lines: list[bytes], cuts: list[int]) -> None:
    def fresh() -> tuple[Any, Transport]:
        server = Server(settings_with())
        server.cache.put(b"a", b"1")
        server.cache.put(b"lf", b"1\n2")
        server.cache.put(b"empty", b"")
        return server.connect()

    data = b"".join(line + b"\n" for line in lines)
    protocol, transport = fresh()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(places):
        protocol.dataReceived(data[begin:end])
    plain, expected = fresh()
    plain._take_any(data)
    assert transport.value() == expected.value()
    assert protocol.connection.commands == plain.connection.commands


def test_an_http_request_with_a_line_that_is_too_long_gets_no_reply(server: Server) -> None:
    protocol, transport = server.connect()
    too_long = b"x" * (protocol.factory._max_line_length + 1)
    protocol.dataReceived(HTTP % b"path" + too_long)
    assert transport.value() == b""
    assert transport.half_closed


def test_no_memory_outside_of_a_command_costs_the_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Traffic, "took", no_memory)
    (first, first_transport), (second, second_transport) = server.connect(), server.connect()
    server.traffic.above = 0
    with capturedLogs() as events:
        first.dataReceived(b"PUT\tk\t-\t-\tv\n" + b"GET\tk\n" * 3)
    assert first_transport.aborted
    assert [formatEvent(event) for event in events] == [
        "cache: dropped 127.0.0.1:5000: the system gives no more memory; a lower cache.max_memory "
        "prevents that"
    ]
    server.traffic.above = 1
    second.dataReceived(b"GET\tk\n")
    assert second_transport.value() == b"VALUE\tv\n"


def test_no_memory_once_the_reply_has_come_costs_the_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*args: object) -> None:
        raise MemoryError

    protocol, transport = server.connect()
    later: Deferred[bytes] = Deferred()
    protocol.framing.use_verbs(Verbs({b"LATER": lambda client, fields: later}, lambda *_: b""))
    protocol.dataReceived(b"LATER\n")
    monkeypatch.setattr(Traffic, "took", no_memory)
    server.traffic.above = 0
    with capturedLogs() as events:
        later.callback(b"OK\n")
    assert transport.aborted
    assert len(events) == 1


# Databases


def test_a_connection_chooses_its_database() -> None:
    server = Server(settings_with(cache={"databases": 4}))
    client, said = server.connect()
    client.dataReceived(b"PUT\tk\t-\tt\tzero\nSELECT\t3\nGET\tk\nPUT\tk\t-\tt\tthree\nGET\tk\n")
    assert said.value() == b"OK\nOK\nNF\nOK\nVALUE\tthree\n"
    # On the fast paths.
    for request, reply in ((b"GET\tk\n", b"VALUE\tthree\n"), (b"KEYS\tt\n", b"KEYS\tk\n")):
        said.clear()
        client.dataReceived(request)
        assert said.value() == reply
    assert server.ask(b"GET\tk\n") == b"VALUE\tzero\n"
    said.clear()
    client.dataReceived(b"STATS\nFLUSH\nselect\t0\nGET\tk\nSTATS\n")
    assert said.value() == (
        b"STATS\t2\t1\t1\t0\t0.666667\nFLUSH\t1\nOK\nVALUE\tzero\nSTATS\t2\t0\t1\t0\t1.000000\n"
    )
    (event,) = server.events.after(0, 9)
    assert (event["command"], event["db"]) == ("FLUSH", 3)


@pytest.mark.parametrize(
    "number", [b"", b"\t4", b"\t-1", b"\t+1", b"\tx", b"\t1\xb2", b"\t" + b"9" * 999]
)
def test_a_bad_number_of_a_database_leaves_the_connection_where_it_was(number: bytes) -> None:
    server = Server(settings_with(cache={"databases": 4}))
    assert (
        server.ask(b"SELECT\t2\nPUT\tk\t-\t-\tv\nSELECT%b\nGET\tk\n" % number)
        == b"OK\nOK\nERR invalid_db\nVALUE\tv\n"
    )
    assert [each for each, _ in server.databases] == [0, 2]
