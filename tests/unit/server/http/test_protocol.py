"""The HTTP protocol over an in-memory transport."""

from __future__ import annotations

import base64
import itertools
import json
import sys
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from tagcache.config.limits import limits_of
from tagcache.config.settings import Settings
from tagcache.engine.caches import MemoryCaches
from tagcache.engine.databases import MemoryDatabases
from tagcache.engine.memory import MemoryCache
from tagcache.server.auth.rates import Rates
from tagcache.server.http.application import HttpApplication, is_loopback
from tagcache.server.http.browsers import BrowserRules
from tagcache.server.http.endpoints.authentication import Authentication
from tagcache.server.http.endpoints.connections import ConnectionList
from tagcache.server.http.endpoints.dashboard import Dashboard
from tagcache.server.http.endpoints.documents import Documents
from tagcache.server.http.endpoints.entries import Entries
from tagcache.server.http.endpoints.invalidation import Invalidation
from tagcache.server.http.endpoints.listing import Listing
from tagcache.server.http.endpoints.observation import Observation
from tagcache.server.http.endpoints.status import Status
from tagcache.server.http.factory import HttpFactory
from tagcache.server.http.messages import Call, HttpRequest, Response
from tagcache.server.http.sse import Streams
from tagcache.server.net.connections import Connections
from tagcache.server.net.listener import Listener
from tagcache.server.observe.events import EventLog
from tagcache.server.observe.history import History
from tagcache.server.observe.host_stats import HostStats
from tagcache.server.observe.metrics import Metrics
from tagcache.server.observe.traffic import Traffic
from tagcache.server.upkeep.persistence import Persistence
from tagcache.server.upkeep.slices import SLICE_SECONDS, Slices
from tagcache.server.waits import Waits
from tests.helpers import credentials_of, defaults, settings_with
from tests.unit.server.line.test_protocol import Transport, connect_full, next_event

BASIC = b"Authorization: Basic YWRtaW46cGFzc3dvcmQ=\r\n"
JSON = b"Content-Type: application/json\r\n"


