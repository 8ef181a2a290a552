"""The scripts of well-known clients: what is recognized, and what they do."""

from __future__ import annotations

from hashlib import sha1

import pytest

from tagcache.server.commands.resp import scripts
from tests.unit.server.resp.test_door import NIL, OK, Client, bulk

# As many programs write it, each in its own way.
UNLOCK = """
    -- only the owner may do this
    if redis.call("GET", KEYS[1]) == ARGV[1] then
        return redis.call( 'del' , KEYS[1] )
    else return 0
    end
"""


@pytest.fixture
def client() -> Client:
    client = Client()
    client("PING")
    return client


def digest(text: str) -> str:
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


def test_a_lock_is_released_by_its_owner_only(client: Client) -> None:
    client("SET", "lock", "me")
    assert client("EVAL", UNLOCK, 1, "lock", "you") == b":0\r\n"
    assert client("EVAL", UNLOCK, 1, "lock", "me") == b":1\r\n"
    assert client("EVAL", UNLOCK, 1, "lock", "me") == b":0\r\n"


def test_what_was_sent_once_is_known_by_its_digest(client: Client) -> None:
    known = digest(UNLOCK)
    assert client("EVALSHA", known, 1, "lock", "me").startswith(b"-NOSCRIPT ")
    assert client("SCRIPT", "EXISTS", known, "0" * 40) == b"*2\r\n:0\r\n:0\r\n"
    assert client("SCRIPT", "LOAD", UNLOCK) == bulk(known)
    assert client("SCRIPT", "EXISTS", known.upper()) == b"*1\r\n:1\r\n"
    client("SET", "lock", "me")
    assert client("EVALSHA", known, 1, "lock", "me") == b":1\r\n"


def test_another_script_is_refused_and_not_kept(client: Client) -> None:
    for text in (UNLOCK + "x", UNLOCK.replace("==", "~="), "return 1", "", "x" * 100_000):
        assert client("EVAL", text, 1, "lock", "me").startswith(b"-ERR this server runs no scripts")
        assert client("SCRIPT", "LOAD", text).startswith(b"-ERR this server runs no scripts")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "_MOST_KNOWN", 10)
    client = Client()
    first, *others = (UNLOCK + " " * number for number in range(20))
    client("SCRIPT", "LOAD", first)
    for text in others:
        client("SCRIPT", "LOAD", text)
    assert client("SCRIPT", "EXISTS", digest(first), digest(others[-1])) == b"*2\r\n:0\r\n:1\r\n"


def test_wrong_numbers_of_keys_and_arguments(client: Client) -> None:
    for numbers in ((0,), (2, "a", "b", "c"), (1, "a"), (5, "a")):
        assert client("EVAL", UNLOCK, *numbers).startswith(b"-ERR ")
    assert client("EVAL", UNLOCK, -1) == b"-ERR Number of keys can't be negative\r\n"


def run(client: Client, normal: str, *arguments: str | int) -> bytes:
    """Run a script by the digest of its normal form."""
    framing = client.protocol.framing
    scripts_known = framing._commands[b"EVALSHA"].run.__self__._known
    scripts_known[normal] = scripts._BY_NORMAL_FORM[normal]
    return client("EVALSHA", normal, *arguments)


def test_locks_of_redis_py(client: Client) -> None:
    extend = "be395f27dfca49691fd43fcb7e47bc7699ce5e60"
    reacquire = "25507b46078f5568a7f79242a312ba0ba536e620"
    client("SET", "l", "me", "PX", 1000)
    assert run(client, extend, 1, "l", "you", 500, "0") == b":0\r\n"
    assert run(client, extend, 1, "l", "me", 500, "0") == b":1\r\n"
    assert client("PTTL", "l") == b":1500\r\n"
    assert run(client, extend, 1, "l", "me", 500, "1") == b":1\r\n"
    assert client("PTTL", "l") == b":500\r\n"
    assert run(client, reacquire, 1, "l", "me", 700) == b":1\r\n"
    assert client("PTTL", "l") == b":700\r\n"
    client("SET", "l", "me")
    assert run(client, extend, 1, "l", "me", 500, "0") == b":0\r\n"


def test_counters(client: Client) -> None:
    there, any_key = (
        "67856fe508131eb5758554831ac85987d14dceab",
        "1b8b2df7b4398e3d12f06f4aa415254bc8d7096b",
    )
    assert run(client, there, 1, "n", 1) == NIL
    assert run(client, any_key, 1, "n", 2) == b":2\r\n"
    assert run(client, there, 1, "n", -5) == b":-3\r\n"
    first = "d4b0e7328f0a439a1289e0535f49855a19f678be"
    assert run(client, first, 1, "m", 1, 900) == b":1\r\n"
    client.server.clock.advance(0.1)
    assert run(client, first, 1, "m", 1, 900) == b":2\r\n"
    assert client("PTTL", "m") == b":800\r\n"


def test_storing_under_conditions(client: Client) -> None:
    replace = "90735140b0dd91b6b47b6728c4ddc243cb75fe59"
    add = "c72f1d88934e709d573e15551de8fea025f1ce03"
    client("SET", "k", "old")
    assert run(client, replace, 1, "k", "new", "other") == b":0\r\n"
    assert run(client, replace, 1, "k", "new", "old", "EX", 5) == OK
    assert client("TTL", "k") == b":5\r\n"
    assert run(client, add, 1, "k", "x", 9) == NIL
    assert run(client, add, 1, "new", "x", 9) == OK
    assert client("TTL", "new") == b":9\r\n"


def test_rate_limits(client: Client) -> None:
    increment = "684751c09f7b86602769fd9291b8d4fe7ca6261d"
    get = "b3c228490f1641d2fac9cf8e9bf73938b2e9f032"
    consume = "b6f6418ea47781bb81974ac03006c77676c04aff"
    assert run(client, get, 1, "r") == b"*2\r\n$-1\r\n:-2\r\n"
    assert run(client, increment, 1, "r", 1000) == b"*2\r\n:1\r\n:1000\r\n"
    client.server.clock.advance(0.25)
    assert run(client, increment, 1, "r", 1000) == b"*2\r\n:2\r\n:750\r\n"
    assert run(client, get, 1, "r") == b"*2\r\n$1\r\n2\r\n:750\r\n"
    assert run(client, consume, 1, "c", 3, 2) == b"*2\r\n:3\r\n:2000\r\n"
    client.server.clock.advance(0.5)
    assert run(client, consume, 1, "c", 1, 2) == b"*2\r\n:4\r\n:1500\r\n"


def test_locks_of_several_keys(client: Client) -> None:
    lock, unlock, extend = (
        "29a1d40f0c8be602b941b441abf3f45d9a3fee84",
        "9580e0bd5ad4d35ed4fbbe108b5145c9271fe0d0",
        "b8610e20bb77f68a1f89a95d0aefd43d74e59052",
    )
    assert run(client, lock, 2, "a", "b", "me", 1000) == b":2\r\n"
    assert run(client, lock, 2, "b", "c", "you", 1000) == b":0\r\n"
    assert client("EXISTS", "c") == b":0\r\n"
    assert run(client, extend, 2, "a", "b", "me", 3000) == b":2\r\n"
    assert client("PTTL", "b") == b":3000\r\n"
    assert run(client, extend, 2, "a", "c", "me", 3000) == b":0\r\n"
    assert run(client, unlock, 2, "a", "b", "you") == b":0\r\n"
    assert run(client, unlock, 2, "a", "b", "me") == b":2\r\n"
