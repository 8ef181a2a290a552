"""A client pipelines commands to a remote engine: replies are sent in order, and together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from tagcache.server.cache_port.protocol import CacheProtocol
from tagcache.server.commands.table import Reply, Verbs
from tagcache.server.net.reply_queue import MOST_AT_ONCE
from tests.helpers import only, settings_with
from tests.unit.server.line.test_protocol import Server, lose


class Client:
    """A client whose GETs wait for ``answer``; a GET of the key ``near`` is answered at once."""

    def __init__(self) -> None:
        settings = settings_with()
        self.server = Server(settings)
        elsewhere: Any = SimpleNamespace(store=None, open_session=lambda: None)
        self.server.factory = self.server.factory_of(only(elsewhere), settings)
        self.protocol, self.transport = self.server.connect()
        self.waiting: dict[bytes, Deferred[bytes]] = {}
        commands = {b"GET": self._get, b"PING": self._ping}
        self.protocol.framing.use_verbs(Verbs(commands, self._ping, frozenset((b"GET",))))

    def _get(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        key = fields[1]
        if key == b"near":
            return b"near\n"
        self.waiting[key] = Deferred()
        return self.waiting[key]

    @staticmethod
    def _ping(client: CacheProtocol, fields: list[bytes]) -> Reply:
        return b"PONG\n"

    def get(self, *keys: bytes) -> None:
        self.protocol.dataReceived(b"".join(b"GET\t%s\n" % key for key in keys))

    def answer(self, *keys: bytes, size: int = 0) -> None:
        for key in keys:
            self.waiting.pop(key).callback(key.ljust(size, b".") + b"\n")

    @property
    def said(self) -> bytes:
        return self.transport.value()


@pytest.fixture
def client() -> Client:
    return Client()


def test_a_single_reply_leaves_at_once(client: Client) -> None:
    client.get(b"a")
    client.answer(b"a")
    assert client.said == b"a\n"


def test_replies_leave_in_one_write_with_the_last(client: Client) -> None:
    client.get(b"a", b"b", b"c")
    client.answer(b"a", b"b", b"c")
    assert (client.said, client.transport.writes) == (b"a\nb\nc\n", 1)


def test_replies_that_are_there_do_not_wait_for_later_ones(client: Client) -> None:
    client.get(b"a", b"b", b"c", b"d")
    client.answer(b"a", b"b", b"d")
    client.server.clock.advance(0)
    assert (client.said, client.transport.writes) == (b"a\nb\n", 1)
    client.answer(b"c")
    assert (client.said, client.transport.writes) == (b"a\nb\nc\nd\n", 2)


def test_what_is_answered_at_once_waits_for_its_turn(client: Client) -> None:
    client.get(b"a", b"near", b"b")
    assert client.said == b""
    client.answer(b"a")
    client.server.clock.advance(0)
    assert client.said == b"a\nnear\n"
    client.answer(b"b")
    assert client.said == b"a\nnear\nb\n"


def test_what_came_between_is_sent_too(client: Client) -> None:
    client.get(b"a", b"b")
    client.answer(b"a")
    client.get(b"c")
    client.answer(b"c", b"b")
    assert client.said == b"a\nb\nc\n"
    client.server.clock.advance(0)
    assert client.said == b"a\nb\nc\n"
    client.get(b"d", b"e")
    client.answer(b"d")
    client.server.clock.advance(0)
    assert client.said == b"a\nb\nc\nd\n"


def test_a_command_that_waits_for_all_before_it_is_carried_out_with_the_last(
    client: Client,
) -> None:
    client.protocol.dataReceived(b"GET\ta\nGET\tb\nPING\nGET\tc\n")
    client.answer(b"a")
    client.server.clock.advance(0)
    assert (client.said, list(client.waiting)) == (b"a\n", [b"b"])
    client.answer(b"b")
    assert (client.said, list(client.waiting)) == (b"a\nb\nPONG\n", [b"c"])


def test_nothing_is_carried_out_beside_a_command_that_is_carried_out_alone(
    client: Client,
) -> None:
    alone: Deferred[bytes] = Deferred()
    verbs = client.protocol.framing._understood
    commands = {**verbs.commands, b"ALONE": lambda caller, fields: alone}
    client.protocol.framing.use_verbs(verbs._replace(commands=commands))
    client.protocol.dataReceived(b"GET\ta\nGET\tb\nALONE\n")
    client.answer(b"a", b"b")
    client.server.clock.advance(0)
    # Reading is paused.
    assert client.transport.producerState == "paused"
    client.get(b"c")
    assert not client.waiting
    alone.callback(b"done\n")
    client.answer(b"c")
    assert client.said == b"a\nb\ndone\nc\n"
    assert client.transport.producerState == "producing"


def test_large_replies_leave_in_pieces(client: Client) -> None:
    keys = [b"%d" % number * (MOST_AT_ONCE // 2) for number in range(5)]
    client.get(*keys)
    client.answer(*keys[:3])
    assert client.said.startswith(keys[0])
    client.answer(*keys[3:])
    assert client.said == b"".join(key + b"\n" for key in keys)
    assert client.transport.writes == 3


def test_a_client_that_is_lost_is_sent_nothing(client: Client) -> None:
    client.get(b"a", b"b")
    client.answer(b"a")
    lose(client.protocol)
    assert client.server.clock.getDelayedCalls() == []
    client.answer(b"b")
    assert client.said == b""


def test_a_client_that_ends_is_answered_first(client: Client) -> None:
    client.get(b"a", b"b")
    client.answer(b"a")
    client.protocol.readConnectionLost()
    assert not client.transport.disconnecting
    client.answer(b"b")
    assert client.said == b"a\nb\n"
    assert client.transport.disconnecting


def test_replies_wait_in_order_while_the_client_does_not_take_them(client: Client) -> None:
    client.get(b"a", b"b")
    client.transport.producer.pauseProducing()
    client.answer(b"a", b"b", size=1000)
    client.server.clock.advance(0)
    assert client.said == b""
    assert client.protocol.held_bytes() == client.server.connections.held_bytes == 2002
    # The engine gets no more requests for this client.
    client.get(b"c")
    assert not client.waiting
    client.transport.producer.resumeProducing()
    assert client.said.count(b"\n") == 2
    client.answer(b"c")
    assert client.said.endswith(b"c\n")
    assert client.server.connections.held_bytes == 0


def test_few_commands_are_under_way_while_their_replies_are_large(client: Client) -> None:
    keys = [b"%d" % number for number in range(3000)]
    client.get(*keys)
    most = []
    for size in (1_000_000, 1_000_000, 1):
        under_way = list(client.waiting)
        most.append(len(under_way))
        client.answer(*under_way, size=size)
        client.transport.clear()
        client.server.clock.advance(0)
    most.append(len(client.waiting))
    assert most == [64, 8, 8, 1000]
    while client.waiting:
        client.answer(*list(client.waiting))
    assert client.transport.producerState == "producing"


def test_a_command_whose_reply_is_there_already_needs_no_recursion(client: Client) -> None:
    client.protocol.framing.use_verbs(
        Verbs(
            {b"GET": lambda client, fields: succeed(fields[1] + b"\n")},
            client._ping,
            frozenset((b"GET",)),
        )
    )
    keys = [b"%d" % number for number in range(5000)]
    client.get(*keys)
    assert client.said == b"".join(key + b"\n" for key in keys)


def test_nothing_is_held_for_a_lost_client_when_replies_still_come(client: Client) -> None:
    client.get(b"a", b"b")
    client.transport.producer.pauseProducing()
    client.answer(b"a", size=1000)
    client.server.clock.advance(0)
    lose(client.protocol)
    client.answer(b"b", size=1000)
    assert client.server.connections.held_bytes == 0


def test_a_client_whose_connection_is_full_is_not_sent_what_comes_later(client: Client) -> None:
    client.get(b"a", b"b", b"c")
    client.answer(b"a")
    client.transport.producer.pauseProducing()
    client.server.clock.advance(0)
    client.answer(b"b", b"c")
    assert client.said == b""
    client.transport.producer.resumeProducing()
    assert client.said == b"a\nb\nc\n"
    assert client.server.connections.held_bytes == 0
