"""Values of the clients: round trips, and values that other clients wrote."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import marshal
import math
import sys
import tracemalloc
import uuid
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tagcache.client import serde
from tagcache.client.serde import _PERHAPS_NOT_FINITE
from tagcache.client.values import Values
from tagcache.errors import BadArgument, CannotDecode
from tagcache.model.interfaces import ISerde

SERDES = ["bytes", "text", "json", "msgpack", "pickle"]
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text())
JSON = st.recursive(
    PLAIN | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("name", SERDES)
def test_serdes_provide_the_interface(name: str) -> None:
    chosen = serde.named(name)
    assert verifyObject(ISerde, chosen)
    assert chosen.name == name


def test_an_unknown_serde() -> None:
    with pytest.raises(
        BadArgument, match="serde=yaml is not known; the known ones are bytes, text"
    ):
        serde.named("yaml")


@given(JSON, st.sampled_from([None, 0, 20]))
def test_json_makes_the_round_trip(value: object, compress_over: int | None) -> None:
    values = Values(serde.named("json"), compress_over)
    assert values.load(values.dump(value)) == value


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.binary(max_size=3)), max_size=5))
def test_several_values_are_read_as_each_one_is(stored: list[tuple[str, bytes | None]]) -> None:
    values = Values(serde.named("bytes"))
    contents = [data and values.dump(data) for _, data in stored]
    found = values.load_all([key for key, _ in stored], contents)
    assert found == {key: data for key, data in stored if data is not None}


@given(st.binary(max_size=300), st.sampled_from([None, 0, 50]))
def test_compressed_bytes_make_the_round_trip(data: bytes, compress_over: int | None) -> None:
    values = Values(serde.named("bytes"), compress_over)
    assert values.load(values.dump(data)) == data


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


class Markup(str):
    """A subclass of str, as Django's SafeString is."""

    __slots__ = ()


@dataclasses.dataclass
class Point:
    x: int = 1


Pair = collections.namedtuple("Pair", "a b")
NAN = float("nan")
# The value, its description in the error, and the serde that can hold it.
REFUSED: list[tuple[Any, str, str]] = [
    (NAN, "nan", "msgpack"),
    (-math.inf, "-inf", "msgpack"),
    (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "datetime.datetime", "pickle"),
    (datetime.date(2026, 1, 2), "datetime.date", "pickle"),
    (datetime.time(1), "datetime.time", "pickle"),
    (uuid.UUID(int=7), "uuid.UUID", "pickle"),
    (Point(), f"{__name__}.Point", "pickle"),
    (Pair(1, 2), f"{__name__}.Pair", "pickle"),
    (Colour.RED, f"{__name__}.Colour", "pickle"),
    (Size.SMALL, f"{__name__}.Size", "pickle"),
    (Markup("<b>"), f"{__name__}.Markup", "pickle"),
    (collections.OrderedDict(a=1), "collections.OrderedDict", "pickle"),
    (decimal.Decimal(1), "decimal.Decimal", "pickle"),
    (b"x", "bytes", "msgpack"),
    (bytearray(b"x"), "bytearray", "pickle"),
    ({1, 2}, "set", "pickle"),
    (2**64, "an int of more than 64 bits", "pickle"),
    ({1: 2}, "a dict key of type int", "msgpack"),
    ({None: 2}, "a dict key of type NoneType", "msgpack"),
    ({(1, 2): 3}, "a dict key of type tuple", "pickle"),
    ({Markup("k"): 3}, f"a dict key of type {__name__}.Markup", "pickle"),
    ({Colour.RED: 3}, f"a dict key of type {__name__}.Colour", "pickle"),
    ("\ud800", "a str that is not valid Unicode", "pickle"),
]


def inside(value: Any) -> list[Any]:
    """Return the value, alone and within containers."""
    return [value, [value], (None, value), {"a": [{"b": value, "c": None}, "null"]}]


@pytest.mark.parametrize(("value", "told", "other"), REFUSED)
def test_json_rejects_values_that_it_would_change(value: Any, told: str, other: str) -> None:
    for each in inside(value):
        with pytest.raises(BadArgument) as refused:
            Values(serde.named("json"), 0).dump(each)
        assert str(refused.value) == (
            f"serde=json cannot hold this: {told}, which serde={other} can hold"
        )


@pytest.mark.parametrize(("value", "told", "other"), REFUSED)
def test_the_suggested_serde_can_hold_the_value(value: Any, told: str, other: str) -> None:
    values = Values(serde.named(other))
    back = values.load(values.dump([value]))[0]
    assert type(back) is type(value)
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    ("value", "told", "other"),
    [each for each in REFUSED if each[2] == "pickle" and type(each[0]) is not bytearray],
)
def test_msgpack_rejects_values_that_it_would_change(value: Any, told: str, other: str) -> None:
    for each in inside(value):
        with pytest.raises(BadArgument) as refused:
            Values(serde.named("msgpack")).dump(each)
        assert str(refused.value) == (
            f"serde=msgpack cannot hold this: {told}, which serde=pickle can hold"
        )


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_values_that_no_serde_can_hold(name: str) -> None:
    with pytest.raises(BadArgument, match=f"serde={name} cannot hold this: function$"):
        Values(serde.named(name)).dump([lambda: None])
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(BadArgument, match="(?i)recursion limit"):
        Values(serde.named(name)).dump(endless)


