"""Replies of RESP: bytes to Python values."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcache.errors import UnexpectedReply
from tagcache.wire import resp, resp_replies
from tagcache.wire.resp_replies import MAX_DEPTH, ErrorReply, Push, ReplyReader, only_string

PLACES = st.lists(st.integers(0, 100_000), max_size=10)
# What looks like a line with a length is likely in them.
CONTENTS = st.one_of(
    st.binary(max_size=30),
    st.text(alphabet="\r\n$*%123456789", max_size=30).map(str.encode),
    st.sampled_from([b"\n*99999999\r\n", b"\r\n$9999999999\r\n", b"*99999999", b"v" * 2000]),
)
TEXT = st.text(alphabet="abc \xe9", max_size=10)
SCALARS = st.one_of(
    CONTENTS.map(resp.bulk),
    TEXT.map(resp.simple),
    TEXT.map(resp.error),
    st.integers(-(2**63), 2**63 - 1).map(resp.integer),
    st.sampled_from(
        [b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b"#f\r\n", b"=-1\r\n", b"~-1\r\n"]
    ),
    st.floats(allow_nan=False).map(lambda number: resp.double(number, 3)),
    TEXT.map(lambda text: resp.verbatim(text, 3)),
    st.integers().map(lambda number: b"(%d\r\n" % number),
)
COMMON = st.one_of(CONTENTS.map(resp.bulk), st.sampled_from([b"$-1\r\n", b"_\r\n", b":1\r\n"]))
KEYS = st.binary(max_size=5).map(resp.bulk)


def aggregates(items: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    some = st.one_of(st.lists(items, max_size=5), st.lists(COMMON, min_size=20, max_size=40))
    # hiredis mixes up the values of equal keys.
    pairs = st.dictionaries(KEYS, items, max_size=3).map(dict.items)
    return st.one_of(
        some.map(resp.array),
        some.map(lambda each: resp.set_of(each, 3)),
        some.map(lambda each: resp.push(each, 3)),
        pairs.map(lambda each: resp.mapping([part for pair in each for part in pair], 3)),
    )


REPLIES = st.recursive(SCALARS, aggregates, max_leaves=20)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def one_by_one(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def read_all(reader: ReplyReader, chunks: Iterable[bytes]) -> list[Any]:
    return [reply for chunk in chunks for reply in reader.feed(chunk)]


def by_hiredis_alone(data: bytes) -> list[Any]:
    nothing = object()
    reader = hiredis.Reader(replyError=ErrorReply, notEnoughData=nothing)  # type: ignore[arg-type]
    reader.feed(data)
    replies = []
    while (reply := reader.gets()) is not nothing:
        replies.append(reply)
    return replies


def types(reply: Any) -> Any:
    """Return a value that also tells True from 1."""
    if isinstance(reply, list):
        return [types(each) for each in reply]
    if isinstance(reply, dict):
        return {key: types(each) for key, each in reply.items()}
    return type(reply), reply


@given(st.lists(REPLIES, max_size=4), PLACES)
def test_the_result_is_that_of_hiredis_in_any_chunks(sent: list[bytes], places: list[int]) -> None:
    data = b"".join(sent)
    expected = by_hiredis_alone(data)
    assert len(expected) == len(sent)
    for chunks in ([data], cut(data, places), one_by_one(data)):
        assert types(read_all(ReplyReader(), chunks)) == types(expected)
    with without_hiredis():
        assert types(ReplyReader().feed(data)) == types(expected)


@contextmanager
def without_hiredis() -> Iterator[None]:
    """Read replies as if hiredis were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resp_replies, "_hiredis", None)
        yield


@pytest.mark.parametrize("value", [b"v" * 100, b"\r\n*1000000000\r\n", b"\n>", b"", None])
def test_many_strings_are_the_same_with_and_without_hiredis(value: bytes | None) -> None:
    strings = [b"a" * 10, value, None, b"\r\n"] * 50
    data = resp.values(strings, 2)
    assert ReplyReader().feed(data) == [strings]
    assert ReplyReader().feed(data + resp.ONE) == [strings, 1]
    with without_hiredis():
        assert ReplyReader().feed(data) == [strings]


@pytest.mark.parametrize("data", [b"$3\r\nabc\r\n", b"$0\r\n\r\n", b"$4\r\n\r\n\r\n\r\n"])
def test_a_single_string_is_recognised(data: bytes) -> None:
    assert [only_string(data)] == by_hiredis_alone(data)
    for other in (data[:-1], data + b"x", b"+" + data[1:], data[1:], b"", b"$-1\r\n", b"$-2\r\n"):
        assert only_string(other) is None


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"+OK\r\n", b"OK"),
        (b"-ERR no such thing\r\n", ErrorReply("ERR no such thing")),
        (b":-5\r\n", -5),
        (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
        (b"$0\r\n\r\n", b""),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"_\r\n", None),
        (b"*0\r\n", []),
        (b"*3\r\n:1\r\n*1\r\n$1\r\na\r\n-ERR x\r\n", [1, [b"a"], ErrorReply("ERR x")]),
        (b"%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n", {b"a": 1, b"b": {}}),
        (b"~2\r\n:1\r\n:1\r\n", [1, 1]),
        (b"#t\r\n", True),
        (b"#f\r\n", False),
        (b",1.5\r\n", 1.5),
        (b",-inf\r\n", -math.inf),
        (b"(12345678901234567890\r\n", b"12345678901234567890"),
        (b"=7\r\ntxt:a\r\n\r\n", b"a\r\n"),
        (b">2\r\n+a\r\n:1\r\n", Push([b"a", 1])),
    ],
)
def test_bytes_and_what_they_mean(data: bytes, reply: Any) -> None:
    for chunks in ([data * 2], one_by_one(data * 2)):
        replies = read_all(ReplyReader(), chunks)
        assert types(replies) == types([reply, reply])
        assert type(replies[0]) is type(reply)


