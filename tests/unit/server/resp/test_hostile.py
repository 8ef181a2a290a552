"""Requests that are meant to hold up other clients, or to fill the memory of the server."""

from __future__ import annotations

import re
from collections.abc import Generator

import pytest

from tagcache.model.work import run_to_end
from tagcache.server.commands.resp import glob, transactions
from tagcache.server.commands.resp.glob import matcher
from tagcache.server.commands.resp.table import RedisError
from tagcache.wire import resp
from tests.helpers import settings_with
from tests.unit.server.line.test_protocol import Server
from tests.unit.server.resp.test_door import OK, Client


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "GET", *["*"] * 100_000),
        ("COMMAND", "INFO", *["get"] * 100_000),
        ("INFO", *["memory"] * 100_000),
        ("EXPIRE", "k", "1", *["NX"] * 100_000),
        ("EVALSHA", "e5a322e2634ef59a516e8ea150cb085afafee684", "1000", *"k" * 1000, "v", "1"),
    ],
)
def test_only_lists_of_keys_and_values_are_long(client: Client, command: tuple[str, ...]) -> None:
    verb = command[0].lower()
    assert client(*command) == f"-ERR wrong number of arguments for '{verb}' command\r\n".encode()
    assert client("PING") == b"+PONG\r\n"


def test_lists_of_keys_are_long(client: Client) -> None:
    keys = [f"k{number}" for number in range(10_000)]
    assert client("MSET", *(each for key in keys for each in (key, key))) == OK
    assert client("EXISTS", *keys, "none") == b":10000\r\n"
    assert client("MGET", *keys).startswith(b"*10000\r\n$2\r\nk0\r\n")
    assert client("TAG.INVALIDATE", len(keys), *keys) == b":0\r\n"
    assert client("DEL", *keys) == b":10000\r\n"
    assert client("LPUSH", *keys).startswith(b"-ERR LPUSH is not supported")


def test_there_is_a_limit_to_the_length_of_an_argument_and_to_their_number(client: Client) -> None:
    said = client(b"SET", b"k", b"v" * 2**24)
    assert said == b"-ERR value_too_large: the value has 16777216 bytes, the limit is 1048576\r\n"
    said = client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16777217\r\n")
    assert said == b"-ERR Protocol error: invalid bulk length\r\n"
    said = Client().send(b"*131073\r\n")
    assert said == b"-ERR Protocol error: invalid multibulk length\r\n"


@pytest.mark.parametrize(
    "command", [(), ("CLIENT",), ("EXPIRE", "k", "1"), ("CLIENT", "KILL", "ADDR")]
)
def test_long_arguments_are_shown_in_part(client: Client, command: tuple[str, ...]) -> None:
    said = client(*command, b"\xff" * 2**20)
    assert said.startswith((b"-ERR", b":0"))
    assert len(said) < 600


def test_the_length_of_a_name_is_looked_at_first(client: Client) -> None:
    said = client("CLIENT", "SETNAME", b" " * 2**20)
    assert said == b"-ERR the name of a client has 128 bytes at most\r\n"


@pytest.mark.parametrize("by", ["1e999999999", "-1e999999999", "inf", "-inf", "1e50"])
def test_a_sum_that_is_no_number_is_refused(client: Client, by: str) -> None:
    refused = b"-ERR increment would produce NaN or Infinity\r\n"
    assert client("INCRBYFLOAT", "k", by) == refused
    client("SET", "k", "inf")
    assert client("INCRBYFLOAT", "k", by) == refused
    assert not client.server.traffic.errors["internal_error"]


@pytest.mark.parametrize("pattern", [b"[^a]" * 64, b"[a-z]" * 51, b"*?" * 128, b"[^]" * 85])
def test_the_expression_for_a_pattern_is_short(
    monkeypatch: pytest.MonkeyPatch, pattern: bytes
) -> None:
    compiled: list[bytes] = []

    def compile_(expression: bytes, flags: int) -> re.Pattern[bytes]:
        compiled.append(expression)
        return re.compile(expression, flags)

    monkeypatch.setattr(glob, "re", _Re(compile_))
    matcher(pattern)
    assert len(compiled[0]) <= 4 * len(pattern)
    with pytest.raises(RedisError):
        matcher(b"x" * 257)