class Door:
    """An HTTP factory with everything it needs, on a ``task.Clock``."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or settings_with()
        self.clock = Clock()
        limits, seconds = limits_of(self.settings), self.clock.seconds
        self.caches = MemoryCaches(
            lambda: MemoryCache(
                limits,
                monotonic=seconds,
                wall=seconds,
                random=Random(1),
                random_bits=Random(1).getrandbits,
            ),
            self.settings.cache.databases,
        )
        self.cache = self.caches[0]
        self.connections = Connections(self.clock.seconds)
        self.credentials = credentials_of(self.settings, self.clock.seconds)
        self.exposed = False
        configuration = replace(defaults(), settings=self.settings)
        self.traffic = Traffic(self.settings, self.clock.seconds)
        self.events = EventLog(self.clock.seconds)
        self.history = History()
        self.told: dict[str, Any] | None = None
        self.streams = Streams(self.events, lambda: self.told)
        rates = Rates(self.settings, self.clock.seconds)
        persistence = Persistence(self.cache, self.settings, self.clock)
        self.slices = Slices(self.clock, self.clock.seconds)
        self.databases = MemoryDatabases(self.caches, seconds, self.slices.finish)
        self.metrics = Metrics(
            self.databases,
            self.connections,
            self.traffic,
            rates,
            persistence.describe,
            lambda: 0.0,
            lambda: len(self.streams),
            lambda: len(self.waits),
            self.clock.seconds,
            lambda: {"backend": "memory"},
        )
        self.engine: Any = self.databases[0]
        self.status = Status(
            self.databases,
            HostStats(),
            lambda: configuration,
            persistence.describe,
            lambda: succeed({"some": "info"}),
        )
        self.waits = Waits(self.clock)
        self.routes = Documents(
            Entries(self.databases, self.slices, self.waits),
            Invalidation(self.databases, self.events),
            Listing(self.databases, self.slices, self.clock.seconds),
            self.status,
            Observation(self.traffic, self.history, self.events, self.streams, self.metrics),
            ConnectionList(self.connections, self.slices),
            Authentication(
                self.credentials,
                lambda: self.exposed,
                lambda: self.settings.security.require_auth,
            ),
            Dashboard(),
        ).routes
        self.browsers = BrowserRules(("web1.example.net", "Web1"), self.settings)
        self.application = HttpApplication(
            self.routes,
            self.credentials,
            rates,
            self.settings,
            self.traffic,
            self.slices,
            self.browsers,
        )
        self.streams.admits = self.application.still_admits
        self.factory = HttpFactory(
            Listener("http", self.settings, self.connections),
            self.application,
            self.settings,
            self.clock,
        )
        self.factory.startFactory()

    def connect(self, host: str = "127.0.0.1") -> tuple[Any, Transport]:
        address = IPv4Address("TCP", host, 5000)
        protocol = self.factory.buildProtocol(address)
        transport = Transport(peerAddress=address)
        if protocol is not None:
            transport.protocol = protocol
            protocol.makeConnection(transport)
        return protocol, transport

    def send(self, data: bytes, host: str = "127.0.0.1") -> bytes:
        protocol, transport = self.connect(host)
        protocol.dataReceived(data)
        self.clock.pump([0] * 5)
        protocol.connectionLost(Failure(ConnectionDone()))
        return transport.value()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: bytes = BASIC,
        host: str = "127.0.0.1",
    ) -> tuple[int, Any]:
        data = b"" if body is None else json.dumps(body).encode()
        reply = self.send(request(method, path, data, headers + JSON), host)
        head, _, content = reply.partition(b"\r\n\r\n")
        return int(head[9:12]), json.loads(content) if content else None


def request(method: str, path: str, body: bytes = b"", headers: bytes = BASIC) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n".encode()
        + headers
        + b"\r\n"
        + body
    )


def split(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each response."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        found.append((int(head[9:12]), data[:length]))
        data = data[length:]
    return found


@pytest.fixture
def door() -> Door:
    return Door()


PUT = request("POST", "/put", b'{"key":"k","value":"v"}', BASIC + JSON)
GET = request("GET", "/get/k")


def test_pipelined_requests_are_answered_in_order_in_one_write(door: Door) -> None:
    protocol, transport = door.connect()
    protocol.dataReceived(PUT + GET + request("GET", "/nope") + GET)
    assert transport.writes == 1
    statuses = [status for status, _ in split(transport.value())]
    assert statuses == [200, 200, 404, 200]
    assert not transport.disconnecting


@given(st.lists(st.integers(0, 500), max_size=12))
def test_the_same_answers_however_the_stream_is_cut(places: list[int]) -> None:
    door = Door()
    chunked = (
        b"POST /put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + BASIC + JSON + b"\r\n"
        b'9\r\n{"key":"k\r\ne\r\n","value":"w"}\r\n0\r\n\r\n'
    )
    stream = PUT + GET + chunked + GET
    protocol, transport = door.connect()
    edges = [0, *sorted(place % len(stream) for place in places), len(stream)]
    for start, end in pairwise(edges):
        protocol.dataReceived(stream[start:end])
    bodies = [body for _, body in split(transport.value())]
    assert bodies[1] == b'{"value":"v"}'
    assert bodies[3] == b'{"value":"w"}'


def test_a_head_that_comes_again_is_answered_the_same(door: Door) -> None:
    door.cache.put(b"a", b"1")
    door.cache.put(b"b?", b"2")
    protocol, transport = door.connect()

    def ask(data: bytes) -> list[tuple[int, bytes]]:
        transport.clear()
        protocol.dataReceived(data)
        return split(transport.value())

    assert ask(request("GET", "/get/a")) == [(200, b'{"value":"1"}')]
    head = request("GET", "/get/a").partition(b"\r\n")[2].replace(b"Content-Length: 0\r\n", b"")
    for _ in range(2):
        assert ask(b"GET /get/a HTTP/1.1\r\n" + head) == [(200, b'{"value":"1"}')]
    parse = protocol._parser._parser
    protocol._parser._parser = None  # from here on nothing is parsed
    assert ask(b"GET /get/b%3F?x=1 HTTP/1.1\r\n" + head) == [(200, b'{"value":"2"}')]
    assert ask(b"GET /nope HTTP/1.1\r\n" + head)[0][0] == 404
    assert ask(b"GET /keys?limit=0 HTTP/1.1\r\n" + head) == [(200, b'{"keys":[]}')]
    protocol._parser._parser = parse
    assert ask(b"GET /get/" + b"k" * 9000 + b" HTTP/1.1\r\n" + head)[0][0] == 414
    protocol, transport = door.connect()
    assert ask(b"GET /get/a HTTP/1.1\r\n" + head)[0][0] == 200
    # A head that differs in any way is parsed.
    assert ask(b"GET /get/a HTTP/1.1\r\nX: y\r\n" + head)[0][0] == 200
    assert ask(b"GET /get/a HTTP/1.1\r\n" + head.replace(BASIC, b""))[0][0] == 401
    assert ask(b"GET /get/a HTTP/1.1\r\n" + head)[0][0] == 200
    assert ask(b"HEAD /get/a HTTP/1.1\r\n" + head).pop() == (200, b"")
    assert ask(b"GET /get/a HTTP/1.1\r\n" + head)[0][0] == 200
    assert len(ask((b"GET /get/a HTTP/1.1\r\n" + head) * 2)) == 2
    assert ask(b"GET /get/a HTTP/1.1\r\n" + head)[0][0] == 200
    assert ask(b"G\0T /get/a HTTP/1.1\r\n" + head)[0][0] == 400


def test_a_head_is_remembered_only_if_it_came_in_one_piece(door: Door) -> None:
    """The end of one head must not be taken for a complete head."""
    door.cache.put(b"a", b"secret")
    protocol, transport = door.connect()
    protocol.dataReceived(b"GET /get/a HTTP/1.1\r\n" + BASIC + b"X: ")
    protocol.dataReceived(b"GET /y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert split(transport.value())[0][0] == 200
    transport.clear()
    protocol.dataReceived(b"GET /get/a HTTP/1.1\r\nHost: a\r\n\r\n")
    assert split(transport.value())[0][0] == 401


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_in_pieces_between_does_not_lend_its_head(door: Door, method: str) -> None:
    body = b"" if method == "GET" else b"{}"
    protocol, transport = door.connect()
    stranger = request(method, "/stats" if method == "GET" else "/flush", body, JSON)
    stranger = stranger.replace(b"Content-Length: 0\r\n", b"")
    protocol.dataReceived(stranger)
    known = request("POST", "/put", b'{"key":"k","value":"v"}', BASIC + JSON)
    protocol.dataReceived(known[:20])
    protocol.dataReceived(known[20:])
    transport.clear()
    protocol.dataReceived(stranger)
    assert [status for status, _ in split(transport.value())] == [401]
    assert door.cache.get(b"k") == b"v"


def test_a_long_head_is_not_remembered(door: Door) -> None:
    door.cache.put(b"a", b"1")
    protocol, transport = door.connect()
    body = b'{"key":"a","value":"1"}'
    for size, remembered in ((9000, False), (4000, True)):
        headers = BASIC + JSON + b"X: " + b"x" * size + b"\r\n"
        look_up = request("GET", "/get/a", headers=headers).replace(b"Content-Length: 0\r\n", b"")
        store = request("POST", "/put", body, headers)
        protocol.dataReceived(look_up)
        protocol.dataReceived(store)
        assert (protocol._without_body.target(look_up) is not None) is remembered
        assert (protocol._with_body.with_body(store) is not None) is remembered
    assert [status for status, _ in split(transport.value())] == [200] * 4


def test_a_head_with_a_body_that_comes_again_is_answered_the_same(door: Door) -> None:
    protocol, transport = door.connect()

    def put(value: str, path: str = "/put", headers: bytes = b"") -> tuple[int, bytes]:
        body = json.dumps({"key": "k", "value": value}).encode()
        transport.clear()
        protocol.dataReceived(request("POST", path, body, BASIC + JSON + headers))
        ((status, answer),) = split(transport.value())
        return status, answer

    for value in ("one", "two", "a longer one", "x"):
        assert put(value)[0] == 200
        assert door.cache.get(b"k") == value.encode()
    assert put("y", "/nope")[0] == 404
    assert put("z", headers=b"X: 1\r\n")[0] == 200
    assert door.cache.get(b"k") == b"z"
    whole = request("POST", "/put", b'{"key":"k","value":"1"}', BASIC + JSON)
    transport.clear()
    # Less than one body, more than one, and a body that is not JSON.
    protocol.dataReceived(whole)
    protocol.dataReceived(whole[:-5])
    protocol.dataReceived(whole[-5:] + whole[:30])
    protocol.dataReceived(whole[30:] + whole)
    protocol.dataReceived(whole[:-1] + b"]")
    assert [status for status, _ in split(transport.value())] == [200, 200, 200, 200, 400]
    too_long = b'{"key":"k","value":"%b"}' % (b"x" * (door.settings.server.max_body_bytes))
    transport.clear()
    protocol.dataReceived(whole)
    protocol.dataReceived(request("POST", "/put", too_long, BASIC + JSON))
    assert [status for status, _ in split(transport.value())] == [200, 413]


def test_trailers_are_not_headers(door: Door) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    reply = door.send(b"POST /put HTTP/1.1\r\nHost: x\r\n" + JSON + chunked + BASIC + b"\r\n")
    assert split(reply)[0][0] == 401


def test_a_client_without_access_does_not_learn_the_limits(door: Door) -> None:
    huge = b"Content-Length: 99999999\r\n\r\n"
    for header, status in ((basic("admin", "wrong"), 401), (BASIC, 413)):
        protocol, transport = door.connect()
        protocol.dataReceived(b"POST /put HTTP/1.1\r\nHost: x\r\n" + JSON + header + huge)
        assert split(transport.value())[0][0] == status
        assert transport.half_closed
    protocol, transport = door.connect()
    protocol.dataReceived(b"POST /put HTTP/1.1\r\nHost: x\r\n" + BASIC + huge)
    assert split(transport.value())[0][0] == 415


def test_a_look_up_with_a_body_beyond_the_limit_is_refused_too(door: Door) -> None:
    door.cache.put(b"k", b"v")
    assert door.call("GET", "/get/k")[0] == 200
    huge = b"Content-Length: 99999999\r\n\r\n"
    ((status, _),) = split(door.send(b"GET /get/k HTTP/1.1\r\nHost: x\r\n" + BASIC + huge))
    assert status == 413


def test_draining_goes_on_until_all_that_had_arrived_is_read(door: Door) -> None:
    protocol, transport = door.connect()
    plain = b"GET /get/k HTTP/1.1\r\nHost: x\r\n" + BASIC + b"\r\n"
    protocol.dataReceived(plain)
    protocol._unread = 3 * len(plain)
    for _ in range(2):
        protocol.dataReceived(plain)
        assert not transport.half_closed
    protocol.dataReceived(plain)
    assert len(split(transport.value())) == 4
    assert transport.half_closed


@pytest.mark.parametrize("waits", [False, True])
def test_many_large_answers_wait_until_the_client_takes_them(door: Door, waits: bool) -> None:
    door.cache.put(b"k", b"v" * 500_000)
    protocol, transport = connect_full(door)
    if waits:
        # The first request takes several slices, and those behind it wait in the protocol.
        protocol.dataReceived(request("GET", "/stats"))
    protocol.dataReceived(GET * 700)
    assert door.cache.counters().hits < 10
    assert protocol.held_bytes() < 2_000_000
    answers = 0
    while answers < 700 + waits:
        answers += transport.value().count(b"HTTP/1.1 200 OK")
        transport.clear()
        transport.producer.resumeProducing()
        door.clock.pump([0])
    assert answers == 700 + waits
    assert door.cache.counters().hits == 700
    assert not transport.aborted


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + BASIC + b"\r\n",
    ],
    ids=["health", "metrics"],
)
def test_many_requests_at_once_are_answered_in_turns(door: Door, head: bytes) -> None:
    """Parsing is done in turns too: other clients are served in between."""
    readings = itertools.count(step=SLICE_SECONDS / 4)
    protocol, transport = door.connect()
    protocol._monotonic = lambda: next(readings)
    protocol.dataReceived(head * 600)
    turns = 0
    while (answered := transport.value().count(b"HTTP/1.1 200 OK")) < 600:
        assert transport.producerState == "paused"
        next_event(door.clock)
        turns += 1
        assert transport.value().count(b"HTTP/1.1 200 OK") - answered < 8
    assert turns > 90
    assert transport.producerState == "producing"


def test_a_body_in_small_pieces_counts_as_what_it_takes(door: Door) -> None:
    """Each piece is a separate object, which takes much more memory than its bytes."""
    protocol, _ = door.connect()
    head = b"POST /put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    protocol.dataReceived(head + BASIC + JSON + b"\r\n" + b"2\r\naa\r\n" * 10_000)
    pieces = protocol._parser._body
    taken = sum(map(sys.getsizeof, pieces)) + sys.getsizeof(pieces)
    assert len(pieces) == 10_000
    assert taken * 0.9 < door.connections.held_bytes < taken * 1.5


def test_a_long_body_of_nobody_in_particular_is_not_taken(door: Door) -> None:
    body = b'{"username":"' + b"a" * 70_000 + b'"}'
    protocol, transport = door.connect()
    protocol.dataReceived(request("POST", "/auth/login", body, JSON))
    assert split(transport.value())[0][0] == 413
    assert transport.half_closed
    protocol, transport = door.connect()
    plain = b"POST /put HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    protocol.dataReceived(plain + b"Content-Length: 70000\r\n\r\n")
    assert split(transport.value())[0][0] == 401
    assert transport.half_closed


def test_a_smaller_limit_for_bodies_holds_on_kept_connections_too(door: Door) -> None:
    body = json.dumps({"key": "k", "value": "v" * 5000}).encode()
    protocol, transport = door.connect()
    for _ in range(2):
        protocol.dataReceived(request("POST", "/put", body, BASIC + JSON))
    settings = settings_with(server={"max_body_bytes": 1024})
    door.application.configure(settings)
    door.factory.configure(settings)
    protocol.dataReceived(request("POST", "/put", body, BASIC + JSON))
    assert [status for status, _ in split(transport.value())] == [200, 200, 413]


def test_an_idle_client_that_does_not_take_its_answers_is_cut_off(door: Door) -> None:
    performance = {"idle_timeout_seconds": 10.0, "send_timeout_seconds": 0.0}
    door.factory.configure(settings_with(performance=performance))
    protocol, transport = door.connect()
    transport.producer.pauseProducing()
    protocol.dataReceived(request("GET", "/get/k"))
    door.clock.pump([1] * 20)
    assert transport.aborted


def test_an_answer_is_not_put_together_without_bound(door: Door) -> None:
    door.cache.put(b"k", b"v" * 1_000_000)
    status, answer = door.call("POST", "/keys/bulk/get", {"keys": ["k"] * 1000})
    assert (status, answer["error"]) == (413, "answer_too_large")


def test_a_client_that_does_not_read_its_last_answer_is_cut_off(door: Door) -> None:
    protocol, transport = door.connect()
    protocol.dataReceived(GET)
    door.clock.pump([1] * 302)
    assert transport.disconnecting
    assert not transport.aborted
    door.clock.pump([1] * 61)
    assert transport.aborted


@pytest.mark.parametrize(("error", "status"), [(MemoryError(), 507), (ZeroDivisionError(), 500)])
def test_a_look_up_that_fails_on_a_kept_connection_is_counted(
    door: Door, error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol, transport = door.connect()
    head = b"GET /get/a HTTP/1.1\r\nHost: x\r\n" + BASIC + b"\r\n"
    protocol.dataReceived(head)

    def fail(*arguments: Any) -> bytes:
        raise error

    monkeypatch.setattr(door.application, "look_up", fail)
    with capturedLogs():
        protocol.dataReceived(head)
    assert [found for found, _ in split(transport.value())] == [200, status]
    assert door.traffic.failed_requests == {status: 1}


def test_a_head_that_comes_again_still_needs_the_password(door: Door) -> None:
    protocol, transport = door.connect()
    plain = b"GET /get/a HTTP/1.1\r\nHost: x\r\n" + BASIC + b"\r\n"
    for _ in range(2):
        protocol.dataReceived(plain)
    door.credentials.configure(settings_with(authentication={"password": "other"}))
    transport.clear()
    protocol.dataReceived(plain)
    assert split(transport.value())[0][0] == 401


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"GET /get/k", b"GET /health", b"GET /nope", b"HEAD /get/k"]),
            st.sampled_from([b"", BASIC, b"X: 1\r\n", BASIC + b"Content-Length: 0\r\n"]),
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_one_by_one_or_all_at_once(sent: list[tuple[bytes, bytes]], at_once: bool) -> None:
    """Each request gets the same status, alone and among others."""
    requests = [line + b" HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n" for line, head in sent]
    alone = [int(Door().send(each)[9:12]) for each in requests]
    protocol, transport = Door().connect()
    for data in [b"".join(requests)] if at_once else requests:
        protocol.dataReceived(data)
    statuses = [int(part[:3]) for part in transport.value().split(b"HTTP/1.1 ")[1:]]
    assert statuses == alone


def test_head_has_the_head_of_get_and_no_body(door: Door) -> None:
    door.cache.put(b"k", b"value")
    reply = door.send(request("HEAD", "/get/k"))
    assert b"content-length: 17\r\n" in reply
    assert reply.endswith(b"\r\n\r\n")


def test_options_tells_the_methods(door: Door) -> None:
    reply = door.send(request("OPTIONS", "/keys/k", headers=b""))
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert b"allow: GET,HEAD,PUT,DELETE\r\n" in reply


def test_the_connection_closes_when_the_client_says_so(door: Door) -> None:
    protocol, transport = door.connect()
    protocol.dataReceived(request("GET", "/health", headers=b"Connection: close\r\n") + GET)
    assert b"connection: close\r\n" in transport.value()
    assert len(split(transport.value())) == 1
    assert transport.half_closed


def test_http_1_0_closes(door: Door) -> None:
    protocol, transport = door.connect()
    protocol.dataReceived(b"GET /health HTTP/1.0\r\n\r\n")
    assert transport.half_closed


def test_expect_is_answered_before_the_body(door: Door) -> None:
    protocol, transport = door.connect()
    head, _, body = request(
        "POST", "/put", b'{"key":"k","value":"v"}', BASIC + JSON + b"Expect: 100-continue\r\n"
    ).partition(b"\r\n\r\n")
    protocol.dataReceived(head + b"\r\n\r\n")
    assert transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n"
    transport.clear()
    protocol.dataReceived(body)
    assert split(transport.value())[0][0] == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("POST", "/nope", b"x" * 9, BASIC + JSON), 404),
        (request("PUT", "/put", b"x" * 9, BASIC + JSON), 405),
        (request("POST", "/put", b"x" * 9, JSON), 401),
        (request("POST", "/put", b"x" * 9, b"Authorization: Basic %%\r\n" + JSON), 401),
        (request("PUT", "/keys/%FF", b"x" * 9, b"Authorization: Bearer x\r\n" + JSON), 401),
    ],
)
def test_expect_gets_the_error_at_once_where_the_body_cannot_matter(
    door: Door, data: bytes, status: int
) -> None:
    protocol, transport = door.connect()
    head = data.partition(b"\r\n\r\n")[0]
    protocol.dataReceived(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert split(transport.value())[0][0] == status
    assert b"connection: close" in transport.value()
    assert transport.half_closed


def test_expect_of_something_else(door: Door) -> None:
    assert split(door.send(request("GET", "/health", b"", b"Expect: tea\r\n")))[0][0] == 417


def test_expect_does_not_tell_right_credentials_from_wrong_ones(door: Door) -> None:
    door.send(GET)
    for header in (BASIC, basic("admin", "wrong")):
        head = request("POST", "/put", b"x" * 9, header).partition(b"\r\n\r\n")[0]
        assert door.send(head + b"\r\nExpect: 100-continue\r\n\r\n") == (
            b"HTTP/1.1 100 Continue\r\n\r\n"
        )


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /health HTTP/9.9\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, 400),
        (request("POST", "/put", b"{}", JSON + b"Transfer-Encoding: chunked\r\n"), 400),
        (b"POST /put HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /put HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + BASIC * 2 + b"\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (
            b"GET /health HTTP/1.1\r\nHost: x\r\n"
            + b"".join(b"A%d: b\r\n" % n for n in range(101))
            + b"\r\n",
            431,
        ),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 80_000, 431),
        (b"POST /put HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 401),
        (b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 404),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 405),
    ],
)
def test_what_is_not_a_proper_request_is_refused_and_closed(
    door: Door, data: bytes, status: int
) -> None:
    protocol, transport = door.connect()
    for start in range(0, len(data), 4096):
        protocol.dataReceived(data[start : start + 4096])
    ((answered, body),) = split(transport.value())
    assert answered == status
    assert json.loads(body)["error"]
    assert b"connection: close" in transport.value()
    assert transport.half_closed


CHUNKED = BASIC + JSON + b'\r\n17\r\n{"key":"k","value":"v"}\r\n0\r\n\r\n'


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /health\r\n", 505),
        (b"GET /health\r\n\r\n", 505),
        (b"\r\nGET /health\n", 505),
        (b"GET /health HTTP/0.9\r\n", 505),
        (b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 505),
        (b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /health  HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET  /health HTTP/1.1\r\nHost: x\r\nX: GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
        (b"GET /health RTSP/1.0\r\nHost: x\r\n\r\n", 400),
        *(
            (
                b"POST /put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %b\r\n%b"
                % (codings, CHUNKED),
                501,
            )
            for codings in (
                b"gzip, chunked",
                b"x, chunked",
                b"x,Chunked",
                b"identity, chunked",
                b"gzip\r\ntransfer-encoding: chunked",
            )
        ),
        *(
            (
                b"POST /put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %b\r\n%b"
                % (codings, CHUNKED),
                400,
            )
            for codings in (b"gzip", b"chunked, gzip", b"xchunked", b"")
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 20, 4096])
def test_what_is_not_our_http(door: Door, data: bytes, status: int, size: int) -> None:
    protocol, transport = door.connect()
    for start in range(0, len(data), size):
        protocol.dataReceived(data[start : start + size])
    ((answered, _),) = split(transport.value())
    assert answered == status
    assert b"connection: close" in transport.value()
    assert transport.half_closed
    assert door.cache.get(b"k") is None


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b" CHUNKED "])
def test_the_one_transfer_coding(door: Door, coding: bytes) -> None:
    head = b"POST /put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:" + coding + b"\r\n"
    assert split(door.send(head + CHUNKED))[0][0] == 200


@given(st.lists(st.integers(0, 700), max_size=8), st.booleans())
def test_a_blank_too_many_behind_other_requests(places: list[int], twice: bool) -> None:
    """It is refused however the requests before it end, and however the stream is cut."""
    door = Door()
    chunked = b"POST /put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + CHUNKED
    last = b"GET%b/get/k HTTP/1.1\r\nHost: x\r\n%b\r\n" % (b"  " if twice else b" ", BASIC)
    stream = GET + PUT + b"\r\n" + chunked + GET + last
    protocol, transport = door.connect()
    cuts = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    for start, end in pairwise(cuts):
        protocol.dataReceived(stream[start:end])
    statuses = [status for status, _ in split(transport.value())]
    assert statuses == [200] * 4 + [400 if twice else 200]


def test_what_came_is_not_kept(door: Door) -> None:
    protocol, _ = door.connect()
    for data in (GET, PUT, PUT[:-1], PUT[-1:]):
        protocol.dataReceived(data)
        assert protocol._parser._came == b""


def test_http_1_0_is_not_told_to_continue(door: Door) -> None:
    protocol, transport = door.connect()
    body = b'{"key":"k","value":"v"}'
    for expected in (b"100-continue", b"something"):
        head = b"POST /put HTTP/1.0\r\nConnection: keep-alive\r\nExpect: %b\r\n" % expected
        head += b"Content-Length: %d\r\n" % len(body) + BASIC + JSON + b"\r\n"
        protocol.dataReceived(head)
        assert transport.value() == b""
        protocol.dataReceived(body)
        assert split(transport.value())[0][0] == 200
        transport.clear()


def test_a_key_is_not_empty(door: Door) -> None:
    seen = set()
    for route in door.routes.all:
        names = {field.name: field.kind for field in route.body or ()}
        body: dict[str, Any] = {"value": "v", "tags": []}
        for name, empty in (("key", ""), ("keys", ["k", ""])):
            if name in names:
                seen.add(route.path)
                status, answer = door.call(route.method, route.path, {**body, name: empty})
                assert (status, answer["error"]) == (422, "invalid_field")
                assert answer["detail"].startswith(f"{name} must be a ")
    assert seen == {
        *("/put", "/add", "/incr", "/decr", "/touch", "/invalidate-key", "/release"),
        *("/invalidate/keys", "/keys/bulk/get", "/keys/bulk/delete"),
    }
    assert door.call("PUT", "/keys/", {"value": 1})[0] == 404
    assert door.call("GET", "/get/")[0] == 404
    assert door.cache.totals().items == 0


def test_bodies_are_bounded_however_they_come() -> None:
    door = Door(settings_with(server={"max_body_bytes": 1024}))
    door.send(GET)
    data = request("POST", "/put", b'{"key":"' + b"k" * 1025 + b'","value":""}', BASIC + JSON)
    assert split(door.send(data))[0][0] == 413
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    head = (
        b"POST /put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + BASIC + JSON + b"\r\n"
    )
    assert split(door.send(head + chunk + chunk))[0][0] == 413
    endless = b"1;" + b"e" * 50_000
    protocol, transport = door.connect()
    protocol.dataReceived(head)
    for _ in range(5):
        protocol.dataReceived(endless)
    assert split(transport.value())[0][0] in (400, 413)
    assert transport.half_closed


def test_a_slow_head_is_timed_out(door: Door) -> None:
    protocol, transport = door.connect()
    protocol.dataReceived(b"GET /health HTTP/1.1\r\n")
    for _ in range(9):
        door.clock.advance(1)
        protocol.dataReceived(b"A: b\r\n")
    assert transport.value() == b""
    door.clock.pump([1, 1])
    assert split(transport.value())[0][0] == 408
    assert transport.disconnecting


def test_a_slow_body_is_timed_out(door: Door) -> None:
    protocol, transport = door.connect()
    protocol.dataReceived(request("POST", "/put", b"x" * 100, BASIC + JSON)[:-90])
    for _ in range(59):
        door.clock.advance(1)
        protocol.dataReceived(b"x")
    assert transport.value() == b""
    door.clock.pump([1, 1])
    assert split(transport.value())[0][0] == 408


def test_a_connection_between_requests_is_closed_after_a_while(door: Door) -> None:
    protocol, transport = door.connect()
    protocol.dataReceived(GET)
    transport.clear()
    door.clock.pump([1] * 299)
    assert not transport.disconnecting
    door.clock.pump([1] * 3)
    assert transport.disconnecting
    assert transport.value() == b""


def test_an_upgrade_is_answered_as_plain_http(door: Door) -> None:
    protocol, transport = door.connect()
    protocol.dataReceived(
        request("GET", "/health", headers=b"Connection: upgrade\r\nUpgrade: websocket\r\n")
    )
    assert split(transport.value())[0][0] == 200


def test_one_connection_too_many(door: Door) -> None:
    door = Door(settings_with(performance={"max_connections": 1}))
    door.connect()
    _, transport = door.connect()
    assert split(transport.value())[0][0] == 503


def test_an_endpoint_that_fails_is_logged_and_answered_without_detail(door: Door) -> None:
    def fail(key: bytes) -> bytes:
        raise RuntimeError("secret detail")

    door.engine.session.get = fail
    with capturedLogs() as events:
        ((status, body), (after, _)) = split(door.send(GET + request("GET", "/health")))
    assert (status, after) == (500, 200)
    assert b"secret" not in body
    assert any("log_failure" in event for event in events)


class Slow:
    """An application that answers when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Response]] = []
        self.traffic = Traffic(settings_with())

    def label(self, method: bytes, path: bytes) -> str:
        return "slow"

    def max_body(self, request: Any) -> int:
        return 100

    def answer(self, request: Any) -> Deferred[Response]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def objection(self, request: Any) -> None:
        return None

    def header_lines(self, request: Any) -> bytes:
        return b""


