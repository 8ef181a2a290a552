"""HTTP connections on the pump: who answers a request, and what both answer."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tagcache import native
from tagcache.config.settings import Settings
from tagcache.server.http.messages import plain
from tagcache.server.net.pump_transport import PumpTransport
from tagcache.server.observe.traffic import NATIVE_ROUTES
from tests.helpers import settings_with
from tests.unit.native.test_http import (
    LINES,
    OTHER_BODIES,
    PLAIN_BODIES,
    answer,
    entry,
    get,
    heads_for,
    put,
)
from tests.unit.server.http.test_protocol import BASIC, JSON, Door, request, split

pytestmark = pytest.mark.skipif(native.core is None, reason="the native core is not in use")


class OnPump:
    """A client whose connection to a door is on a pump."""

    def __init__(self, door: Door, pump: Any) -> None:
        self._door, self._pump = door, pump
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        address = "127.0.0.1", 5000
        self.protocol: Any = door.factory.buildProtocol(IPv4Address("TCP", *address))
        self.transport = PumpTransport(ours, self.protocol, address, door.clock, pump)
        self.protocol.makeConnection(self.transport)

    def ask(self, data: bytes) -> bytes:
        """Send data; return all that is answered."""
        self.sock.setblocking(True)
        self.sock.sendall(data)
        self.sock.setblocking(False)
        answers = b""
        for _ in range(4):
            self._pump.run(0.0)
            self._door.clock.pump([0] * 3)
            answers += self._received()
        return answers

    def _received(self) -> bytes:
        data = b""
        try:
            while more := self.sock.recv(1 << 20):
                data += more
        except (BlockingIOError, ConnectionResetError):
            pass
        return data

    def natively(self) -> int:
        """How many requests were answered without the protocol since the last call."""
        return sum(self.transport.take_answered().requests.values())

    def close(self) -> None:
        self.sock.close()
        self.transport.abortConnection()
        self._door.clock.pump([0])


def door_for_pump(given: Settings | None = None) -> Door:
    door = Door(given)
    # The native core has its own clock.
    door.clock.rightNow = time.monotonic()
    door.factory.plain = door.cache.plain
    return door


@pytest.fixture
def door(tmp_path: Path) -> Door:
    door = door_for_pump()
    # New credentials are written there.
    door.credentials._path = tmp_path / "credentials"
    return door


@pytest.fixture
def client(door: Door, pump: Any) -> Iterator[OnPump]:
    client = OnPump(door, pump)
    yield client
    client.close()


def warm(client: OnPump) -> None:
    """Have the transport answer look-ups and stores from now on."""
    for _ in range(2):
        client.ask(put(entry("k", "v")))
    for _ in range(2):
        assert client.ask(get("k")) == plain(b'{"value":"v"}')
    client.natively()


# On a connection


def test_requests_are_answered_natively_and_counted(client: OnPump, door: Door) -> None:
    warm(client)
    before = client.protocol.connection.commands
    counted = dict(door.traffic.describe()["requests"])
    stored = put(entry("k", "w", tags=["t"], ttl_ms=60_000))
    assert client.ask(get("k") + stored + get("k") + get("none")) == b"".join(
        plain(body)
        for body in (
            b'{"value":"v"}',
            b'{"ok":true,"ttl_ms":60000}',
            b'{"value":"w"}',
            b'{"error":"not_found"}',
        )
    )
    connection = client.protocol.connection
    bytes_in = connection.bytes_in
    connection.catch_up()
    assert client.natively() == 0
    assert connection.commands == before + 4
    assert connection.last_verb == b"POST"
    assert connection.bytes_in > bytes_in
    requests = door.traffic.describe()["requests"]
    assert requests["GET /get/{key}"] == counted["GET /get/{key}"] + 3
    assert requests["POST /put"] == counted["POST /put"] + 1
    assert door.traffic.describe()["commands"] == {}
    assert set(NATIVE_ROUTES.values()) <= {route.label for route in door.routes.all}


def test_heads_alternate(client: OnPump) -> None:
    for _ in range(3):
        client.ask(put(entry("k", "v")))
        client.ask(get("k"))
    client.natively()
    client.ask(put(entry("k", "v")))
    client.ask(get("k"))
    assert client.natively() == 2


def test_only_what_has_the_same_head_is_answered_natively(client: OnPump) -> None:
    warm(client)
    others = [get("k", LINES + b"X: y\r\n"), put(entry("k", "v"), LINES + b"X: y\r\n")]
    others += [get("k", LINES.replace(BASIC, b"")), put(entry("k", "v"), JSON + b"Host: x\r\n")]
    others += [request("GET", "/stats"), get("k?db=0"), b"HEAD" + get("k")[3:]]
    statuses = [int(client.ask(other)[9:12]) for other in others]
    assert statuses == [200, 200, 401, 401, 200, 200, 200]
    assert client.natively() == 0
    client.ask(get("k"))
    assert client.natively() == 1


def test_what_follows_a_request_in_pieces_is_left(client: OnPump) -> None:
    """A body may look like a request."""
    warm(client)
    inner = get("secret") + put(entry("k", "from within"))
    outer = put(b'{"key":"k","value":"v"}' + b" " * 9 + inner)
    cut = outer.index(inner)
    assert client.ask(get("k") + outer[:cut]) == plain(b'{"value":"v"}')
    assert int(client.ask(outer[cut:])[9:12]) == 400
    assert client.natively() == 1
    assert client.ask(get("k")) == plain(b'{"value":"v"}')


def test_new_credentials_end_it(client: OnPump, door: Door) -> None:
    warm(client)
    door.credentials.change_password("another password")
    assert int(client.ask(get("k"))[9:12]) == 401
    assert int(client.ask(put(entry("k", "stolen")))[9:12]) == 401
    assert client.natively() == 0
    assert door.cache.get(b"k") == b"v"


def test_new_credentials_end_it_for_what_arrived_together(
    client: OnPump, door: Door, pump: Any
) -> None:
    warm(client)
    other = OnPump(door, pump)
    warm(other)
    change = request(
        "POST", "/auth/change_password", b'{"new_password":"another password"}', BASIC + JSON
    )
    client.sock.sendall(change)
    other.sock.sendall(get("k"))
    assert int(client.ask(b"")[9:12]) == 200
    assert int(other.ask(b"")[9:12]) == 401
    other.close()


WRONG = LINES.replace(BASIC, b"Authorization: Basic YWRtaW46d3Jvbmc=\r\n")


def test_an_error_of_the_check_admits_nobody(
    client: OnPump, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert int(client.ask(get("k", WRONG))[9:12]) == 401

    def fail(*arguments: Any) -> bool:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(door.credentials, "known_header", fail)
        assert int(client.ask(get("k", WRONG))[9:12]) == 507
    for _ in range(2):
        assert int(client.ask(get("k", WRONG))[9:12]) == 401
    assert client.natively() == 0


def test_only_a_header_that_was_found_right_is_valid(client: OnPump, door: Door) -> None:
    warm(client)
    wrong = b"Basic YWRtaW46d3Jvbmc="
    assert door.credentials.valid_until(wrong) == 0.0
    door.credentials.known_header(wrong, "127.0.0.1")
    assert door.credentials.valid_until(wrong) == 0.0


@pytest.mark.parametrize("value", [b"keep-alive", b"Keep-Alive"])
def test_what_clients_say_of_the_connection(client: OnPump, value: bytes) -> None:
    """As httpx, requests and wrk do with -H."""
    lines = LINES + b"Connection: " + value + b"\r\n"
    for _ in range(3):
        client.ask(put(entry("k", "v"), lines + JSON))
        client.ask(get("k", lines))
    client.natively()
    client.ask(put(entry("k", "v"), lines + JSON))
    client.ask(get("k", lines))
    assert client.natively() == 2


@pytest.mark.parametrize("value", [b"close", b"keep-alive, x-user", b"te"])
def test_other_values_of_it_are_for_python(client: OnPump, value: bytes) -> None:
    warm(client)
    lines = LINES + b"Connection: " + value + b"\r\n"
    client.ask(get("k", lines))
    if value != b"close":
        client.ask(get("k", lines))
    assert client.natively() == 0


def test_new_settings_end_it(client: OnPump, door: Door) -> None:
    warm(client)
    origin = replace(door.settings.server, allowed_origin="https://a.example")
    changed = replace(door.settings, server=origin)
    for configure in (door.browsers.configure, door.application.configure, door.factory.configure):
        configure(changed)
    for _ in range(4):
        assert b"vary: origin" in client.ask(get("k"))
        assert b"vary: origin" in client.ask(put(entry("k", "v")))
    assert client.natively() == 0


def test_a_rate_limit_counts_every_request(pump: Any) -> None:
    door = door_for_pump(settings_with(security={"rate_limit_per_minute": 5}))
    client = OnPump(door, pump)
    statuses = [int(client.ask(get("k"))[9:12]) for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    client.close()


def test_a_right_password_still_resets_the_failures_of_its_address(
    client: OnPump, door: Door, pump: Any
) -> None:
    warm(client)
    other = OnPump(door, pump)
    wrong = LINES.replace(b"YWRtaW46cGFzc3dvcmQ=", b"YWRtaW46cGFzc3dvcmE=")
    for _ in range(4):
        for _ in range(3):
            assert int(other.ask(get("k", wrong))[9:12]) == 401
        for _ in range(3):
            assert client.ask(get("k")) == plain(b'{"value":"v"}')
        assert not door.credentials.throttle.counting
    assert client.natively() > 0
    other.close()


def test_a_token_is_answered_natively_until_it_expires(client: OnPump, door: Door) -> None:
    door.cache.put(b"k", b"v")
    token = door.credentials.issue_token().encode()
    lines = LINES.replace(BASIC, b"Authorization: Bearer " + token + b"\r\n")
    for _ in range(4):
        assert client.ask(get("k", lines)) == plain(b'{"value":"v"}')
    assert client.natively() == 2
    client.protocol._native._heads.forget()
    door.clock.rightNow += door.credentials.token_lifetime + 1
    assert int(client.ask(get("k", lines))[9:12]) == 401
    heads = heads_for()
    heads.use_look_up(*get("|").split(b"|"), [], time.monotonic() - 1)
    assert answer(door.cache, get("k"), heads=heads) == (0, b"")


def test_another_token_may_end_it(client: OnPump, door: Door) -> None:
    token = door.credentials.issue_token().encode()
    lines = LINES.replace(BASIC, b"Authorization: Bearer " + token + b"\r\n")
    for _ in range(4):
        client.ask(get("k", lines))
    assert client.natively() == 2
    door.credentials.issue_token()
    client.ask(get("k", lines))
    assert client.natively() == 0


def test_a_connection_that_is_busy_is_not_idle(client: OnPump, door: Door) -> None:
    warm(client)
    timeout = door.settings.server.http_keepalive_timeout_seconds
    door.clock.advance(timeout - 0.1)
    # The native core has its own clock, so its requests are older than they should be.
    connection = client.protocol.connection
    client.ask(get("k"))
    caught_up = connection.catch_up
    connection.catch_up = lambda: (
        caught_up(),
        setattr(connection, "last_active", door.clock.seconds()),
    )
    door.clock.advance(1)
    assert client.ask(get("k")) == plain(b'{"value":"v"}')
    connection.catch_up = caught_up
    door.clock.advance(timeout + 1)
    client.ask(b"")
    assert client.protocol.phase.name == "FINISHED"


def test_a_drain_answers_what_had_arrived(client: OnPump) -> None:
    warm(client)
    client.sock.send(get("k") * 3)
    client.protocol.drain()
    answers = client.ask(b"")
    assert [status for status, _ in split(answers)] == [200] * 3
    assert client.natively() == 0


def test_slow_stores_are_noted(client: OnPump, door: Door, pump: Any) -> None:
    warm(client)
    door.traffic._pump = pump
    door.traffic.configure(settings_with(logging={"slow_command_ms": 1e-6}))
    client.ask(put(entry("new", "v", ttl_ms=9999)))
    client.ask(put(entry("new", "v")) + get("k"))
    assert client.natively() == 3
    slow = door.traffic.slow()
    assert [(each.command, each.commands) for each in slow] == [("HTTP mixed", 2), ("POST /put", 1)]


def test_durations_are_kept_for_a_while(client: OnPump, pump: Any) -> None:
    warm(client)
    assert pump.take_durations(3, True) == []
    for _ in range(5):
        client.ask(get("k"))
        client.ask(put(entry("k", "v")))
    assert [verb for verb, _ in pump.take_durations(3, True)] == [b"GET", b"POST", b"GET"]
    assert pump.take_durations(3) == []


# The twins

REQUESTS = st.sampled_from(
    [
        get("k"),
        get("l"),
        get("none"),
        get("k", LINES + b"X: y\r\n"),
        get("k", b"Host: x\r\n"),
        get("k", b"Host: foreign.example\r\n" + BASIC),
        request("GET", "/nope"),
        request("POST", "/add", entry("l", "added"), BASIC + JSON),
        request("POST", "/invalidate-tag", b'{"tag":"t"}', BASIC + JSON),
        request("POST", "/invalidate-key", b'{"key":"k"}', BASIC + JSON),
        b"GET /get/k HTTP/1.0\r\nConnection: keep-alive\r\n" + BASIC + b"\r\n",
        *map(put, PLAIN_BODIES),
        put(entry("l", "x" * 50)),
        put(entry("k", "w"), b"Host: x\r\n" + JSON),
        put(OTHER_BODIES[3]),
        put(OTHER_BODIES[23]),
    ]
)
# One by one, or several at once.
HISTORIES = st.lists(
    st.builds(
        lambda one, times, at_once: [one * times] if at_once else [one] * times,
        REQUESTS,
        st.integers(1, 4),
        st.booleans(),
    ),
    max_size=8,
).map(lambda parts: [each for part in parts for each in part])


def check_both(history: list[bytes], places: list[int]) -> None:
    """Both twins answer the same, and are in the same state."""
    core: Any = native.core
    door, twin = door_for_pump(), Door()
    twin.clock.rightNow = door.clock.rightNow
    protocol, transport = twin.connect()
    with select.epoll() as others:
        client = OnPump(door, core.Pump(others.fileno()))
        stream = b"".join(history)
        whole, at = {0}, 0
        for each in history:
            at += len(each)
            whole.add(at)
        edges = sorted(whole | {place % (len(stream) + 1) for place in places})
        for start, end in pairwise(edges):
            answers = client.ask(stream[start:end])
            transport.clear()
            protocol.dataReceived(stream[start:end])
            twin.clock.pump([0] * 3)
            assert answers == transport.value()
        client.protocol.connection.catch_up()
        assert client.protocol.connection.describe(0)["commands"] == protocol.connection.commands
        assert door.traffic.describe() == twin.traffic.describe()
        assert door.cache.counters() == twin.cache.counters()
        assert [_content(door, key) for key in (b"k", b"l")] == [
            _content(twin, key) for key in (b"k", b"l")
        ]
        client.close()
    protocol.connectionLost(Failure(ConnectionDone()))


def _content(door: Door, key: bytes) -> tuple[object, ...] | None:
    found = door.cache.peek(key)
    return None if found is None else (found.value, found.tags, found.ttl)


PLACES = st.lists(st.integers(0, 5000), max_size=8)


@settings(max_examples=12)
@given(HISTORIES, PLACES)
def test_both_answer_the_same(history: list[bytes], places: list[int]) -> None:
    check_both(history, places)


@pytest.mark.slow
@settings(max_examples=100)
@given(HISTORIES, PLACES)
def test_both_answer_the_same_for_long(history: list[bytes], places: list[int]) -> None:
    check_both(history, places)