class _Re:
    escape = staticmethod(re.escape)
    DOTALL = re.DOTALL

    def __init__(self, compile_: object) -> None:
        self.compile = compile_


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        (b"[^a-c]", b"d-]\n\xff", b"abc"),
        (b"[c-a]", b"abc", b"d-"),
        (b"[a\\]-]", b"a]-", b"b\\"),
        (b"[\\^a]", b"^a", b"b\\"),
        (b"[^]", b"a]\n", b""),
        (b"[]", b"", b"a]"),
        (b"[\xf0-\xff]", b"\xf0\xff", b"\xef"),
    ],
)
def test_sets_of_characters(pattern: bytes, fits: bytes, does_not: bytes) -> None:
    test = matcher(pattern)
    assert test is not None
    assert [bytes([each]) for each in fits + does_not if test(bytes([each]))] == [
        bytes([each]) for each in fits
    ]


def test_the_reply_of_a_request_is_not_mixed_up_by_errors(client: Client) -> None:
    stream = [
        (b"SET", b"k", b"1"),
        (b"NONSENSE\r\n+OK",),
        (b"GET", b"k"),
        (b"EXPIRE", b"k", b"1", b"\r\n"),
        (b"GET", b"k"),
    ]
    said = client.send(b"".join(resp.request(*each) for each in stream))
    assert said == (
        b"+OK\r\n-ERR unknown command 'nonsense  +ok'\r\n$1\r\n1\r\n"
        b"-ERR Unsupported option   \r\n$1\r\n1\r\n"
    )