def test_requests_wait_behind_an_answer_that_takes_time(door: Door) -> None:
    slow = Slow()
    door.factory._application = slow  # type: ignore[assignment]
    protocol, transport = door.connect()
    protocol.dataReceived(GET + GET + GET)
    assert len(slow.waiting) == 1
    assert transport.producerState == "paused"
    slow.waiting[0].callback(Response(200, b"1"))
    slow.waiting[1].callback(Response(200, b"2"))
    assert [body for _, body in split(transport.value())] == [b"1", b"2"]
    slow.waiting[2].errback(RuntimeError("boom"))
    assert split(transport.value())[2][0] == 500
    assert transport.producerState == "producing"


def test_an_error_behind_an_answer_that_takes_time_comes_after_it(door: Door) -> None:
    slow = Slow()
    door.factory._application = slow  # type: ignore[assignment]
    protocol, transport = door.connect()
    protocol.dataReceived(GET + b"nonsense\r\n\r\n")
    assert transport.value() == b""
    slow.waiting[0].callback(Response(200, b"1"))
    assert [status for status, _ in split(transport.value())] == [200, 400]
    assert transport.half_closed


def test_requests_before_an_error_or_a_close_are_answered(door: Door) -> None:
    for last, statuses in (
        (b"nonsense\r\n\r\n", [200, 200, 400]),
        (request("GET", "/x", headers=b"Connection: close\r\n") + GET, [200, 200, 200]),
    ):
        slow = Slow()
        door.factory._application = slow  # type: ignore[assignment]
        protocol, transport = door.connect()
        protocol.dataReceived(GET + GET + last)
        while any(not each.called for each in slow.waiting):
            next(each for each in slow.waiting if not each.called).callback(Response(200, b""))
        assert [status for status, _ in split(transport.value())] == statuses
        assert transport.half_closed


