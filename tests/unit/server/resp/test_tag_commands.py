"""The commands that Redis lacks, which the clients of this project use."""

from __future__ import annotations

import json

import pytest

from tagcache.wire import resp
from tests.unit.server.resp.test_door import NIL, OK, Client, bulk, client

__all__ = ["client"]

SYNTAX = b"-ERR syntax error\r\n"


def test_counting_restarts_the_time_to_live(client: Client) -> None:
    assert client("TAG.INCR", "n", 5, "PX", 1000, "TAGS", 2, "a", "b,c") == b":5\r\n"
    client.server.clock.advance(0.6)
    assert client("TAG.DECR", "n", 2) == b":3\r\n"
    assert client("PTTL", "n") == b":1000\r\n"
    assert client("TAG.OF", "n") == resp.values([b"a", b"b,c"], 2)
    assert client("tag.incr", "n", 1, "EX", 9, "TAGS", 1, "d") == b":4\r\n"
    assert client("TTL", "n") == b":9\r\n"
    assert client("TAG.OF", "n") == resp.values([b"d"], 2)


def test_counting_what_is_not_a_number(client: Client) -> None:
    client("SET", "text", "abc")
    client("SET", "most", 2**63 - 1)
    told = b"-ERR value is not an integer or out of range\r\n"
    assert client("TAG.INCR", "text", 1) == client("TAG.INCR", "new", "1.5") == told
    assert client("TAG.INCR", "most", 1).startswith(b"-ERR increment or decrement would overflow")
    assert client("TAG.INCR", "new", 1, "NX") == client("TAG.INCR", "new", 1, "PX") == SYNTAX
    assert client("TAG.INCR", "new", 1, "PX", 0).startswith(b"-ERR invalid expire time")
    assert client("TAG.INCR", "new", 1, "TAGS", 2, "a").startswith(b"-ERR the number after TAGS")
    assert client("GET", "new") == NIL


def test_touching_gives_a_new_time_to_live(client: Client) -> None:
    client("TAG.SET", "k", "v", "PX", 1000, "TAGS", 1, "t")
    assert client("TAG.TOUCH", "k", "PX", 5000) == b":1\r\n"
    assert client("PTTL", "k") == b":5000\r\n"
    assert client("TAG.TOUCH", "k") == b":1\r\n"
    assert client("PTTL", "k") == b":-1\r\n"
    assert client("TAG.OF", "k") == resp.values([b"t"], 2)
    assert client("TAG.TOUCH", "none", "EX", 5) == b":0\r\n"
    assert client("TAG.TOUCH", "k", "TAGS", 0) == SYNTAX


@pytest.mark.parametrize("expiry", [(), ("PX", 1000), ("PXAT", 10**15)])
def test_only_what_is_absent_is_added(client: Client, expiry: tuple[object, ...]) -> None:
    arguments = [*expiry, "NX", "TAGS", 1, "t"]
    assert client("TAG.SET", "k", "first", *arguments) == OK  # type: ignore[arg-type]
    assert client("TAG.SET", "k", "second", *arguments) == NIL  # type: ignore[arg-type]
    assert client("GET", "k") == bulk("first")
    assert client("TAG.OF", "k") == resp.values([b"t"], 2)
    assert client("TAG.SET", "bare", "v", "NX", "TAGS", 0) == OK
    assert client("TAG.OF", "bare") == b"*0\r\n"


def test_a_flush_returns_the_number_of_entries(client: Client) -> None:
    client("MSET", "a", 1, "b", 2)
    assert client("TAG.FLUSH") == b":2\r\n"
    assert client("TAG.FLUSH") == b":0\r\n"


def test_counters(client: Client) -> None:
    client("MSET", "a", 1, "b", 2)
    client("MGET", "a", "b", "c")
    client("DEL", "a")
    assert client("TAG.STATS") == b"*4\r\n:2\r\n:1\r\n:2\r\n:1\r\n"


def content(reply: bytes) -> object:
    return json.loads(reply.partition(b"\r\n")[2])


def test_the_state_of_the_server_is_json(client: Client) -> None:
    info = content(client("TAG.INFO"))
    assert isinstance(info, dict)
    clients = content(client("TAG.CLIENTS"))
    assert isinstance(clients, list)
    assert [each["last_verb"] for each in clients] == ["TAG.CLIENTS"]
    assert content(client("TAG.SLOWLOG")) == content(client("TAG.SLOWLOG", 5)) == []
    assert client("TAG.SLOWLOG", "x").startswith(b"-ERR")