def test_many_entries_are_stored_in_slices(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def finish(work: Generator[None, None, object]) -> object:
        while True:
            try:
                next(work)
            except StopIteration as done:
                return done.value
            seen.append(len(client.server.cache))

    monkeypatch.setattr(client.server.slices, "finish", finish)
    pairs = [each for number in range(2000) for each in (b"k%d" % number, b"v")]
    assert client("MSET", *pairs) == OK
    assert seen == [0] * 2000 + list(range(1, 2001))
    assert client("MSET", *pairs[:1000]) == OK
    assert len(seen) == 4000


def test_many_entries_are_stored_only_if_all_have_the_right_length(client: Client) -> None:
    pairs = [each for number in range(2000) for each in (b"k%d" % number, b"v")]
    said = client("MSET", *pairs, "last", "v" * 2**21)
    assert said == b"-ERR value_too_large: the value has 2097152 bytes, the limit is 1048576\r\n"
    assert client("DBSIZE") == b":0\r\n"
    assert client("MSETNX", *pairs) == b"-ERR MSETNX stores 500 entries at most\r\n"
    client("MULTI")
    client("MSET", *pairs)
    assert client("EXEC") == b"*1\r\n+OK\r\n"
    assert client("DBSIZE") == b":2000\r\n"


def test_what_is_watched_counts_as_the_clients_memory(client: Client) -> None:
    held = client.protocol.connection
    client("WATCH", *(f"{number:0>1000}" for number in range(100)))
    assert 100_000 < held.held_bytes < 200_000
    client("WATCH", "a")
    client("UNWATCH")
    assert held.held_bytes == 0
    assert client("WATCH", "k" * 2000).startswith(b"-ERR key_too_long: the key has 2000 bytes")
    for end in ("EXEC", "DISCARD"):
        client("WATCH", "a", "b")
        client("MULTI")
        assert held.held_bytes > 0
        client(end)
        assert held.held_bytes == 0


def test_a_version_keeps_no_tags() -> None:
    client = Client()
    client("TAG.SET", "k", "v", "TAGS", "1", "t" * 1000)
    assert "ttt" not in repr(client.server.engine.session.versions([b"k"]))


def test_a_transaction_has_a_bounded_number_of_arguments(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "MOST_QUEUED_ARGUMENTS", 10)
    client("MULTI")
    assert client("DEL", "a", "b", "c", "d", "e", "f") == b"+QUEUED\r\n"
    assert client("DEL", "a", "b", "c") == b"-ERR a transaction has 10 arguments at most\r\n"
    assert client("EXEC").startswith(b"-EXECABORT")


@pytest.mark.parametrize(
    "command", [("KEYS", "*"), ("SCAN", "0"), ("TAG.KEYS", "t"), ("TAG.COUNT", "t"), ("TAG.TOP", 9)]
)
def test_a_transaction_does_not_go_through_all_entries(
    client: Client, command: tuple[str, ...]
) -> None:
    client("MULTI")
    assert client(*command) == b"-ERR Command not allowed inside a transaction\r\n"
    assert client("EXEC").startswith(b"-EXECABORT")


def test_the_smallest_of_very_many_tags_is_found_in_slices() -> None:
    client = Client()
    tags = [b"t%d" % number for number in range(1000)]
    for tag in tags:
        client("TAG.SET", tag, "v", "TAGS", "2", tag, "all")
    work = client.server.cache.invalidate_all([b"all", *tags])
    assert sum(1 for _ in work) >= 3


@pytest.mark.parametrize(
    ("keys", "command"),
    [
        ("new0 new1", ("MSET", "new0", "v" * 150, "new1", "v" * 400)),
        ("new0 new1", ("MSETNX", "new0", "v" * 150, "new1", "v" * 400)),
        ("k0 k1", ("MSET", "k0", "v", "k1", "v" * 900)),
        ("k0 new0", ("RENAME", "k0", "new0" * 200)),
        ("k0 k1", ("RENAME", "k0", "k1" * 400)),
        ("k0", ("APPEND", "k0", "v" * 900)),
    ],
)
def test_what_finds_no_room_changes_nothing(keys: str, command: tuple[str, ...]) -> None:
    settings = settings_with(cache={"max_memory": 5000, "eviction_policy": "noeviction"})
    client = Client(Server(settings))
    stored = [
        client("TAG.SET", f"k{number}", "v" * 100, "EX", 9, "TAGS", 1, "t") for number in range(50)
    ]
    assert OK in stored
    assert stored[-1].startswith(b"-OOM")
    client("DEL", "k2")

    def state() -> list[bytes]:
        asked = [(verb, key) for key in keys.split() for verb in ("GET", "PTTL", "TAG.OF")]
        return [client(*each) for each in (*asked, ("DBSIZE",), ("TAG.COUNT", "t"))]

    before = state()
    assert client(*command).startswith(b"-OOM")
    assert state() == before
    assert run_to_end(client.server.cache.check()).faults == ()
    assert client("RENAME", "k0", "moved") == OK
    assert client("TAG.COUNT", "t") == before[-1]


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "k", "v", "PX", 2**63 - 1),
        ("PSETEX", "k", 2**63 - 1, "v"),
        ("GETEX", "k", "PX", 2**63 - 1),
        ("PEXPIRE", "k", 2**63 - 1),
    ],
)
def test_a_deadline_is_a_64_bit_integer(client: Client, command: tuple[str | int, ...]) -> None:
    client("SET", "k", "v")
    client.server.clock.advance(10)
    verb = str(command[0]).lower()
    assert client(*command) == f"-ERR invalid expire time in '{verb}' command\r\n".encode()
    assert client("TTL", "k") == b":-1\r\n"
    assert client("PEXPIRE", "k", 2**63 - 1 - 2**42) == b":1\r\n"
    assert client("PEXPIRETIME", "k") <= b":%d\r\n" % (2**63 - 1)


@pytest.mark.parametrize("sent", [b"*0\r\n", b"$0\r\n\r\n"])
def test_reading_requests_takes_turns(
    client: Client, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    client("PING")
    client.send(b"*100000\r\n" if sent[:1] == b"$" else b"")
    read: list[int] = []
    framing = client.protocol.framing
    feed = framing.feed
    monkeypatch.setattr(framing, "feed", lambda data: (read.append(len(data)), feed(data))[1])
    monkeypatch.setattr(client.protocol, "_monotonic", lambda: len(read) * 0.002)
    client.protocol.dataReceived(sent * 40_000)
    assert read == [64 * 1024]
    assert client.transport.producerState == "paused"
    client.server.clock.pump([0] * 3)
    assert sum(read) == len(sent) * 40_000
    assert max(read) == 64 * 1024
    assert client.transport.producerState == "producing"