def test_expect_behind_an_answer_that_takes_time_is_answered_after_it(door: Door) -> None:
    slow = Slow()
    door.factory._application = slow  # type: ignore[assignment]
    protocol, transport = door.connect()
    head = request("POST", "/put", b"x" * 9, b"Expect: 100-continue\r\n")[:-9]
    protocol.dataReceived(GET + head)
    assert transport.value() == b""
    slow.waiting[0].callback(Response(200, b"1"))
    assert transport.value().endswith(b"\r\n\r\n1HTTP/1.1 100 Continue\r\n\r\n")


def test_a_connection_lost_meanwhile_cancels_the_work(door: Door) -> None:
    slow = Slow()
    door.factory._application = slow  # type: ignore[assignment]
    protocol, _ = door.connect()
    protocol.dataReceived(GET)
    with capturedLogs() as events:
        protocol.connectionLost(Failure(ConnectionDone()))
    assert slow.waiting[0].called
    assert not any("log_failure" in event for event in events)


# Authentication and access.


def basic(username: str, password: str) -> bytes:
    return b"Authorization: Basic %b\r\n" % base64.b64encode(f"{username}:{password}".encode())


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Authorization: basic YWRtaW46cGFzc3dvcmQ=\r\n",
        b"Authorization: Basic  YWRtaW46cGFzc3dvcmQ=\r\n",
        b"Authorization: Basic YWRtaW46cGFzc3dvcmQ\r\n",
        b"Authorization: Basic YWRtaW5wYXNzd29yZA==\r\n",
        b"Authorization: Bearer nope\r\n",
        b"Authorization: Digest x\r\n",
        basic("admin", "passwor"),
        basic("admi", "password"),
        basic("admin", "password "),
    ],
)
def test_nothing_is_shown_without_credentials(door: Door, header: bytes) -> None:
    reply = door.send(request("GET", "/stats", headers=header))
    assert split(reply) == [(401, b'{"error":"unauthorized"}')]
    assert b"www-authenticate: Basic" in reply


