"""Replies and requests of RESP: Python values to bytes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcache.wire import resp
from tests.helpers import done


def test_requests() -> None:
    assert resp.request(b"PING") == b"*1\r\n$4\r\nPING\r\n"
    assert resp.request(b"GET", b"\r\n") == b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n"
    assert resp.request(b"MGET", *[b"k"] * 99) == b"*100\r\n$4\r\nMGET\r\n" + b"$1\r\nk\r\n" * 99
    assert (
        resp.request(b"SET", b"100%d", b"%b") == b"*3\r\n$3\r\nSET\r\n$5\r\n100%d\r\n$2\r\n%b\r\n"
    )
    assert resp.requests([(b"PING",), [b"GET", b"k"]]) == (
        resp.request(b"PING") + resp.request(b"GET", b"k")
    )


@pytest.mark.parametrize(
    ("reply", "sent"),
    [
        (resp.simple("OK"), resp.OK),
        (resp.simple("two\r\nlines"), b"+two  lines\r\n"),
        (resp.error("ERR syntax error"), b"-ERR syntax error\r\n"),
        (resp.error("ERR two\r\nlines, \xe9 \udc80"), b"-ERR two  lines, \xc3\xa9 \\udc80\r\n"),
        (resp.integer(-(2**63)), b":-9223372036854775808\r\n"),
        (resp.bulk(b"a\r\nb"), b"$4\r\na\r\nb\r\n"),
        (resp.bulk(b""), resp.EMPTY_BULK),
        (resp.null(2), b"$-1\r\n"),
        (resp.null(3), b"_\r\n"),
        (resp.null_array(2), b"*-1\r\n"),
        (resp.null_array(3), b"_\r\n"),
        (resp.value(b"v", 2), b"$1\r\nv\r\n"),
        (resp.value(None, 2), b"$-1\r\n"),
        (resp.value(None, 3), b"_\r\n"),
        (resp.values([], 2), resp.EMPTY_ARRAY),
        (resp.values([b"a", b""], 2), b"*2\r\n$1\r\na\r\n$0\r\n\r\n"),
        (resp.values([b"a", None], 2), b"*2\r\n$1\r\na\r\n$-1\r\n"),
        (resp.values([b"a", None], 3), b"*2\r\n$1\r\na\r\n_\r\n"),
        (resp.array([resp.ONE, resp.OK]), b"*2\r\n:1\r\n+OK\r\n"),
        (resp.mapping([resp.OK, resp.ONE], 2), b"*2\r\n+OK\r\n:1\r\n"),
        (resp.mapping([resp.OK, resp.ONE], 3), b"%1\r\n+OK\r\n:1\r\n"),
        (resp.set_of([resp.ONE], 2), b"*1\r\n:1\r\n"),
        (resp.set_of([resp.ONE], 3), b"~1\r\n:1\r\n"),
        (resp.push([resp.ONE], 2), b"*1\r\n:1\r\n"),
        (resp.push([resp.ONE], 3), b">1\r\n:1\r\n"),
        (resp.double(1.5, 2), b"$3\r\n1.5\r\n"),
        (resp.double(1.5, 3), b",1.5\r\n"),
        (resp.double(10.0, 3), b",10\r\n"),
        (resp.double(1e300, 3), b",1e+300\r\n"),
        (resp.double(-math.inf, 3), b",-inf\r\n"),
        (resp.double(math.nan, 2), b"$3\r\nnan\r\n"),
        (resp.boolean(True, 2), b":1\r\n"),
        (resp.boolean(False, 2), b":0\r\n"),
        (resp.boolean(True, 3), b"#t\r\n"),
        (resp.boolean(False, 3), b"#f\r\n"),
        (resp.verbatim("a\r\n\xe9", 2), b"$5\r\na\r\n\xc3\xa9\r\n"),
        (resp.verbatim("a\r\n\xe9", 3), b"=9\r\ntxt:a\r\n\xc3\xa9\r\n"),
    ],
)
def test_replies(reply: bytes, sent: bytes) -> None:
    assert reply == sent


@pytest.mark.parametrize(
    ("content", "resp2", "resp3"),
    [
        (None, b"$-1\r\n", b"_\r\n"),
        (7, b":7\r\n", b":7\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (0.5, b"$3\r\n0.5\r\n", b",0.5\r\n"),
        (b"\xff", b"$1\r\n\xff\r\n", b"$1\r\n\xff\r\n"),
        ("\xe9", b"$2\r\n\xc3\xa9\r\n", b"$2\r\n\xc3\xa9\r\n"),
        ([], b"*0\r\n", b"*0\r\n"),
        ((1, [None]), b"*2\r\n:1\r\n*1\r\n$-1\r\n", b"*2\r\n:1\r\n*1\r\n_\r\n"),
        ({"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        ({1}, b"*1\r\n:1\r\n", b"~1\r\n:1\r\n"),
    ],
)
def test_python_values(content: Any, resp2: bytes, resp3: bytes) -> None:
    assert (resp.dump(content, 2), resp.dump(content, 3)) == (resp2, resp3)


def test_what_no_reply_can_contain_is_refused() -> None:
    with pytest.raises(TypeError, match="a reply cannot contain object"):
        resp.dump([object()], 3)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested too deeply"):
        resp.dump(endless, 3)


@given(st.lists(st.one_of(st.none(), st.binary(max_size=5))), st.sampled_from([2, 3]))
def test_long_arrays_are_built_in_slices(contents: list[bytes | None], protocol: int) -> None:
    whole = resp.values(contents, protocol)
    assert done(resp.array_in_slices(contents, protocol)) == whole == resp.dump(contents, protocol)


def test_a_slice_has_a_bounded_length() -> None:
    work = resp.array_in_slices([b"k"] * 10_000, 2)
    assert len(list(work)) == 10
