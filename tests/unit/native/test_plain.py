"""Native replies are what Python would reply, and whatever is unusual is left to Python."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcache import native
from tagcache.engine.memory import MemoryCache
from tagcache.model.fetched import hit
from tagcache.model.limits import Limits
from tagcache.native import Dialect
from tagcache.server.commands import cache as commands
from tagcache.server.commands.resp import strings, tags
from tagcache.wire import line, resp
from tests.helpers import done

pytestmark = pytest.mark.skipif(native.core is None, reason="the native core is not in use")

ROOM = 10_000
VALUES = {
    b"plain": b"value",
    b"": b"the empty key",
    b"empty": b"",
    b"long": b"x" * 5000,
    b"zeros": bytes(300),
    b"two\nlines": b"v",
    b"lines": b"two\nlines",
    b"k" * 600: b"a long key",
}


def filled() -> tuple[MemoryCache, list[float]]:
    now = [100.0]
    cache = MemoryCache(Limits(max_key_length=1024), monotonic=lambda: now[0])
    for key, value in VALUES.items():
        cache.put(key, value, [b"all"], 60_000)
    cache.put(b"short", b"v", [], 1000)
    cache.put(b"dropped", b"v", [b"gone"])
    done(cache.invalidate_tag(b"gone"))
    now[0] += 2
    return cache, now


def asked(dialect: Dialect, keys: Iterable[bytes]) -> bytes:
    if dialect is Dialect.LINE:
        return b"".join(b"GET\t" + key + b"\n" for key in keys)
    return b"".join(resp.request(b"GET", key) for key in keys)


def reply(dialect: Dialect, value: bytes | None) -> bytes:
    if dialect is Dialect.LINE:
        return line.NOT_FOUND if value is None else line.value(value)
    return resp.null(dialect.value + 1) if value is None else resp.bulk(value)


def answer(
    cache: MemoryCache, dialect: Dialect, chunk: bytes, room: int = ROOM
) -> tuple[int, int, bytes]:
    readers = READERS[dialect]
    length, counts, replies = cache.plain.answer(dialect.value, *readers, chunk, 102.0, room)
    return length, sum(counts), replies


READERS = {
    Dialect.LINE: (commands.plain_options, commands.plain_options),
    Dialect.RESP2: (strings.plain_options, tags.plain_tag_options),
    Dialect.RESP3: (strings.plain_options, tags.plain_tag_options),
}
FOR_PYTHON = {b"short", b"dropped"}
KEYS = st.sampled_from([*VALUES, *FOR_PYTHON, b"missing"]) | st.binary(max_size=5)


@given(dialect=st.sampled_from(Dialect), keys=st.lists(KEYS, max_size=20), cut=st.integers(0, 2000))
def test_a_chunk_is_answered_up_to_what_is_unusual(
    dialect: Dialect, keys: list[bytes], cut: int
) -> None:
    cache, _ = filled()
    if dialect is Dialect.LINE:
        # These end the line, or begin another field.
        keys = [key for key in keys if not set(b"\t\r\n") & set(key)]
    chunk = asked(dialect, keys)[: cut or None]
    length, count, replies = answer(cache, dialect, chunk)
    twin, _ = filled()
    expected = [reply(dialect, twin.get(key)) for key in keys[:count]]
    assert replies == b"".join(expected)
    assert chunk[:length] == asked(dialect, keys[:count])
    assert not FOR_PYTHON.intersection(keys[:count])
    assert cache.counters() == twin.counters()
    for key in VALUES:
        assert cache.peek(key).visited == twin.peek(key).visited  # type: ignore[union-attr]
    if count < len(keys):
        # There is a reason why it ends here.
        key = keys[count]
        whole = len(chunk) >= length + len(asked(dialect, [key]))
        plain = key not in FOR_PYTHON and len(replies) + len(VALUES.get(key, b"")) + 32 <= ROOM
        if dialect is Dialect.LINE:
            plain = plain and b"\n" not in VALUES.get(key, b"")
        assert not (whole and plain)


@given(dialect=st.sampled_from(Dialect), chunk=st.binary(max_size=60))
def test_any_bytes_are_answered_or_left(dialect: Dialect, chunk: bytes) -> None:
    cache, _ = filled()
    start = asked(dialect, [b"plain"])
    for some in (chunk, start + chunk, start[:-3] + chunk):
        length, count, replies = answer(cache, dialect, some)
        assert 0 <= length <= len(some)
        assert (count == 0) == (length == 0) == (replies == b"")


@pytest.mark.parametrize(
    "chunk",
    [
        b"*2\r\n$3\r\nget\r\n$5\r\nplain\r\n",
        b"*2\r\n$3\r\nGET\r\n$05\r\nplain\r\n",
        b"*2\r\n$3\r\nGET\r\n$-1\r\n",
        b"*2\r\n$3\r\nGET\r\n$\r\n",
        b"*2\r\n$3\r\nGET\r\n$99999\r\nplain\r\n",
        b"*2\r\n$3\r\nGET\r\n$5\r\nplain\n\n",
        b"*2\r\n$3\r\nGET\r\n$4\r\nplain\r\n",
        b"*3\r\n$3\r\nGET\r\n$5\r\nplain\r\n$1\r\na\r\n",
        b"*2\r\n$3\r\nttl\r\n$5\r\nplain\r\n",
        resp.request(b"TTL", b"plain", b"plain"),
        resp.request(b"EXISTS", b"plain", b"plain"),
        resp.request(b"TOUCH"),
        resp.request(b"EXPIRE", b"plain"),
        *(resp.request(b"EXPIRE", b"plain", each) for each in (b"0", b"-1", b"", b"01", b"1e3")),
        resp.request(b"EXPIRE", b"plain", b"10000000001"),
        resp.request(b"PEXPIRE", b"plain", b"10000000000001"),
        resp.request(b"PEXPIRE", b"plain", b"9" * 19),
        resp.request(b"EXPIRE", b"plain", b"10", b"NX"),
        b"*3\r\n$3\r\nDEL\r\n$5\r\nplain\r\n$1\r\na\r\n",
        b"*1\r\n$4\r\nINCR\r\n",
        b"*3\r\n$4\r\nINCR\r\n$5\r\nplain\r\n$1\r\n1\r\n",
        b"*3\r\n$6\r\nINCRBY\r\n$5\r\nplain\r\n$0\r\n\r\n",
        resp.request(b"TAG.FETCH", b"plain"),
        resp.request(b"TAG.FETCH", b"plain", b"LEASE"),
        resp.request(b"TAG.FETCH", b"plain", b"lease", b"1000"),
        resp.request(b"TAG.FETCH", b"plain", b"WAIT", b"1000"),
        resp.request(b"TAG.FETCH", b"plain", b"LEASE", b"1000", b"TAGS"),
        resp.request(b"TAG.FETCH", b"plain", b"LEASE", b"1000", b"LEASE", b"1000"),
        b"*0\r\n",
        b"GET\tplain\n",
    ],
)
def test_other_requests_are_left(chunk: bytes) -> None:
    cache, _ = filled()
    assert answer(cache, Dialect.RESP2, chunk) == (0, 0, b"")


@pytest.mark.parametrize(
    "chunk",
    [
        *(b"get\tplain\n", b"GET\tplain\r\n", b"GET\ta\tb\n", b"GET plain\n", b"DEL\ta\tb\n"),
        *(b"INCR\tplain\n", b"INCR\tn\t\n", b"INCR\tn\t1\t-\n", b"incr\tn\n", b"PUT\tn\t1\n"),
        *(b"TOUCH\tplain\n", b"TOUCH\tplain\t\n", b"TOUCH\tplain\t-\n", b"TOUCH\tplain\t0\n"),
        *(b"TOUCH\tplain\t1\t1\n", b"TOUCH\t\t1\n", b"TOUCH\tplain\t10000000000001\n"),
        *(b"FETCH\tplain\n", b"FETCH\tplain\t\n", b"FETCH\tplain\t1\t\n"),
        *(b"fetch\tplain\t1\n", b"FETCH\tplain\t1\t1\t1\n"),
    ],
)
def test_other_lines_are_left(chunk: bytes) -> None:
    cache, _ = filled()
    assert answer(cache, Dialect.LINE, chunk) == (0, 0, b"")


@given(keys=st.lists(KEYS, min_size=1, max_size=20), version=st.sampled_from([2, 3]))
def test_many_keys_are_answered_together_or_left(keys: list[bytes], version: int) -> None:
    cache, _ = filled()
    twin, _ = filled()
    request = resp.request(b"MGET", *keys)
    length, count, replies = answer(cache, Dialect(version - 1), request)
    if FOR_PYTHON.intersection(keys) or len(replies) > ROOM:
        assert (length, count, replies) == (0, 0, b"")
        assert cache.counters() == twin.counters()
    elif count:
        values = twin.get_many(keys)
        assert length == len(request)
        assert replies == b"*%d\r\n" % len(keys) + resp.replies(values, version)
        assert cache.counters() == twin.counters()
    else:
        # There was no room for all.
        assert sum(len(VALUES.get(key, b"")) + 32 for key in keys) + 32 > ROOM
    for cut in range(1, len(request)):
        assert answer(cache, Dialect.RESP2, request[:cut]) == (0, 0, b"")


def fetching(dialect: Dialect, key: bytes, lease: bytes, wait: bytes | None) -> bytes:
    if dialect is Dialect.LINE:
        return b"\t".join((b"FETCH", key, lease, *([] if wait is None else [wait]))) + b"\n"
    waits = () if wait is None else (b"WAIT", wait)
    return resp.request(b"TAG.FETCH", key, b"LEASE", lease, *waits)


def fetched(dialect: Dialect, value: bytes) -> bytes:
    if dialect is Dialect.LINE:
        return line.fetched(hit(value))
    return resp.array([resp.bulk(b"HIT"), resp.bulk(value), resp.null(dialect.value + 1)])


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("wait", [None, b"0", b"600000"])
def test_a_fetch_that_is_a_hit_is_answered(dialect: Dialect, wait: bytes | None) -> None:
    for key, value in VALUES.items():
        if dialect is Dialect.LINE and b"\n" in key + value:
            continue
        cache, _ = filled()
        twin, _ = filled()
        request = fetching(dialect, key, b"3600000", wait)
        assert answer(cache, dialect, request) == (len(request), 1, fetched(dialect, value))
        twin.get(key)
        assert cache.counters() == twin.counters()
        entry = cache.peek(key)
        assert entry is not None
        assert entry.visited
        # The reply as a whole, or nothing.
        for room in (0, len(value), len(value) + 63):
            assert answer(cache, dialect, request, room) == (0, 0, b"")
        for cut in range(1, min(len(request), 100)):
            assert answer(cache, dialect, request[:cut]) == (0, 0, b"")


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize(
    ("key", "lease", "wait"),
    [
        *((key, b"1000", None) for key in (b"missing", b"short", b"dropped")),
        *((b"plain", lease, None) for lease in (b"", b"0", b"3600001", b"10000000", b"-1", b"1.5")),
        *((b"plain", b"1", wait) for wait in (b"600001", b"-1", b"x", b"0000000000", b"1 ")),
    ],
)
def test_any_other_fetch_is_left(
    dialect: Dialect, key: bytes, lease: bytes, wait: bytes | None
) -> None:
    cache, _ = filled()
    assert answer(cache, dialect, fetching(dialect, key, lease, wait)) == (0, 0, b"")
    assert cache.counters() == filled()[0].counters()


def test_a_value_that_a_line_cannot_hold_is_left_to_python() -> None:
    cache, _ = filled()
    assert answer(cache, Dialect.LINE, b"FETCH\tlines\t1000\n") == (0, 0, b"")


STORES = [
    (Dialect.LINE, b"PUT\tnew\t-\t-\tvalue\n", (b"value", (), None)),
    (Dialect.LINE, b"PUT\tnew\t500\ta,b,a\t\n", (b"", (b"a", b"b"), 500)),
    (Dialect.LINE, b"PUT\tplain\t\t\tone\ttwo\n", (b"one\ttwo", (), None)),
    (Dialect.RESP2, resp.request(b"SET", b"new", b"a\r\nb"), (b"a\r\nb", (), None)),
    (Dialect.RESP2, resp.request(b"SET", b"new", b"v", b"EX", b"7"), (b"v", (), 7000)),
    (Dialect.RESP3, resp.request(b"SET", b"plain", b"", b"px", b"7"), (b"", (), 7)),
    (
        Dialect.RESP2,
        resp.request(b"TAG.SET", b"new", b"v", b"PX", b"7", b"TAGS", b"2", b"a", b"b"),
        (b"v", (b"a", b"b"), 7),
    ),
]


@pytest.mark.parametrize(("dialect", "request_", "stored"), STORES)
def test_a_store_is_what_it_is_in_python(dialect: Dialect, request_: bytes, stored: Any) -> None:
    cache, _ = filled()
    for _ in range(2):
        reply = b"OK\n" if dialect is Dialect.LINE else b"+OK\r\n"
        assert answer(cache, dialect, request_) == (len(request_), 1, reply)
        entry = cache.peek(b"plain" if b"plain" in request_ else b"new")
        assert entry is not None
        assert (entry.value, entry.tags, entry.ttl_ms) == stored
    assert cache.counters().puts == len(VALUES) + 4
    assert done(cache.check()).faults == ()
    for cut in range(1, len(request_)):
        assert answer(cache, dialect, request_[:cut]) == (0, 0, b"")


@pytest.mark.parametrize(
    ("dialect", "request_"),
    [
        (Dialect.LINE, b"PUT\tk\tsoon\t-\tv\n"),
        (Dialect.LINE, b"PUT\tk\t-\tv\n"),
        (Dialect.LINE, b"PUT\tk\t-\t-\tv\r\n"),
        (Dialect.LINE, b"PUT\t" + b"k" * 1025 + b"\t-\t-\tv\n"),
        (Dialect.LINE, b"PUT\tk\t-\t" + b"t" * 300 + b"\tv\n"),
        (Dialect.RESP2, resp.request(b"SET", b"k")),
        (Dialect.RESP2, resp.request(b"SET", b"k", b"v", b"NX")),
        (Dialect.RESP2, resp.request(b"SET", b"k", b"v", b"KEEPTTL")),
        (Dialect.RESP2, resp.request(b"SET", b"k", b"v", b"EXAT", b"9999999999")),
        (Dialect.RESP2, resp.request(b"SET", b"k", b"v", b"EX", b"0")),
        (Dialect.RESP2, resp.request(b"SET", b"k", b"v", b"EX")),
        (Dialect.RESP2, resp.request(b"set", b"k", b"v")),
        (Dialect.RESP2, resp.request(b"TAG.SET", b"k", b"v")),
        (Dialect.RESP2, resp.request(b"TAG.SET", b"k", b"v", b"NX", b"TAGS", b"1", b"t")),
        (Dialect.RESP2, resp.request(b"TAG.SET", b"k", b"v", b"TAGS", b"2", b"t")),
        (Dialect.RESP2, resp.request(b"SET", b"k", b"v", *[b"PX", b"1"] * 30)),
    ],
)
def test_a_store_that_is_not_plain_or_refused_changes_nothing(
    dialect: Dialect, request_: bytes
) -> None:
    cache, _ = filled()
    assert answer(cache, dialect, request_) == (0, 0, b"")
    assert len(cache) == len(filled()[0])
    assert cache.counters().puts == filled()[0].counters().puts


def test_dead_entries_are_for_python() -> None:
    cache, _ = filled()
    for number in range(1000):
        cache.put(b"%d" % number, b"v", [b"many"])
    assert answer(cache, Dialect.LINE, b"GET\t7\n")[1] == 1
    done(cache.invalidate_tag(b"many"))
    assert cache.backlog
    for request in (b"GET\t7\n", b"INCR\t7\n", b"FETCH\t7\t1000\n"):
        assert answer(cache, Dialect.LINE, request) == (0, 0, b"")
    assert answer(cache, Dialect.RESP2, resp.request(b"MGET", b"plain", b"7")) == (0, 0, b"")
    assert answer(cache, Dialect.RESP2, resp.request(b"TTL", b"7"))[2] == b":-2\r\n"
    assert answer(cache, Dialect.LINE, b"PUT\t7\t-\t-\tnew\n")[2] == b"OK\n"
    assert answer(cache, Dialect.LINE, b"GET\t7\nGET\tplain\n")[1] == 2
    # It is not known which entries are in a table of another type.
    cache.store.dead.append({})  # type: ignore[arg-type]
    assert answer(cache, Dialect.LINE, b"GET\tplain\n") == (0, 0, b"")
    cache.store.dead.pop()
    for _ in cache.reclaim():
        pass
    assert answer(cache, Dialect.LINE, b"GET\t7\nGET\tplain\n")[1] == 2
    assert done(cache.check()).faults == ()


def test_after_a_flush_the_new_entries_are_found() -> None:
    cache, _ = filled()
    done(cache.flush())
    assert answer(cache, Dialect.LINE, b"GET\tplain\n") == (10, 1, b"NF\n")
    cache.put(b"plain", b"new")
    assert answer(cache, Dialect.LINE, b"GET\tplain\n") == (10, 1, b"VALUE\tnew\n")


def test_hits_are_sampled_for_the_activity_of_tags() -> None:
    cache, _ = filled()
    chunk = b"GET\tplain\n" * 500
    for _ in range(20):
        assert answer(cache, Dialect.LINE, chunk)[1] == 500
        cache.get(b"plain")
    assert cache.counters().hits == 20 * 501
    # The last few hits are not recorded yet.
    assert 20 * 501 - 256 < cache.activity(b"all").hits <= 20 * 501


def test_each_use_is_noted_for_lru() -> None:
    cache = MemoryCache(policy="lru")
    for key in (b"a", b"b", b"c"):
        cache.put(key, key)
    lru: Any = cache.store.lru
    for request, coldest in (
        (b"GET\ta\n", b"b"),
        (b"FETCH\tb\t1000\n", b"c"),
        (b"PUT\tc\t-\t-\tv\n", b"a"),
        (b"PUT\td\t-\t-\tv\n", b"a"),
    ):
        assert answer(cache, Dialect.LINE, request)[1] == 1
        assert lru.end.hotter.key == coldest
    assert answer(cache, Dialect.RESP2, resp.request(b"MGET", b"b", b"a"))[1] == 1
    assert lru.end.hotter.key == b"c"
    assert done(cache.check()).faults == ()


def test_a_cache_that_is_dropped_is_freed() -> None:
    entry: Any = filled()[0].peek(b"plain")
    gc.collect()
    # It has left the ring of all others.
    assert entry.older is entry


def test_wrong_parts_are_refused() -> None:
    core: Any = native.core
    tables = [core.Entries() for _ in range(4)]
    fields = core.StoreFields()
    calls = print, print, print, print
    for parts in (
        ((), [], {}, None),
        (tables, {}, {}, None),
        (tables, [], [], None),
        (tables, [], {}, object()),
    ):
        with pytest.raises(TypeError):
            core.PlainRequests(fields, *parts, *calls)
    with pytest.raises(TypeError):
        core.PlainRequests(object(), tables, [], {}, None, *calls)
    for count in (0, 3):
        with pytest.raises(ValueError, match="power of two"):
            core.PlainRequests(fields, tables[:count], [], {}, None, *calls)
    strangers = core.PlainRequests(fields, [{}, {}], [], {}, None, *calls)
    assert strangers.answer(0, print, print, b"GET\tk\n", 1.0, 100) == (0, (0,) * 16, b"")
