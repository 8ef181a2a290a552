"""What is wrong with the arguments of a request is found in the order in which Redis finds it."""

from __future__ import annotations

import pytest

from tagcache.server.commands.resp.scripts import Scripts
from tests.unit.server.resp.test_door import NIL, OK, Client, bulk, client

__all__ = ["client"]

NOT_AN_INTEGER = b"-ERR value is not an integer or out of range\r\n"


def test_the_conditions_of_expire_come_before_its_time(client: Client) -> None:
    assert client("EXPIRE", "k", "x", "ZZ") == b"-ERR Unsupported option ZZ\r\n"
    both = b"-ERR NX and XX, GT or LT options at the same time are not compatible\r\n"
    assert client("PEXPIREAT", "k", "x", "NX", "XX") == both
    assert client("EXPIRE", "k", "x", "NX") == NOT_AN_INTEGER


def test_getex_of_a_missing_key_does_not_look_at_the_time(client: Client) -> None:
    assert client("GETEX", "k", "EX", "x") == NIL
    assert client("GETEX", "k", "EX", "1", "PERSIST") == b"-ERR syntax error\r\n"
    client("SET", "k", "v")
    assert client("GETEX", "k", "EX", "x") == NOT_AN_INTEGER
    assert client("GETEX", "k", "EX", "0") == b"-ERR invalid expire time in 'getex' command\r\n"
    assert client("GETEX", "k", "EX", "9") == bulk("v")


@pytest.mark.parametrize("verb", ["PSETEX", "PEXPIRE"])
def test_a_time_to_live_that_has_no_end_in_64_bits(client: Client, verb: str) -> None:
    words = [verb, "k", 2**63 - 1, "v"] if verb == "PSETEX" else [verb, "k", 2**63 - 1]
    assert client(*words) == b"-ERR invalid expire time in '%b' command\r\n" % verb.lower().encode()
    assert client("PEXPIREAT", "k", 2**63 - 1) == b":0\r\n"


def test_a_scan_for_nothing(client: Client) -> None:
    client("SET", "k", "v")
    nothing = b"*2\r\n$1\r\n0\r\n*0\r\n"
    assert client("SCAN", "0", "MATCH", "") == nothing
    assert client("SCAN", "0", "TYPE", "") == nothing
    assert client("SCAN", "0", "COUNT", "") == NOT_AN_INTEGER
    for cursor in ("x", "-1", 2**64):
        assert client("SCAN", cursor) == b"-ERR invalid cursor\r\n"


def test_what_a_client_can_switch(client: Client) -> None:
    assert client("CLIENT", "NO-EVICT", "on") == OK
    assert client("CLIENT", "NO-TOUCH", "x") == b"-ERR syntax error\r\n"


def test_the_keys_of_a_script_belong_to_its_transaction() -> None:
    (keys,) = {row.keys for row in Scripts().rows() if row.verb.startswith(b"EVAL")}
    assert keys.of([b"EVAL", b"", b"2", b"a", b"b", b"value"]) == [b"a", b"b"]
    for wrong in (b"", b"x", b"-1", b"9" * 5000):
        assert keys.of([b"EVAL", b"", wrong, b"a"]) == ()


def test_what_is_refused_in_a_transaction_says_what_to_use_instead(client: Client) -> None:
    client("MULTI")
    assert b"use TAG.SET" in client("SADD", "k", "v")
    assert client("EXEC").startswith(b"-EXECABORT")


def test_unwatch_in_a_transaction(client: Client) -> None:
    client("WATCH", "k")
    client("MULTI")
    assert client("UNWATCH") == b"+QUEUED\r\n"
    assert client("EXEC") == b"*1\r\n+OK\r\n"


def test_of_an_option_that_is_repeated_the_last_value_counts() -> None:
    client = Client()
    client("SET", "k", "v", "EX", "5", "EX", "9")
    assert client("TTL", "k") == b":9\r\n"
    assert client("GETEX", "none", "EX", "PERSIST", "EX", "100") == b"$-1\r\n"
    assert client("SET", "k", "v", "EX", "5", "PX", "9") == b"-ERR syntax error\r\n"
