"""What every client does, against a real server: one suite for all kinds of clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tagcache.client import Stats
from tagcache.client.fake import FakeClient
from tagcache.errors import BadArgument, CannotDecode, ClientError, Refused

Make = Callable[..., Any]


def test_put_and_get(client: Any) -> None:
    value = {"name": "Ada", "numbers": [1, 2.5, None, True], "text": "zeile\nzwei\täöü\r"}
    assert client.put("key", value, tags=["a", "b"], ttl=60) is True
    assert client.get("key") == value
    assert client.get(b"key") == value
    assert client.get("other") is None
    assert client.get("other", "default") == "default"


def test_none_is_a_value(client: Any) -> None:
    client.put("nothing", None)
    assert client.get("nothing", "default") is None
    assert client.get_many(["nothing", "other"]) == {"nothing": None}


def test_add_stores_only_what_is_absent(client: Any) -> None:
    assert client.add("key", 1) is True
    assert client.add("key", 2) is False
    assert client.get("key") == 1


def test_many_keys_at_once(client: Any) -> None:
    values = {f"key {n}": n for n in range(500)}
    assert client.put_many(values, tags=["all"], ttl=60) == 500
    assert client.get_many([*values, "absent"]) == values
    assert sorted(client.keys_by_tag("all")) == sorted(values)
    assert client.delete_many(["key 1", "key 2", "absent"]) == 2
    assert client.get_many([]) == {}
    assert client.put_many({}) == client.delete_many([]) == 0


def test_large_values_and_replies(client: Any) -> None:
    values = {f"large {n}": "x" * 300_000 for n in range(20)}
    assert client.put_many(values) == 20
    assert client.get_many(values) == values


def test_delete(client: Any) -> None:
    client.put("key", 1)
    assert client.delete("key") is True
    assert client.delete("key") is False


def test_counting(client: Any) -> None:
    assert client.increment("n") == 1
    assert client.increment("n", 41) == 42
    assert client.decrement("n", 2) == 40
    assert client.get("n") == 40
    client.put("text", "abc")
    with pytest.raises(Refused, match="not an integer") as caught:
        client.increment("text")
    assert caught.value.code == "value is not an integer"
    assert client.get("text") == "abc"


def test_time_to_live(client: Any) -> None:
    client.put("float", 1, ttl=0.05)
    client.put("delta", 1, ttl=timedelta(milliseconds=50))
    client.put("for ever", 1)
    client.put("touched", 1, ttl=60)
    assert client.touch("touched", 0.05) is True
    assert client.touch("absent", 60) is False
    time.sleep(0.06)
    keys = ["float", "delta", "for ever", "touched"]
    assert client.get_many(keys) == {"for ever": 1}


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e300, "5", True])
def test_invalid_times_to_live(client: Any, ttl: Any) -> None:
    with pytest.raises(BadArgument, match="ttl"):
        client.put("key", 1, ttl=ttl)
    assert client.get("key") is None


def test_tags_are_invalidated(client: Any) -> None:
    for key, tags in {"1": "a", "2": "ab", "3": "b", "4": "c", "5": ""}.items():
        client.put(key, key, tags=list(tags))
    assert client.invalidate_tags(["a", "b"], mode="all") == 1
    assert client.invalidate_tag("a") == 1
    assert client.invalidate_tags(["b", "c", "d"]) == 2
    assert client.get_many("12345") == {"5": "5"}


def test_keys_are_invalidated(client: Any) -> None:
    client.put_many({"a": 1, "b": 2, "c": 3})
    assert client.invalidate_keys(["a", "c", "d"]) == 2
    assert client.get("b") == 2


def test_search(client: Any) -> None:
    for key, tags in {"1": "a", "2": "ab", "3": "b"}.items():
        client.put(key, key, tags=list(tags))
    assert sorted(client.search(["a", "b"])) == ["1", "2", "3"]
    assert client.search(["a", "b"], mode="all") == ["2"]
    assert client.search(["a", "absent"], mode="all") == []
    assert client.search([]) == []


def test_flush_and_stats(client: Any) -> None:
    before = client.stats()
    client.put_many({"a": 1, "b": 2})
    client.get("a")
    client.get("absent")
    assert client.flush() == 2
    after = client.stats()
    assert isinstance(after, Stats)
    assert after.hits - before.hits == after.misses - before.misses == 1
    assert after.puts - before.puts == after.invalidations - before.invalidations == 2
    assert 0 <= after.hit_ratio <= 1


def test_ping_and_clients(client: Any) -> None:
    assert client.ping() is True
    assert isinstance(client.clients(), list)


def test_get_or_set(client: Any) -> None:
    calls = []

    def produce() -> int:
        calls.append(1)
        return 7

    assert client.get_or_set("key", produce, tags=["t"], ttl=60) == 7
    assert client.get_or_set("key", produce) == 7
    assert len(calls) == 1
    client.invalidate_tag("t")
    assert client.get_or_set("key", produce) == 7
    assert len(calls) == 2


def test_a_pipeline(client: Any) -> None:
    pipe = client.pipeline()
    stored = pipe.put("key", {"a": 1}, tags=["t"])
    value = pipe.get("key")
    count = pipe.increment("n", 3)
    gone = pipe.invalidate_tag("t")
    nothing = pipe.get("key", "default")
    assert len(pipe) == 5
    with pytest.raises(RuntimeError, match="not run"):
        value.result()
    assert pipe.execute() == [True, {"a": 1}, 3, 1, "default"]
    assert (stored.result(), value.result(), count.result()) == (True, {"a": 1}, 3)
    assert (gone.result(), nothing.result()) == (1, "default")
    assert pipe.execute() == []


def test_a_refusal_in_a_pipeline_does_not_hide_the_rest(client: Any) -> None:
    client.put("text", "abc")
    pipe = client.pipeline()
    first = pipe.get("text")
    refused = pipe.increment("text")
    last = pipe.increment("n")
    with pytest.raises(Refused, match="not an integer"):
        pipe.execute()
    assert first.result() == "abc"
    with pytest.raises(Refused, match="not an integer"):
        refused.result()
    assert last.result() == 1


@pytest.mark.parametrize("key", ["", b"", "\ud800", 5, None])
def test_invalid_keys(client: Any, key: Any) -> None:
    for call in (
        lambda: client.get(key),
        lambda: client.put(key, 1),
        lambda: client.get_many(["good", key]),
        lambda: client.increment(key),
        lambda: client.delete(key),
        lambda: client.invalidate_keys([key]),
    ):
        with pytest.raises(BadArgument, match="key"):
            call()


@pytest.mark.parametrize("tag", ["", b"", "\udfff\ud800", 5, None])
def test_invalid_tags(client: Any, tag: Any) -> None:
    for call in (
        lambda: client.put("key", 1, tags=[tag]),
        lambda: client.invalidate_tag(tag),
        lambda: client.invalidate_tags(["good", tag]),
        lambda: client.keys_by_tag(tag),
        lambda: client.search([tag]),
    ):
        with pytest.raises(BadArgument, match="tag"):
            call()


ANY_BYTES = ["a\tb", "a\nb", "a\r", " a,b ", "-", b"\0\xff\r\n"]


def test_keys_and_tags_are_any_bytes(client: Any) -> None:
    for number, name in enumerate(ANY_BYTES):
        assert client.put(name, number, tags=[name, "all"]) is True
        assert client.get(name) == number
        assert client.increment(name) == number + 1
    assert client.get_many(ANY_BYTES) == {name: n + 1 for n, name in enumerate(ANY_BYTES)}
    found = [key.encode("utf-8", "surrogateescape") for key in client.keys_by_tag("all")]
    given = [each if isinstance(each, bytes) else each.encode() for each in ANY_BYTES]
    assert sorted(found) == sorted(given)
    assert client.invalidate_keys(ANY_BYTES[:2]) == 2
    assert client.invalidate_tag(ANY_BYTES[2]) == 1
    assert client.invalidate_tags([ANY_BYTES[3], "all"], mode="all") == 1
    assert client.invalidate_tags(ANY_BYTES[4:]) == 2


def test_invalid_arguments(client: Any) -> None:
    with pytest.raises(BadArgument, match="must be a collection"):
        client.put("key", 1, tags="ab")
    with pytest.raises(BadArgument, match="mode"):
        client.invalidate_tags(["a"], mode="some")
    with pytest.raises(BadArgument, match="tags must not be empty"):
        client.invalidate_tags([])
    with pytest.raises(BadArgument, match="keys must not be empty"):
        client.invalidate_keys([])
    with pytest.raises(BadArgument, match="by must be an integer, not float"):
        client.increment("n", 1.5)
    with pytest.raises(BadArgument, match="64 bits"):
        client.increment("n", 2**63)
    with pytest.raises(BadArgument, match="json cannot hold"):
        client.put("key", b"bytes")
    assert client.get("key") is None


def test_the_server_refuses(client: Any) -> None:
    with pytest.raises(Refused) as caught:
        client.put("k" * 2000, 1)
    assert caught.value.code == "key_too_long"
    with pytest.raises(Refused, match="value_too_large"):
        client.put("key", "x" * 1_100_000)
    with pytest.raises(Refused, match="value_too_large"):
        client.put("key", "x" * 3_000_000)
    assert client.ping() is True


def test_a_key_prefix(make: Make) -> None:
    mine, other, bare = make(key_prefix="mine:"), make(key_prefix="other:"), make()
    mine.put("key", 1, tags=["t"])
    assert mine.keys_by_tag("t") == ["key"]
    assert mine.get("key") == 1
    assert mine.get_many(["key"]) == {"key": 1}
    assert other.get("key") is None
    if not isinstance(bare, FakeClient):
        # Fake clients share nothing.
        assert bare.get("mine:key") == 1
        assert other.keys_by_tag("t") == []
    assert mine.delete("key") is True


@pytest.mark.parametrize(
    ("serde", "value"),
    [
        ("bytes", bytes(range(256)) * 3),
        ("bytes", b""),
        ("bytes", b"\\:already\nescaped\r"),
        ("text", "zeile\nzwei\r\nÄ\t\0"),
        ("json", {"a": ["\n", 1.5]}),
        ("msgpack", {"bytes": b"\n\r\\", "list": [1, None]}),
        ("pickle", (1, {2, 3}, timedelta(seconds=4))),
    ],
)
@pytest.mark.parametrize("compress_over", [None, 10])
def test_values_make_the_round_trip(
    make: Make, serde: str, value: Any, compress_over: int | None
) -> None:
    client = make(serde=serde, compress_over=compress_over)
    client.put("key", value)
    assert client.get("key") == value
    assert client.get_many(["key"]) == {"key": value}
    client.add("added", value)
    assert client.get("added") == value


def test_values_that_another_client_wrote(make: Make) -> None:
    client = make()
    if isinstance(client, FakeClient):
        client._server.session.put(b"key", b"no JSON")
    else:
        make(serde="text").put("key", "no JSON")
    with pytest.raises(CannotDecode, match="serde=json did not write this: b'no JSON'"):
        client.get("key")
    with pytest.raises(CannotDecode):
        client.get_many(["key"])
    assert client.get("other") is None


def test_errors_have_common_base_classes(client: Any) -> None:
    with pytest.raises(ClientError):
        client.get("")
    with pytest.raises(ValueError, match="key"):
        client.get("")


def test_a_client_is_in_its_database(make: Make) -> None:
    three, zero = make(db=3), make()
    three.flush()
    three.put("key", "three", tags=["t"])
    assert three.get("key") == "three"
    assert zero.get("key") is None
    zero.put("key", "zero", tags=["t"])
    assert three.invalidate_tag("t") == 1
    assert zero.get("key") == "zero"
    assert three.keys_by_tag("t") == []


def test_a_database_that_the_server_does_not_have_is_refused(make: Make) -> None:
    with pytest.raises(Refused) as raised:
        make(db=200).get("key")
    assert raised.value.code == "invalid_db"
