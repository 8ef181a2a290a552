"""A request of HTTP that repeats a head gets the answer that Python would give."""

from __future__ import annotations

import gc
import json
import math
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagcache import native
from tagcache.engine.memory import MemoryCache
from tagcache.model.store_options import StoreOptions
from tagcache.native import HTTP
from tagcache.server.http.endpoints.entries import plain_options
from tagcache.server.http.entry_json import value_body
from tagcache.server.http.messages import plain
from tagcache.wire import values
from tests.unit.server.http.test_protocol import BASIC, JSON, Door, split

pytestmark = pytest.mark.skipif(native.core is None, reason="the native core is not in use")

ROOM = 100_000
LINES = b"Host: x\r\n" + BASIC + JSON


def get(key: str, lines: bytes = LINES) -> bytes:
    return b"GET /get/" + key.encode() + b" HTTP/1.1\r\n" + lines + b"\r\n"


def put(body: bytes, lines: bytes = LINES) -> bytes:
    start = b"POST /put HTTP/1.1\r\n" + lines + b"Content-Length: "
    return start + b"%d\r\n\r\n" % len(body) + body


def entry(key: str, value: str, **more: Any) -> bytes:
    return json.dumps({"key": key, "value": value, **more}).encode()


def heads_for(max_body: int = 10_000) -> Any:
    core: Any = native.core
    heads = core.HttpHeads()
    heads.use_look_up(*get("|").split(b"|"), [], math.inf)
    before, _, after = put(b"").partition(b"Content-Length: 0")
    heads.use_store(before + b"Content-Length: ", after, [], math.inf, max_body)
    return heads


def answer(
    cache: MemoryCache, data: bytes, room: int = ROOM, heads: Any = None, now: float | None = None
) -> tuple[int, bytes]:
    """How many bytes of requests are answered without Python, and the responses."""
    now = time.monotonic() if now is None else now
    readers = plain_options, plain_options
    length, _, responses = cache.plain.answer(HTTP, *readers, data, now, room, heads or heads_for())
    return length, responses


# Each request by itself

TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from('\\"/\b\f\n\r\t\0\x1f\x7f'))
VALUES = (
    TEXTS.map(str.encode)
    | st.binary()
    | st.builds(bytes.__add__, st.sampled_from(values.HEADERS), st.binary())
)


@given(VALUES)
@example(b"\xed\xa0\x80")
@example(b"\xf4\x90\x80\x80")
@example(b"\xc0\xaf")
@example(b"\xe2\x82")
def test_a_value_is_written_as_python_writes_it(value: bytes) -> None:
    cache = MemoryCache()
    cache.put(b"k", value)
    length, response = answer(cache, get("k"))
    if length:
        assert response == plain(value_body(value, 1 << 20))
    else:
        assert value.startswith(b"\\") or not _is_text(value)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_a_key_that_is_missing() -> None:
    cache = MemoryCache()
    assert answer(cache, get("k") * 2)[1] == plain(value_body(None, 1)) * 2
    assert cache.counters().misses == 2


@pytest.mark.parametrize("path", ["", "a/b", "a?db=1", "a%20b", "a b", "\u00e9", "k" * 3000])
def test_other_paths_are_left(path: str) -> None:
    assert answer(MemoryCache(), get(path)) == (0, b"")


def test_what_does_not_fit_is_left() -> None:
    cache = MemoryCache()
    cache.put(b"k", b'"' * 1000)
    whole = plain(value_body(b'"' * 1000, 1 << 20))
    assert answer(cache, get("k") * 2, len(whole) * 2 + 160) == (2 * len(get("k")), whole * 2)
    assert answer(cache, get("k") * 2, len(whole) * 2 - 1) == (len(get("k")), whole)
    assert answer(cache, get("nothing"), 60) == (0, b"")
    assert answer(cache, put(entry("k", "v")), 60) == (0, b"")
    assert cache.get(b"k") == b'"' * 1000


PLAIN_BODIES = [
    entry("k", "v"),
    entry("k", ""),
    entry("k", 'a "quoted"\n\\ text/', tags=["t:1", "g:1"], ttl_ms=5000),
    json.dumps({"key": "\u00e9", "value": "\u20ac"}, ensure_ascii=False).encode(),
    b' { "ttl_ms" : 1 , "tags" : [ ] ,\r\n"value":"v\\/" , "key":"k" }\t',
    b'{"key":"k","tags":["a"],"value":"v"}',
    entry("k", "v", ttl_ms=1_234_567),
    entry("k", "v", ttl_ms=2**60 + 1),
    entry("k", "v", ttl_ms=2**64 - 1),
]
OTHER_BODIES = [
    b"",
    b"{}",
    b"[]",
    b'{"key":"k"}',
    b'{"key":"","value":"v"}',
    b'{"key":"k","value":1}',
    b'{"key":"k","value":"v"',
    b'{"key":"k","value":"v",}',
    b'{"key":"k","value":"v"}}',
    b'{"key":"k","key":"l","value":"v"}',
    b'{"key":"k","value":"v","value":"w"}',
    b'{"key":"k","value":"v","tags":["a"],"tags":["b"]}',
    b'{"key":"k","value":"v","ttl_ms":1,"ttl_ms":2}',
    b'{"key":"k","value":"v","k\\u0065y":"l"}',
    b'{"key":"k","value":"v","ttl_ms":01}',
    b'{"key":"k","value":"v","ttl_ms":1.0}',
    b'{"key":"k","value":"v","ttl_ms":1e3}',
    b'{"key":"k","value":"v","ttl_ms":-1}',
    b'{"key":"k","value":"v","ttl_ms":null}',
    b'{"key":"k","value":"v","ttl_ms":18446744073709551616}',
    b'{"key":"k","value":"v","tags":["a",]}',
    b'{"key":"k","value":"v","tags":"a"}',
    b'{"key":"k","value":"v","tags":["a\\n"]}',
    b'{"key":"k","tags":["a"],"value":"v","ttl_ms":1}',
    b'{"key":"k","value":"v","grace_ms":1}',
    b'{"key":"k","value":"v","more":1}',
    b'{"key":"k","value":"\\u0041"}',
    b'{"key":"k","value":"\\x"}',
    b'{"key":"k","value":"\\\\:v"}',
    b'{"key":"k","value":"a\nb"}',
    b'{"key":"k","value":"\xff"}',
    b'{"key":"k\xed\xa0\x80","value":"v"}',
    b'{"key":"k","value":"v\\"}',
    b'{"key":"k","value":"v\\',
    b'{"key":"a\\nb","value":"v"}',
    b'{"key":"k","value":"v","tags":["' + b"x" * 300 + b'"]}',
]
BODIES = st.sampled_from(PLAIN_BODIES + OTHER_BODIES)
FIELDS = st.dictionaries(
    st.sampled_from(["key", "value", "tags", "ttl_ms", "grace_ms", "more"]),
    TEXTS | st.integers(-1, 2**65) | st.lists(TEXTS, max_size=3) | st.none() | st.floats(),
)


