"""The codec of the line protocol: bytes to requests, results to replies."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcache.errors import InvalidArgument, LineTooLong
from tagcache.model.limits import Limits
from tagcache.wire import line as wire
from tests.helpers import done


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def feed_all(buffer: wire.LineBuffer, chunks: list[bytes]) -> tuple[list[bytes], bool]:
    lines: list[bytes] = []
    for chunk in chunks:
        try:
            lines += buffer.feed(chunk)
        except LineTooLong as error:
            return lines + error.lines, True
    return lines, False


@given(
    st.binary().map(lambda data: data.replace(b"x", b"\n").replace(b"y", b"\r")),
    st.lists(st.integers(0, 10_000), max_size=10),
)
def test_lines_do_not_depend_on_chunks(data: bytes, places: list[int]) -> None:
    lines, too_long = feed_all(wire.LineBuffer(10_000), cut(data, places))
    assert lines == [line.rstrip(b"\r") for line in data.split(b"\n")[:-1]]
    assert not too_long


@given(
    st.lists(st.integers(0, 12).map(lambda n: b"a" * n), min_size=1, max_size=8),
    st.lists(st.integers(0, 10_000), max_size=10),
)
def test_the_limit_does_not_depend_on_chunks(sent: list[bytes], places: list[int]) -> None:
    limit = 8
    data = b"".join(line + b"\n" for line in sent)
    lines, too_long = feed_all(wire.LineBuffer(limit), cut(data, places))
    within = []
    for line in sent:
        if len(line) > limit:
            break
        within.append(line)
    assert lines == within
    assert too_long == (len(within) < len(sent))


def test_a_line_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not() -> None:
    assert wire.LineBuffer(4).feed(b"abcd\r\n") == [b"abcd"]
    with pytest.raises(LineTooLong):
        wire.LineBuffer(4).feed(b"abcde\n")


def test_an_endless_line_is_refused_before_it_ends() -> None:
    buffer = wire.LineBuffer(10)
    assert buffer.feed(b"GET\tk\n12345") == [b"GET\tk"]
    with pytest.raises(LineTooLong) as caught:
        buffer.feed(b"678901")
    assert caught.value.lines == []
    assert not buffer.partial


def test_lines_before_the_one_too_long_are_not_lost() -> None:
    with pytest.raises(LineTooLong) as caught:
        wire.LineBuffer(6).feed(b"GET\ta\r\nGET\tb\nGET\tccc\nGET\td\n")
    assert caught.value.lines == [b"GET\ta", b"GET\tb"]


def test_a_line_that_arrives_byte_by_byte_is_copied_once() -> None:
    class Counting(bytearray):
        copied = 0

        def __iadd__(self, more: bytes) -> Counting:  # type: ignore[override]
            Counting.copied += len(more)
            super().extend(more)
            return self

    buffer = wire.LineBuffer(10**6)
    buffer.partial = Counting()
    for _ in range(20_000):
        assert buffer.feed(b"x") == []
    assert buffer.feed(b"\n") == [b"x" * 20_000]
    assert Counting.copied == 20_000


def test_fields_are_at_most_five_and_the_fifth_keeps_its_tabs() -> None:
    assert wire.split(b"PUT\tk\t-\t-\ta\tb\t") == [b"PUT", b"k", b"-", b"-", b"a\tb\t"]
    assert wire.split(b"GET") == [b"GET"]


@pytest.mark.parametrize(
    ("field", "ttl_ms"),
    [
        (b"", None),
        (b"-", None),
        (b"0", None),
        (b"000", None),
        (b"1", 1),
        (b"0060000", 60000),
        (b"18446744073709551615", 2**64 - 1),
        (b"0" * 5000 + b"7", 7),
    ],
)
def test_ttl(field: bytes, ttl_ms: int | None) -> None:
    assert wire.parse_ttl(field) == ttl_ms


@pytest.mark.parametrize(
    "field",
    [b"abc", b"-5", b"+1", b"1.5", b" 1", b"1 ", b"18446744073709551616", b"1_0", b"\xd9\xa1"],
)
def test_an_invalid_ttl_is_an_error(field: bytes) -> None:
    with pytest.raises(InvalidArgument, match="^invalid_ttl$"):
        wire.parse_ttl(field)


@pytest.mark.parametrize(
    ("field", "by"),
    [
        (b"", 1),
        (b"5", 5),
        (b"+3", 3),
        (b"-2", -2),
        (b"-0", 0),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
    ],
)
def test_by(field: bytes, by: int) -> None:
    assert wire.parse_by(field) == by


@pytest.mark.parametrize(
    "field",
    [b"abc", b"1.5", b" 2", b"-", b"+", b"9223372036854775808", b"-9223372036854775809", b"1_0"],
)
def test_an_invalid_by_is_an_error(field: bytes) -> None:
    with pytest.raises(InvalidArgument, match="^invalid_by$"):
        wire.parse_by(field)


def test_tags_of_an_entry_are_not_trimmed_and_empty_ones_dropped() -> None:
    assert wire.parse_tags(b"a, b ,,c") == [b"a", b" b ", b"c"]
    assert wire.parse_tags(b"a,-") == [b"a", b"-"]
    assert wire.parse_tags(b"-") == wire.parse_tags(b"") == wire.parse_tags(b",") == []


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"POST /",
        b"OPTIONS ",
        b"PRI * HTTP/2.0",
        b"INV_TAG / HTTP/1.1",
        b"put /x?a HTTP/1.0",
        b"Host: 127.0.0.1:1984",
        b"hOST:x",
    ],
)
def test_lines_of_http_requests(line: bytes) -> None:
    assert wire.is_http(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET",
        b"GET\tkey of mine HTTP/1.1",
        b"PUT\tk\t-\t-\tGET / HTTP/1.1",
        b"DEL\tHost: x",
        b"DELETE\t/x HTTP/1.1",
        b" GET\tk",
        b"PING",
        b"hello there",
        b"say\tGET / HTTP/1.1",
        b"host",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
)
def test_lines_that_only_resemble_http(line: bytes) -> None:
    assert not wire.is_http(line)


def test_lists_are_trimmed_and_empty_items_dropped() -> None:
    assert wire.parse_list(b"c1, c2 ,c3,,", "keys") == [b"c1", b"c2", b"c3"]
    with pytest.raises(InvalidArgument, match="^missing_tags$"):
        wire.parse_list(b"", "tags")
    with pytest.raises(InvalidArgument, match="^empty_keys$"):
        wire.parse_list(b",, ,", "keys")


def test_a_value_with_a_line_feed_is_not_framed() -> None:
    assert wire.value(b"a\tb\r") == b"VALUE\ta\tb\r\n"
    assert wire.value(b"a\nb") == b"ERR value_not_representable\n"


def test_keys_that_a_list_cannot_hold_are_omitted_and_counted() -> None:
    assert done(wire.keys([])) == (b"KEYS\t\n", 0)
    assert done(wire.keys([b"a", b"b"])) == (b"KEYS\ta,b\n", 0)
    assert done(wire.keys([b"a", b"b,c", b"d\ne"])) == (b"KEYS\ta\n", 2)
    assert done(wire.keys([b"b,c"])) == (b"KEYS\t\n", 1)
    many = [b"%d" % number for number in range(10_000)]
    assert done(wire.keys(many)) == (b"KEYS\t%b\n" % b",".join(many), 0)
    assert done(wire.keys([*many, b"a,", *many]))[1] == 1
    assert sum(1 for _ in wire.keys([b"a,b"] * 10_000)) == 10


def test_stats_have_six_decimals() -> None:
    assert wire.stats(1, 2, 3, 4, 1 / 3) == b"STATS\t1\t2\t3\t4\t0.333333\n"


def test_json_replies_are_one_ascii_line() -> None:
    reply = wire.json_object(b"INFO", {"a": "line\nfeed", "b": "é"})
    assert reply.count(b"\n") == 1
    assert reply.isascii()
    assert json.loads(reply.removeprefix(b"INFO\t")) == {"a": "line\nfeed", "b": "é"}
    assert wire.json_list(b"CLIENTS", []) == b"CLIENTS\t[]\n"
    assert wire.json_list(b"CLIENTS", ['{"id":1}', "2"]) == b'CLIENTS\t[{"id":1},2]\n'


def test_the_longest_legal_request_is_a_fill_with_everything_at_its_limit() -> None:
    limits = Limits(max_key_length=3, max_value_length=5, max_tags_per_entry=2, max_tag_length=4)
    ttl = b"18446744073709551615+18446744073709551615"
    longest = b"FILL\t%d\tkey\t%b\taaaa,bbbb\tvalue" % (2**63 - 1, ttl)
    assert len(longest) <= wire.max_line_length(limits) <= len(longest) + 2