def test_without_msgpack_the_error_suggests_another_serde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(BadArgument, match="nan, which serde=pickle can hold"):
        Values(serde.named("json")).dump([NAN])


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_a_tuple_becomes_a_list(name: str) -> None:
    values = Values(serde.named(name))
    assert values.load(values.dump((1, ("a", None)))) == [1, ["a", None]]


@given(
    st.recursive(
        PLAIN | st.floats(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_no_float_changes(value: Any) -> None:
    values = Values(serde.named("json"))
    try:
        line = values.dump(value)
    except BadArgument as error:
        assert str(error).partition(", ")[0].endswith((": nan", ": inf", ": -inf"))
        return
    assert repr(values.load(line)) == repr(value)


def test_data_that_only_resembles_a_float_that_is_not_finite() -> None:
    values = Values(serde.named("json"))
    value = [None, "g", 1, 0x7FF0, "ç", 1.5]
    assert _PERHAPS_NOT_FINITE.search(marshal.dumps(value))
    assert values.load(values.dump(value)) == value


def test_values_of_earlier_versions_can_be_read() -> None:
    assert Values(serde.named("json")).load(b'["2026-01-02T00:00:00+00:00",null]') == [
        "2026-01-02T00:00:00+00:00",
        None,
    ]


def test_msgpack_keys_that_are_not_text() -> None:
    values = Values(serde.named("msgpack"))
    assert values.load(values.dump({1: 2, b"x": None})) == {1: 2, b"x": None}


def test_values_are_stored_as_the_serde_writes_them() -> None:
    values = Values(serde.named("json"))
    assert values.dump({"a": "b\nc"}) == b'{"a":"b\\nc"}'
    assert values.dump(5) == b"5"
    assert json.loads(values.dump(["x"])) == ["x"]
    assert Values(serde.named("text")).dump("a\tb\r\n") == b"a\tb\r\n"
    assert Values(serde.named("bytes")).dump(bytes(range(256))) == bytes(range(256))


@pytest.mark.parametrize("name", SERDES)
@pytest.mark.parametrize("value", ["", "\\:", "\xc1", "5", b"", b"\xc1r", b"\\z:"])
def test_only_bytes_and_texts_can_begin_like_a_header(name: str, value: Any) -> None:
    values = Values(serde.named(name))
    try:
        written = values.dump(value)
    except BadArgument:
        return
    assert values.load(written) == value
    begins = value in (b"\xc1r", b"\\z:") if name == "bytes" else (name, value) == ("text", "\\:")
    assert written.startswith(b"\xc1") is begins


def test_values_are_compressed_only_if_that_makes_them_smaller() -> None:
    values = Values(serde.named("text"), compress_over=100)
    assert values.dump("x" * 100) == b"x" * 100
    assert values.dump("x" * 101).startswith(b"\xc1z")
    assert len(values.dump("x" * 1000)) < 40
    noise = bytes(range(256))
    assert not Values(serde.named("bytes"), 10).dump(noise).startswith(b"\xc1z")


def test_decompression_stops_at_the_limit() -> None:
    bomb = b"\xc1z" + zlib.compress(bytes(100_000_000))
    values = Values(serde.named("bytes"), 0, 1000)
    tracemalloc.start()
    try:
        with pytest.raises(CannotDecode, match="more than max_value_bytes=1000 bytes"):
            values.load(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_the_limit_of_decompressed_values() -> None:
    values = Values(serde.named("bytes"), 0, 1000)
    just = values.dump(bytes(1000))
    assert just.startswith(b"\xc1z")
    assert values.load(just) == bytes(1000)
    # A value that is too large to be decompressed is not compressed.
    assert values.dump(bytes(1001)) == bytes(1001)


@pytest.mark.parametrize(
    "line",
    [b"\\:a\\b", b"\\:a\\", b"\\z:abc", b"\xc1zabc", b"\xc1z" + zlib.compress(b"x" * 99)[:-1]],
)
def test_other_data_after_a_header(line: bytes) -> None:
    with pytest.raises(CannotDecode, match="serde=bytes did not write this"):
        Values(serde.named("bytes")).load(line)


@pytest.mark.parametrize(
    ("name", "line"),
    [("text", b"\xff"), ("json", b"{"), ("msgpack", b"\xc1"), ("pickle", b"no pickle")],
)
def test_values_that_another_serde_wrote(name: str, line: bytes) -> None:
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
def test_values_that_a_serde_cannot_hold(name: str, value: object) -> None:
    with pytest.raises(BadArgument, match=f"serde={name} cannot hold this"):
        Values(serde.named(name)).dump(value)