@pytest.mark.parametrize("body", PLAIN_BODIES)
def test_plain_stores_are_answered(body: bytes) -> None:
    cache = MemoryCache()
    for _ in range(3):
        length, response = answer(cache, put(body))
        assert length == len(put(body))
        assert split(response)[0][0] == 200


@given(
    BODIES
    | FIELDS.map(lambda fields: json.dumps(fields, ensure_ascii=False).encode(errors="replace"))
    | st.builds(entry, TEXTS, TEXTS, tags=st.lists(TEXTS, max_size=2), ttl_ms=st.integers(0, 99))
    | st.builds(
        lambda body, at, byte: body[:at] + byte + body[at + 1 :],
        BODIES,
        st.integers(0, 50),
        st.binary(max_size=2),
    )
)
def test_a_store_does_what_python_does(body: bytes) -> None:
    twin = Door()
    cache = MemoryCache(monotonic=twin.clock.seconds)
    data = put(body)
    length, response = answer(cache, data, now=0.0)
    if not length:
        return
    for _ in range(2):
        assert response == twin.send(data)
        assert length == len(data)
        key = json.loads(body)["key"].encode()
        ours, theirs = cache.peek(key), twin.cache.peek(key)
        assert ours is not None
        assert theirs is not None
        assert (ours.value, ours.tags, ours.ttl) == (theirs.value, theirs.tags, theirs.ttl)
        assert cache.counters() == twin.cache.counters()
        length, response = answer(cache, data, now=0.0)


def test_a_length_that_is_not_plain_is_left() -> None:
    body = entry("k", "v")
    good = put(body)
    for length in (b"0%d" % len(body), b"", b"-1", b"+24", b" %d" % len(body), b"9" * 30):
        assert (
            answer(MemoryCache(), good.replace(b": %d\r" % len(body), b": %b\r" % length))[0] == 0
        )
    assert answer(MemoryCache(), good, heads=heads_for(len(body)))[0] == len(good)
    assert answer(MemoryCache(), good, heads=heads_for(len(body) - 1))[0] == 0


@given(st.integers(0, 2000))
def test_a_request_in_pieces_is_left(cut: int) -> None:
    requests = [get("k"), put(entry("k", "v")), get("k")]
    length, responses = answer(MemoryCache(), b"".join(requests)[:cut])
    answered = len(split(responses))
    assert length == sum(map(len, requests[:answered])) <= cut
    assert answered == len(requests) or length + len(requests[answered]) > cut


# Where memory ends


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_each_allocation_fails_once() -> None:
    """Each request is answered as usual, or left to Python; nothing is half done."""
    testcapi = pytest.importorskip("_testcapi", reason="this Python comes without its test modules")
    # Not with orjson, which crashes if an allocation fails.
    text = b'"tags":["t","u"],"ttl_ms":5000'
    readers = ({text: StoreOptions([b"t", b"u"], 5000)}.get,) * 2
    body = b'{"key":"new","value":"a \\"value\\"",%b}' % text
    data = get("k") + put(body) + get("new")
    whole = plain(b'{"value":"v"}') + plain(b'{"ok":true,"ttl_ms":5000}')
    whole += plain(b'{"value":"a \\"value\\""}')
    failures = 0
    gc.disable()
    for number in range(1, 200):
        cache, heads = MemoryCache(), heads_for()
        cache.put(b"k", b"v", [b"t"], 5000)
        arguments = HTTP, *readers, data, time.monotonic(), ROOM, heads
        testcapi.set_nomemory(number, number + 1)
        try:
            length, _, responses = cache.plain.answer(*arguments)
        except MemoryError:
            length, responses = -1, b""
        finally:
            testcapi.remove_mem_hooks()
        assert whole.startswith(responses)
        stored = cache.peek(b"new")
        if length >= 0:
            assert (stored is not None) == (len(split(responses)) > 1)
        if responses == whole:
            if failures:
                break
        else:
            failures += 1
        assert cache.plain.answer(*arguments)[2] == whole
        stored = cache.peek(b"new")
        assert stored is not None
        assert (stored.value, stored.tags) == (b'a "value"', (b"t", b"u"))
    gc.enable()
    assert failures