def test_the_code_of_an_error_is_its_first_word() -> None:
    assert ErrorReply("WRONGPASS invalid username-password pair").code == "WRONGPASS"
    assert ReplyReader(100, 100).feed(b"!7\r\nERR a\r\n\r\n") == [ErrorReply("ERR a\r\n")]


@pytest.mark.parametrize(
    "data",
    [
        b"OK\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b":a\r\n",
        b":+1\r\n",
        b":9223372036854775808\r\n",
        b"$a\r\n",
        b"$-2\r\n",
        b"*-2\r\n",
        b"#x\r\n",
        b",1_0\r\n",
        b", 1\r\n",
        b"_x\r\n",
        b"(1a\r\n",
        b"=3\r\nabc\r\n",
        b"%1\r\n*1\r\n:1\r\n:1\r\n",
        b"*1\r\n" * (MAX_DEPTH + 1) + b":1\r\n",
        b"*99999999999999999999\r\n",
    ],
)
def test_what_is_no_reply_is_an_error(data: bytes) -> None:
    with pytest.raises(UnexpectedReply):
        read_all(ReplyReader(), [data])
    with pytest.raises(UnexpectedReply):
        read_all(ReplyReader(), one_by_one(data[:1000]))


def test_the_deepest_nesting_that_is_read() -> None:
    expected: Any = 1
    for _ in range(MAX_DEPTH):
        expected = [expected]
    assert ReplyReader().feed(b"*1\r\n" * MAX_DEPTH + b":1\r\n") == [expected]


@given(
    data=st.one_of(
        st.binary(max_size=60),
        st.text(alphabet="*$%~>:+-_#=(!,\r\n012", max_size=60).map(str.encode),
    ),
    places=PLACES,
)
def test_any_bytes_raise_nothing_else(data: bytes, places: list[int]) -> None:
    reader = ReplyReader(50, 50)
    with suppress(UnexpectedReply):
        read_all(reader, cut(data, places))


@pytest.mark.parametrize(
    ("data", "accepted"),
    [
        (resp.bulk(b"v" * 100), True),
        (resp.bulk(b"v" * 101), False),
        (resp.array([resp.ONE] * 20), True),
        (resp.array([resp.ONE] * 21), False),
        (resp.set_of([resp.ONE] * 21, 3), False),
        (resp.mapping([resp.ONE] * 20, 3), True),
        (resp.mapping([resp.ONE] * 22, 3), False),
        (resp.array([resp.array([resp.ONE] * 21)]), False),
        (resp.array([resp.bulk(b"\r\n*21\r\n"), resp.bulk(b"\r\n$101\r\n")]), True),
    ],
)
def test_limits(data: bytes, accepted: bool) -> None:
    for chunks in ([data], one_by_one(data)):
        reader = ReplyReader(100, 20)
        if accepted:
            assert read_all(reader, chunks) == by_hiredis_alone(data)
        else:
            with pytest.raises(UnexpectedReply):
                read_all(reader, chunks)


@pytest.mark.parametrize("before", [b"", b"+OK\r\n", b"*2\r\n", b"*2\r\n$2\r\nab\r\n"])
@pytest.mark.parametrize(
    "announced", [b"*1000000000\r\n", b"~1000000000\r\n", b"%1000000000\r\n", b"$2000000000\r\n"]
)
def test_a_length_over_the_limit_is_refused_before_anything_is_allocated(
    before: bytes, announced: bytes
) -> None:
    for chunks in ([before + announced], one_by_one(before + announced)):
        reader = ReplyReader()
        tracemalloc.start()
        try:
            with pytest.raises(UnexpectedReply, match="too many items|too long"):
                read_all(reader, chunks)
            assert tracemalloc.get_traced_memory()[1] < 50_000
        finally:
            tracemalloc.stop()


def test_an_endless_line_is_refused() -> None:
    reader = ReplyReader()
    with pytest.raises(UnexpectedReply, match="too long"):
        read_all(reader, [b"+"] + [b"a" * 1000] * 100)


@pytest.mark.parametrize(
    ("data", "piece"),
    [
        (resp.bulk(b"\r\n" * 100_000), 64),
        (resp.simple("a" * 60_000), 1),
        (resp.values([b"value"] * 10_000, 2), 1),
        (resp.values([b"value"] * 10_000, 2), 1000),
    ],
)
def test_the_work_of_our_own_reader_is_linear(
    monkeypatch: pytest.MonkeyPatch, data: bytes, piece: int
) -> None:
    touched = 0
    parse = ReplyReader._parse

    def counted(self: ReplyReader, data: bytes, replies: list[Any]) -> int:
        nonlocal touched
        touched += len(data)
        return parse(self, data, replies)

    monkeypatch.setattr(ReplyReader, "_parse", counted)
    chunks = [data[start : start + piece] for start in range(0, len(data), piece)]
    assert read_all(ReplyReader(), chunks) == by_hiredis_alone(data)
    assert touched <= 8 * len(data)