@pytest.mark.parametrize("path", ["/health", "/auth/setup_required", "/docs", "/openapi.json"])
def test_what_is_open(door: Door, path: str) -> None:
    assert split(door.send(request("GET", path, headers=b"")))[0][0] == 200


def test_every_other_endpoint_asks(door: Door) -> None:
    from tagcache.server.http.routes import Access

    for route in door.routes.all:
        path = route.path.replace("{key}", "k")
        status, _ = split(door.send(request(route.method, path, b"{}", JSON), "10.0.0.1"))[0]
        assert (status == 401) == (route.access is not Access.OPEN), route.path


def test_the_host_stats_are_open_to_this_machine_only(door: Door) -> None:
    assert door.call("GET", "/system", headers=b"")[0] == 200
    assert door.call("GET", "/system", headers=b"", host="10.0.0.1")[0] == 401


def test_authentication_can_be_switched_off() -> None:
    door = Door(settings_with(security={"require_auth": False}))
    assert door.call("GET", "/stats", headers=b"")[0] == 200


def test_tokens(door: Door) -> None:
    login = {"username": "admin", "password": "password"}
    status, answer = door.call("POST", "/auth/login", login, headers=b"")
    assert (status, answer["expires_in"]) == (200, 3600)
    assert len(answer["token"]) == 48
    assert answer["token"].isalnum()
    bearer = f"Authorization: Bearer {answer['token']}\r\n".encode()
    assert door.call("GET", "/stats", headers=bearer)[0] == 200
    door.clock.advance(3599)
    assert door.call("GET", "/stats", headers=bearer)[0] == 200
    door.clock.advance(1)
    assert door.call("GET", "/stats", headers=bearer)[0] == 401


