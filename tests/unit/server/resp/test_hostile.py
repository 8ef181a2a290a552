"""Requests that are meant to hold up other clients, or to fill the memory of the server."""

from __future__ import annotations

import re

import pytest

from tagcache.server.commands.resp import glob
from tagcache.server.commands.resp.glob import matcher
from tagcache.server.commands.resp.table import RedisError
from tagcache.wire import resp
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
    assert said == b"-ERR the value has 16777216 bytes, the limit is 1048576\r\n"
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
