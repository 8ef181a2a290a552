"""Values on a line: they travel whole, and what another client wrote is read as it is."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tagcache.client import serde
from tagcache.client.values import Values
from tagcache.errors import BadArgument, CannotDecode
from tagcache.interfaces import ISerde
from tagcache.marks import escape

SERDES = ["bytes", "text", "json", "msgpack", "pickle"]
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text())
JSON = st.recursive(
    PLAIN | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("name", SERDES)
def test_serdes_are_what_they_say(name: str) -> None:
    chosen = serde.named(name)
    assert verifyObject(ISerde, chosen)
    assert chosen.name == name


def test_an_unknown_serde() -> None:
    with pytest.raises(BadArgument, match="serde=yaml is not known; there are bytes, text"):
        serde.named("yaml")


@given(JSON, st.sampled_from([None, 0, 20]))
def test_json_travels(value: object, compress_over: int | None) -> None:
    values = Values(serde.named("json"), compress_over)
    assert values.load(values.dump(value)) == value


@given(st.binary(max_size=300), st.sampled_from([None, 0, 50]))
def test_bytes_travel_compressed(data: bytes, compress_over: int | None) -> None:
    values = Values(serde.named("bytes"), compress_over)
    line = values.dump(data)
    assert b"\n" not in line
    assert values.load(line) == data


def test_msgpack_keys_that_are_no_text() -> None:
    values = Values(serde.named("msgpack"))
    assert values.load(values.dump({1: 2, b"x": None})) == {1: 2, b"x": None}


def test_others_can_read_what_is_plain() -> None:
    values = Values(serde.named("json"))
    assert values.dump({"a": "b\nc"}) == b'{"a":"b\\nc"}'
    assert values.dump(5) == b"5"
    assert json.loads(values.dump(["x"])) == ["x"]
    assert Values(serde.named("text")).dump("a\tb") == b"a\tb"


def test_compression_only_where_it_helps() -> None:
    values = Values(serde.named("text"), compress_over=100)
    assert values.dump("x" * 100) == b"x" * 100
    assert values.dump("x" * 101).startswith(b"\\z:")
    assert len(values.dump("x" * 1000)) < 40
    noise = bytes(range(256))
    assert not Values(serde.named("bytes"), 10).dump(noise).startswith(b"\\z:")


@pytest.mark.parametrize(
    "line",
    [b"\\:a\\b", b"\\:a\\", b"\\z:abc", b"\\z:" + escape(zlib.compress(b"x" * 99))[:-1]],
)
def test_what_nobody_escaped(line: bytes) -> None:
    with pytest.raises(CannotDecode, match="serde=bytes did not write this"):
        Values(serde.named("bytes")).load(line)


@pytest.mark.parametrize(
    ("name", "line"),
    [("text", b"\xff"), ("json", b"{"), ("msgpack", b"\xc1"), ("pickle", b"no pickle")],
)
def test_what_another_serde_wrote(name: str, line: bytes) -> None:
    with pytest.raises(CannotDecode, match=f"serde={name} did not write this"):
        Values(serde.named(name)).load(line)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bytes", "text"),
        ("text", b"bytes"),
        ("json", {1, 2}),
        ("json", 2**70),
        ("msgpack", {1}),
        ("pickle", lambda: None),
        ("pickle", (each for each in "ab")),
    ],
)
def test_what_a_serde_can_not_hold(name: str, value: object) -> None:
    with pytest.raises(BadArgument, match=f"serde={name} cannot hold this"):
        Values(serde.named(name)).dump(value)