def test_a_wrong_login_is_answered_and_throttled_by_address(door: Door) -> None:
    wrong = {"username": "admin", "password": "x"}
    for _ in range(5):
        status, answer = door.call("POST", "/auth/login", wrong, headers=b"")
        assert (status, answer) == (401, {"error": "invalid_credentials"})
    assert door.call("POST", "/auth/login", wrong, headers=b"")[0] == 429
    right = {"username": "admin", "password": "password"}
    reply = door.send(request("POST", "/auth/login", json.dumps(right).encode(), JSON))
    assert split(reply)[0][0] == 429
    assert b"retry-after: 1\r\n" in reply
    assert door.call("POST", "/auth/login", right, headers=b"", host="10.0.0.9")[0] == 200
    door.clock.advance(2)
    assert door.call("POST", "/auth/login", right, headers=b"")[0] == 200


def test_a_header_that_was_verified_is_not_slowed(door: Door) -> None:
    assert door.call("GET", "/stats")[0] == 200
    for _ in range(20):
        door.call("GET", "/stats", headers=basic("admin", "x"))
    assert door.call("GET", "/stats", headers=basic("admin", "y"))[0] == 429
    assert door.call("GET", "/stats")[0] == 200


def test_a_pause_is_for_passwords_alone(door: Door) -> None:
    login = {"username": "admin", "password": "password"}
    token = door.call("POST", "/auth/login", login, headers=b"")[1]["token"]
    while door.call("GET", "/stats", headers=basic("admin", "x"))[0] != 429:
        pass
    bearer = b"Authorization: Bearer %b\r\n"
    for headers, status in (
        (b"", 401),
        (bearer % token.encode(), 200),
        (bearer % (b"x" * 48), 401),
        (b"Authorization: Digest x\r\n", 401),
        (b"Authorization: Basic !\r\n", 401),
        (basic("admin", "y"), 429),
    ):
        assert door.call("GET", "/stats", headers=headers)[0] == status, headers
    assert door.call("GET", "/health", headers=basic("admin", "x"))[0] == 200


