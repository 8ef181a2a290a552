"""Requests of RESP: bytes to lists of arguments."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tagcache.errors import MalformedRequest
from tagcache.wire import resp, resp_requests
from tagcache.wire.resp_requests import RequestBuffer

PING = b"*1\r\n$4\r\nPING\r\n"
# Line ends and what looks like the beginning of an argument are likely in them.
ARGUMENTS = st.one_of(
    st.binary(max_size=30),
    st.text(alphabet="\r\n$*123", max_size=12).map(str.encode),
    st.integers(0, 3000).map(lambda length: b"v" * length),
)
REQUESTS = st.lists(
    st.one_of(
        st.lists(ARGUMENTS, min_size=1, max_size=6),
        st.lists(st.just(b"k"), min_size=60, max_size=80),
    ),
    max_size=20,
)
PLACES = st.lists(st.integers(0, 100_000), max_size=10)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def one_by_one(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def a_buffer(max_request_bytes: int = 10**6, max_arguments: int = 1000) -> RequestBuffer:
    return RequestBuffer(max_request_bytes, max_arguments)


def feed_all(buffer: RequestBuffer, chunks: Iterable[bytes]) -> tuple[list[list[bytes]], str]:
    """Return the requests, and the text of the error that ended them."""
    requests: list[list[bytes]] = []
    for chunk in chunks:
        try:
            requests += buffer.feed(chunk)
        except MalformedRequest as error:
            return requests + error.requests, str(error)
    return requests, ""


@given(REQUESTS, PLACES)
def test_requests_do_not_depend_on_chunks(sent: list[list[bytes]], places: list[int]) -> None:
    buffer = a_buffer()
    assert feed_all(buffer, cut(resp.requests(sent), places)) == (sent, "")
    assert buffer.partial == 0


@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(alphabet="*$\r\n0123-aA", max_size=40).map(str.encode),
        st.lists(
            st.sampled_from(
                [b"*2", b"*1", b"*-1", b"$1", b"$0", b"$3", b"a", b"abc", b"\r\n", b"\n"]
            )
        ).map(b"".join),
    ),
    st.integers(0, 6),
    st.integers(0, 5),
    PLACES,
)
def test_any_bytes_give_the_same_in_any_chunks(
    data: bytes, max_request_bytes: int, max_arguments: int, places: list[int]
) -> None:
    data = resp.request(b"GET", b"k") + data
    whole = feed_all(a_buffer(max_request_bytes, max_arguments), [data])
    pieces = feed_all(a_buffer(max_request_bytes, max_arguments), cut(data, places))
    assert pieces == whole == feed_all(a_buffer(max_request_bytes, max_arguments), one_by_one(data))


@pytest.mark.parametrize(
    ("data", "requests", "error"),
    [
        (b"", [], ""),
        (PING, [[b"PING"]], ""),
        (b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" * 2, [[b"GET", b"k"]] * 2, ""),
        (b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", [[b"ECHO", b""]], ""),
        (b"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\n", [[b"ECHO", b"\r\n\r\n"]], ""),
        # Empty requests.
        (b"*0\r\n" + PING, [[b"PING"]], ""),
        (b"*-1\r\n" + PING, [[b"PING"]], ""),
        (b"*-9223372036854775808\r\n" + PING, [[b"PING"]], ""),
        (b"*1\r\n$0\r\n\r\n", [[b""]], ""),
        # The number of arguments.
        (PING + b"*a\r\n" + PING, [[b"PING"]], "invalid multibulk length"),
        (b"*\r\n", [], "invalid multibulk length"),
        (b"*+1\r\n$4\r\nPING\r\n", [], "invalid multibulk length"),
        (b"*01\r\n$4\r\nPING\r\n", [], "invalid multibulk length"),
        (b"*-0\r\n", [], "invalid multibulk length"),
        (b"*1 \r\n", [], "invalid multibulk length"),
        (b"*1001\r\n", [], "invalid multibulk length"),
        (b"*99999999999999999999\r\n", [], "invalid multibulk length"),
        (b"*" + b"1" * 22, [], "too big mbulk count string"),
        (b"*1\n$4\nPING\n" + PING, [], "invalid multibulk length"),
        (b"*1\n$4\nPING\n" * 3, [], "too big mbulk count string"),
        # The lengths of arguments.
        (b"*1\r\n$-1\r\n", [], "invalid bulk length"),
        (b"*1\r\n$a\r\n", [], "invalid bulk length"),
        (b"*1\r\n$\r\n", [], "invalid bulk length"),
        (b"*1\r\n$+4\r\nPING\r\n", [], "invalid bulk length"),
        (b"*1\r\n$04\r\nPING\r\n", [], "invalid bulk length"),
        (b"*1\r\n$-0\r\n\r\n", [], "invalid bulk length"),
        (b"*1\r\n$1000001\r\n", [], "invalid bulk length"),
        (b"*2\r\n$1\r\na\r\n$1000000\r\n", [], "invalid bulk length"),
        (b"*1\r\n$" + b"1" * 22, [], "too big bulk count string"),
        # Something else in place of an argument.
        (b"*1\r\nx", [], "expected '$', got 'x'"),
        (b"*1\r\n:1\r\n", [], "expected '$', got ':'"),
        (b"*1\r\n\r\n", [], r"expected '$', got '\r'"),
        (b"*1\r\n\xff\r\n", [], r"expected '$', got '\xff'"),
        (PING + b"*2\r\n$3\r\nGET\r\n*1\r\n", [[b"PING"]], "expected '$', got '*'"),
        # Something else in place of a request.
        (b"PING\r\n", [], "expected '*', got 'P'"),
        (b"\r" + PING, [], r"expected '*', got '\r'"),
        (PING + b"$4\r\nPING\r\n", [[b"PING"]], "expected '*', got '$'"),
        # The length is not that of the content.
        (b"*1\r\n$4\r\nPINGxx" + PING, [], "expected CRLF after a bulk string"),
        (b"*1\r\n$3\r\nPING\r\n", [], "expected CRLF after a bulk string"),
        (b"*1\r\n$5\r\nPING\r\n" + PING, [], "expected CRLF after a bulk string"),
    ],
)
def test_bytes_and_what_they_mean(data: bytes, requests: list[list[bytes]], error: str) -> None:
    text = f"Protocol error: {error}" if error else ""
    assert feed_all(a_buffer(), [data]) == (requests, text)
    assert feed_all(a_buffer(), one_by_one(data)) == (requests, text)


def test_after_an_error_nothing_is_left() -> None:
    buffer = a_buffer()
    buffer.feed(b"*3\r\n$3\r\nSET\r\n$1\r\n")
    assert buffer.partial
    with pytest.raises(MalformedRequest):
        buffer.feed(b"kkk\r\n")
    assert buffer.partial == 0
    assert buffer.feed(PING) == [[b"PING"]]


@pytest.mark.parametrize(
    ("max_request_bytes", "max_arguments", "accepted"),
    [(8, 3, True), (7, 3, False), (8, 2, False), (8, 1, False), (10**6, 10**6, True)],
)
@pytest.mark.parametrize("pieces", [1, 100])
def test_a_request_of_exactly_the_limits_is_accepted(
    max_request_bytes: int, max_arguments: int, accepted: bool, pieces: int
) -> None:
    data = resp.request(b"SET", b"key", b"vv")
    buffer = a_buffer(max_request_bytes, max_arguments)
    chunks = [data] if pieces == 1 else one_by_one(data)
    assert feed_all(buffer, chunks)[0] == ([[b"SET", b"key", b"vv"]] if accepted else [])


def test_many_common_requests_in_a_chunk_may_exceed_the_limit_of_one() -> None:
    sent = [[b"GET", b"key:%d" % number] for number in range(1000)]
    assert a_buffer(max_request_bytes=100).feed(resp.requests(sent)) == sent


def test_limits_can_be_changed() -> None:
    buffer = a_buffer()
    buffer.use_limits(10, 1)
    with pytest.raises(MalformedRequest):
        buffer.feed(resp.request(b"GET", b"k"))
    buffer.use_limits(10, 2)
    assert buffer.feed(resp.request(b"GET", b"k")) == [[b"GET", b"k"]]


def test_an_incomplete_request_counts_its_memory() -> None:
    buffer = a_buffer()
    buffer.feed(b"*1")
    assert buffer.partial > 0
    buffer.feed(b"000\r\n")
    for _ in range(999):
        buffer.feed(b"$2\r\nab\r\n")
    assert buffer.partial > 999 * 40
    before = buffer.partial
    buffer.feed(b"$5000\r\n" + b"v" * 4000)
    assert buffer.partial - before > 4000
    buffer.clear()
    assert buffer.partial == 0
    assert buffer.feed(PING) == [[b"PING"]]


@pytest.mark.parametrize("announced", [b"*1000000\r\n", b"*1\r\n$500000000\r\n"])
def test_what_is_announced_is_not_allocated(announced: bytes) -> None:
    buffer = a_buffer(10**9, 10**6)
    tracemalloc.start()
    try:
        assert buffer.feed(announced) == []
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("sent", "piece", "most"),
    [
        ([b"SET", b"k", b"v" * 1_000_000], 64, 1.2),
        ([b"SET", b"k", b"v" * 100_000], 1, 1.2),
        ([b"SET", b"k", b"\r\n" * 100_000], 64, 1.2),
        # All of a short line is looked at again for each of its bytes.
        ([b"MSET", *[b"value"] * 20_000], 1, 8),
        ([b"MSET", *[b"\r\n"] * 20_000], 64, 2),
    ],
)
def test_the_work_is_linear(
    monkeypatch: pytest.MonkeyPatch, sent: list[bytes], piece: int, most: float
) -> None:
    touched = 0

    def counted(function: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal touched
            touched += len(arguments[place])
            return function(*arguments)

        return call

    for name in ("_parse", "_parse_arguments"):
        monkeypatch.setattr(RequestBuffer, name, counted(getattr(RequestBuffer, name), 1))
    monkeypatch.setattr(resp_requests, "_take_common", counted(resp_requests._take_common, 0))
    data = resp.request(*sent)
    buffer = a_buffer(10**7, 10**6)
    chunks = [data[start : start + piece] for start in range(0, len(data), piece)]
    assert feed_all(buffer, chunks) == ([sent], "")
    assert touched <= most * len(data)


class Counted(bytes):
    """Bytes that count how many of them are copied."""

    copied = 0

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        if isinstance(found, bytes):
            Counted.copied += len(found)
        return found


@pytest.mark.parametrize("sent", [b"*0\r\n", b"\r\n", b"*1\r\n$4\r\nPING\r\n"])
def test_many_small_requests_in_a_chunk_are_not_copied_again_and_again(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    parse = RequestBuffer._parse
    monkeypatch.setattr(
        RequestBuffer, "_parse", lambda self, data, *rest: parse(self, Counted(data), *rest)
    )
    monkeypatch.setattr(resp_requests, "_take_common", lambda chunk, *rest: chunk)
    monkeypatch.setattr(Counted, "copied", 0)
    a_buffer().feed(sent * 1000)
    assert Counted.copied <= len(sent) * 1000


def test_a_memory_error_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = a_buffer()
    data = resp.request(b"MSET", b"a", b"1", b"b", b"2\r\n", b"c", b"v" * 100)
    buffer.feed(data[:20])
    before = buffer.partial
    with monkeypatch.context() as patch:
        patch.setattr("tagcache.wire.resp_requests.memoryview", _out_of_memory, raising=False)
        with pytest.raises(MemoryError):
            buffer.feed(data[20:-10])
    assert buffer.partial == before
    assert buffer.feed(data[20:]) == [[b"MSET", b"a", b"1", b"b", b"2\r\n", b"c", b"v" * 100]]


def _out_of_memory(data: bytes) -> memoryview:
    raise MemoryError


def test_the_error_is_one_line() -> None:
    for byte in range(256):
        with pytest.raises(MalformedRequest) as caught:
            a_buffer().feed(b"*1\r\n" + bytes([byte]) + b"x\r\n")
        assert re.fullmatch(r"[ -~]+", str(caught.value))


@given(REQUESTS, PLACES)
def test_empty_lines_between_requests_are_ignored(
    sent: list[list[bytes]], places: list[int]
) -> None:
    stream = b"\r\n".join([b"\r\n", *(resp.request(*each) for each in sent), b"\r\n"])
    assert feed_all(a_buffer(), cut(stream, places)) == (sent, "")


HEAD_OF_GET = b"*2\r\n$3\r\nGET\r\n"


@given(st.lists(st.binary(max_size=1100), min_size=1, max_size=20), st.booleans())
def test_chunks_of_look_ups_are_recognized(keys: list[bytes], plain: bool) -> None:
    if plain:
        keys = [key.replace(b"\r\n", b"") for key in keys]
    chunk = b"".join(resp.request(b"GET", key) for key in keys)
    # See the next test.
    assume(chunk.count(HEAD_OF_GET) == len(keys))
    found = resp_requests.only_gets(chunk)
    assert found == (keys if all(len(key) <= 1024 for key in keys) else None)
    for other in (chunk[:-1], chunk + b"*", chunk + PING, PING + chunk, chunk[1:]):
        assert resp_requests.only_gets(other) is None


def test_keys_that_look_like_the_head_of_a_look_up_are_left_to_the_parser() -> None:
    keys = [b"a", HEAD_OF_GET, b"b" + HEAD_OF_GET + b"c"]
    chunk = b"".join(resp.request(b"GET", key) for key in keys)
    assert resp_requests.only_gets(chunk) is None
    assert feed_all(a_buffer(), [chunk]) == ([[b"GET", key] for key in keys], "")


@given(st.text(alphabet="*$\r\nGET23", max_size=60))
def test_what_is_taken_for_look_ups_is_parsed_as_look_ups(text: str) -> None:
    chunk = b"*2\r\n$3\r\nGET\r\n" + text.encode()
    keys = resp_requests.only_gets(chunk)
    if keys is not None:
        assert feed_all(a_buffer(), [chunk]) == ([[b"GET", key] for key in keys], "")


@given(st.lists(st.sampled_from([b"$1\r\na", b"$2\r\nab", b"$1\r\na\r\n$7", b"x" * 7])))
def test_parts_of_look_ups_that_are_in_other_places_are_none(parts: list[bytes]) -> None:
    get = b"*2\r\n$3\r\nGET\r\n"
    chunk = get + (b"\r\n" + get).join([b"$1\r\na", *parts]) + b"\r\n"
    requests, error = feed_all(a_buffer(), [chunk])
    keys = resp_requests.only_gets(chunk)
    assert keys == (None if error else [key for _, key in requests])