def test_the_default_password_cannot_be_set_while_exposed(door: Door) -> None:
    door.exposed = True
    for path, body in (("change_password", {"new_password": "password"}), ("reset", None)):
        status, answer = door.call("POST", f"/auth/{path}", body)
        assert (status, answer["error"]) == (409, "exposed")


def test_rates_are_limited(door: Door) -> None:
    door = Door(settings_with(security={"rate_limit_per_minute": 2}))
    reply = door.send(GET * 3)
    assert [status for status, _ in split(reply)] == [200, 200, 429]
    assert b"retry-after: 30\r\n" in reply
    assert json.loads(split(reply)[2][1])["error"] == "rate_limited"


def test_other_origins_are_told_nothing(door: Door) -> None:
    reply = door.send(request("GET", "/health", headers=b"Origin: http://evil.example\r\n"))
    assert b"access-control" not in reply


def test_the_allowed_origin_is_allowed() -> None:
    door = Door(settings_with(server={"allowed_origin": "https://good.example"}))
    good = b"Origin: https://good.example\r\n"
    reply = door.send(request("GET", "/stats", headers=good))
    assert b"access-control-allow-origin: https://good.example\r\n" in reply
    assert b"vary: origin\r\n" in reply
    preflight = good + b"Access-Control-Request-Method: POST\r\n"
    reply = door.send(request("OPTIONS", "/put", headers=preflight))
    assert reply.startswith(b"HTTP/1.1 200")
    assert b"access-control-allow-headers: authorization, content-type\r\n" in reply
    evil = door.send(request("GET", "/health", headers=b"Origin: https://evil.example\r\n"))
    assert b"access-control" not in evil


def test_what_is_loopback() -> None:
    local = ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "unix")
    assert all(is_loopback(each) for each in local)
    assert not any(is_loopback(each) for each in ("10.0.0.1", "::2", "::ffff:10.0.0.1", "", "x"))


# Behaviour of the endpoints that the recorded exchanges do not cover.


def test_limits_over_http(door: Door) -> None:
    entry = {"key": "k", "value": "v", "tags": []}
    for change, status, error in [
        ({"key": "k" * 1025}, 422, "key_too_long"),
        ({"value": "v" * 1048577}, 413, "value_too_large"),
        ({"tags": [str(n) for n in range(101)]}, 422, "too_many_tags"),
        ({"tags": ["t" * 1025]}, 422, "tag_too_long"),
    ]:
        answered, answer = door.call("POST", "/put", {**entry, **change})
        assert (answered, answer["error"]) == (status, error)
        assert "limit" in answer["detail"]


def test_values_that_are_not_text(door: Door) -> None:
    door.cache.put(b"k", b"\xff\n", [b"\xfe"])
    assert door.call("GET", "/get/k") == (200, {"value_base64": "/wo="})
    _, item = door.call("GET", "/keys/k")
    assert item["value_base64"] == "/wo="
    assert "value" not in item
    assert item["tags"] == ["\ufffd"]


def test_a_value_at_the_limit_may_need_marks(door: Door) -> None:
    value = "a\n" * 524288
    for path, more in [("/put", {"key": "k"}), ("/add", {"key": "l"})]:
        assert door.call("POST", path, {"value": value, **more})[0] == 200
    assert door.call("GET", "/get/l") == (200, {"value": value})
    answered, answer = door.call("POST", "/put", {"key": "k", "value": value + "\n"})
    assert (answered, answer["error"]) == (413, "value_too_large")
    assert "1048577 bytes" in answer["detail"]


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        (b"a\nb", "a\nb"),
        (b"\\:a\nb", "\\:a\nb"),
        (b"\\:\\x", "\\:\\x"),
        (b"\\z:text", "\\z:text"),
        (b"\\:a\\nb", "a\nb"),
        (b"\\", "\\"),
    ],
)
def test_values_that_no_client_wrote_are_returned_as_stored(
    door: Door, stored: bytes, value: str
) -> None:
    """For example, values that were stored over HTTP before the server used marks."""
    door.cache.put(b"k", stored)
    assert door.call("GET", "/get/k") == (200, {"value": value})
    assert door.call("GET", "/keys/k")[1]["value"] == value


def test_a_repeated_field_is_found_however_it_is_written(door: Door) -> None:
    for body in (
        b'{"key":"a","value":"v","key":"b"}',
        b'{"key":"a","value":"v","\\u006bey":"b"}',
        b'{"key":"a","value":"{\\"key\\":1}","x":{"key":1},"key" :"b"}',
    ):
        reply = door.send(request("POST", "/put", body, BASIC + JSON))
        assert split(reply)[0][0] == 422, body
    for body in (
        b'{"key":"key","value":"key"}',
        b'{"key":"a","value":"v","x":{"key":1},"y":"\\"key\\""}',
        b'{"key":"a","value":"v","x":1,"x":2}',
    ):
        reply = door.send(request("POST", "/put", body, BASIC + JSON))
        assert split(reply)[0][0] == 200, body


def test_paging(door: Door) -> None:
    for number in range(5):
        door.cache.put(b"k%d" % number, b"", [b"t"])
    pages = [door.call("GET", f"/keys?limit=2&offset={n}")[1]["keys"] for n in (0, 2, 4)]
    assert [[each["key"] for each in page] for page in pages] == [
        ["k4", "k3"],
        ["k2", "k1"],
        ["k0"],
    ]
    _, found = door.call("POST", "/search", {"q": "k", "limit": 2, "offset": 1})
    assert [each["key"] for each in found["keys"]] == ["k3", "k2"]
    seen = set()
    for offset in range(5):
        _, found = door.call("POST", "/search", {"tag_any": ["t"], "limit": 1, "offset": offset})
        seen.add(found["keys"][0]["key"])
    assert len(seen) == 5


@pytest.mark.parametrize("by", [{}, {"q": "k"}, {"tag_any": ["t"]}, {"tag_all": ["t"]}])
def test_offsets_beyond_everything(door: Door, by: dict[str, Any]) -> None:
    door.cache.put(b"k", b"", [b"t"])
    for offset in (1, 2**63, 2**64 - 1):
        body = {**by, "offset": offset, "limit": 2**64 - 1}
        assert door.call("POST", "/search", body) == (200, {"keys": []})
        assert door.call("GET", f"/keys?offset={offset}") == (200, {"keys": []})


def test_a_page_far_down_the_list(door: Door) -> None:
    for number in range(10_100):
        door.cache.put(b"k%d" % number, b"")
    for method, path, body in (
        ("GET", "/keys?offset=10050&limit=2", None),
        ("POST", "/search", {"offset": 10050, "limit": 2}),
    ):
        _, answer = door.call(method, path, body)
        assert [each["key"] for each in answer["keys"]] == ["k49", "k48"]


def test_long_lists_are_answered_in_slices(door: Door) -> None:
    for number in range(1000):
        door.cache.put(b"k%d" % number, b"", [b"t"])
    assert len(door.call("GET", "/keys")[1]["keys"]) == 1000
    assert len(door.call("POST", "/search", {"q": "k", "limit": 999})[1]["keys"]) == 999
    assert len(door.call("POST", "/keys/bulk/get", {"keys": ["k1"] * 300})[1]["items"]) == 300


def test_a_value_with_very_many_brackets_is_read_in_slices(door: Door) -> None:
    value = [[[]] * 10_000] * 10
    door.cache.put(b"deep", json.dumps(value).encode(), [])
    readings, turns = itertools.count(), itertools.count()

    class Turns(Clock):
        def callLater(self, *args: Any, **more: Any) -> Any:
            next(turns)
            return super().callLater(*args, **more)

    clock = Turns()
    slices = Slices(clock, lambda: next(readings) * SLICE_SECONDS / 10)
    entries = Entries(door.databases, slices, door.waits)
    call = Call(HttpRequest(b"GET", b"", b"", {}, ""), "deep", {}, {"keys": ["deep"]})
    for endpoint in (entries.key, entries.bulk_get):
        before = next(turns)
        answered: list[Response] = []
        later = endpoint(call)
        assert isinstance(later, Deferred)
        later.addCallback(answered.append)
        clock.advance(0)
        assert next(turns) - before > 5
        told = json.loads(answered[0].body)
        assert told.get("items", [told])[0]["value"] == value


def test_tags_are_listed_with_their_sizes(door: Door) -> None:
    door.cache.put(b"1", b"abc", [b"big", b"one"])
    door.cache.put(b"2", b"", [b"big"])
    idle = {
        "hits": 0,
        "misses_after_invalidation": 0,
        "invalidations": 0,
        "invalidated": 0,
        "stale_served": 0,
        "fills_refused": 0,
        "seconds_since_invalidation": None,
    }
    assert door.call("GET", "/tags")[1] == {
        "tags": [
            {"name": "big", "keys": 2, "bytes": 5, **idle},
            {"name": "one", "keys": 1, "bytes": 4, **idle},
        ]
    }
    door.call("POST", "/invalidate-tag", {"tag": "big"})
    door.cache.put(b"3", b"", [b"big"])
    door.cache.get(b"1")
    door.clock.advance(2)
    told = door.call("GET", "/tags?prefix=big")[1]["tags"][0]
    assert told["misses_after_invalidation"] == told["invalidations"] == 1
    assert (told["invalidated"], told["seconds_since_invalidation"]) == (2, 2)
    door.cache.put(b"4", b"", [b"big", b"one"])
    assert [t["name"] for t in door.call("GET", "/tags?prefix=o")[1]["tags"]] == ["one"]
    assert [t["name"] for t in door.call("GET", "/tags?limit=1")[1]["tags"]] == ["big"]
    assert door.call("GET", "/tags?limit=0")[1] == {"tags": []}


def test_connections_are_listed(door: Door) -> None:
    (told,) = door.call("GET", "/connections")[1]["connections"]
    assert (told["listener"], told["last_verb"], told["commands"]) == ("http", "GET", 1)
    assert told["dashboard"] is False


@pytest.mark.parametrize("path", ["/", "/dashboard/main.js", "/history"])
def test_connections_of_the_dashboard_are_marked(door: Door, path: str) -> None:
    protocol, _ = door.connect()
    mark = b"Tagcache-Dashboard: 1\r\n" if path == "/history" else b""
    protocol.dataReceived(request("GET", path, headers=BASIC + mark))
    assert [each.dashboard for each in door.connections] == [True]
    # A proxy may send requests of other clients over the same connection.
    protocol.dataReceived(request("GET", "/history"))
    assert [each.dashboard for each in door.connections] == [False]
    protocol.connectionLost(Failure(ConnectionDone()))


def test_the_configuration_is_shown_with_its_secrets_masked(door: Door) -> None:
    _, told = door.call("GET", "/config")
    knobs = {(each["section"], each["key"]): each for each in told["knobs"]}
    assert knobs["authentication", "password"]["value"] == "********"
    assert knobs["performance", "tcp_nodelay"] == {
        "section": "performance",
        "key": "tcp_nodelay",
        "value": True,
        "origin": "default",
        "needs_restart": False,
        "description": "Send at once instead of waiting to fill a packet (TCP_NODELAY).",
    }
    assert knobs["server", "host"]["needs_restart"] is True


def test_touch_gives_a_new_time_to_live(door: Door) -> None:
    door.cache.put(b"k", b"v", [b"t"], 1000)
    answer = door.call("POST", "/touch", {"key": "k", "ttl_seconds": 60})
    assert answer == (200, {"ok": True, "touched": True})
    door.clock.advance(59)
    assert door.call("GET", "/keys-by-tag?tag=t")[1] == {"keys": ["k"]}
    assert door.call("POST", "/touch", {"key": "k"})[1]["touched"] is True
    door.clock.advance(3600)
    assert door.call("POST", "/touch", {"key": "nope"}) == (200, {"ok": True, "touched": False})
    assert door.cache.peek(b"k") is not None
    assert door.call("POST", "/touch", {"key": "k", "ttl_ms": -1})[0] == 422


def test_stats_leave_out_what_has_expired(door: Door) -> None:
    door.cache.put(b"k", b"vv", [b"t"], 1000)
    assert door.call("GET", "/stats")[1]["bytes"] == 2
    door.clock.advance(1)
    told = door.call("GET", "/stats")[1]
    assert (told["items"], told["tags"], told["bytes"], told["expirations"]) == (0, 0, 0, 1)
    assert (told["shard_count"], told["shard_items"]) == (1, [0])


def test_the_description_names_every_route(door: Door) -> None:
    _, document = door.call("GET", "/openapi.json", headers=b"")
    assert document["openapi"] == "3.1.0"
    named = {(method.upper(), path) for path, each in document["paths"].items() for method in each}
    assert named == {(route.method, route.path) for route in door.routes.all}


def test_the_page_needs_nothing_from_elsewhere(door: Door) -> None:
    reply = door.send(request("GET", "/docs", headers=b""))
    assert b"content-security-policy: default-src 'none'" in reply
    page = reply.partition(b"\r\n\r\n")[2].decode()
    for elsewhere in ("http:", "https:", "src=", "@import", "url("):
        assert elsewhere not in page
    assert "/invalidate/tags" in page


def test_the_largest_ttl_can_be_listed(door: Door) -> None:
    door.cache.put(b"k", b"v", [b"t"], 2**64 - 1)
    assert door.call("GET", "/keys")[1]["keys"][0]["ttl"] == 2**64 - 1
    assert door.call("GET", "/keys/k")[0] == door.call("POST", "/search", {})[0] == 200
