"""Two servers go through the same random histories, one of them with native replies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagcache import native
from tagcache.native import Dialect
from tagcache.server.commands.cache import plain_options
from tagcache.server.commands.resp import strings, tags
from tagcache.wire import resp
from tests.helpers import done, newest, settings_with
from tests.unit.server.line.test_protocol import Server

pytestmark = pytest.mark.skipif(native.core is None, reason="the native core is not in use")

READERS = {
    Dialect.LINE: (plain_options, plain_options),
    Dialect.RESP2: (strings.plain_options, tags.plain_tag_options),
}
ROOM = 10_000
KEY = st.sampled_from([b"a", b"b", b"c"])
VALUE = st.sampled_from([b"", b"1", b"-20", b"v" * 30, b"w" * 2000, b"9" * 18])
MS = st.sampled_from([b"1", b"60", b"1000", b"60500", b"3600000", b"0", b"-", b"x", b"9" * 18])
TAGS = st.sampled_from([b"-", b"t", b"u", b"t,u", b"t" * 9])
STEP = st.sampled_from([b"1", b"-7", b"0", b"x"])


def line(verb: bytes, *fields: Any) -> st.SearchStrategy[tuple[Dialect, bytes]]:
    words = st.tuples(st.just(verb), *fields)
    return words.map(lambda each: (Dialect.LINE, b"\t".join(each) + b"\n"))


def array(*arguments: Any) -> st.SearchStrategy[tuple[Dialect, bytes]]:
    words = [st.just(each) if isinstance(each, bytes) else each for each in arguments]
    return st.tuples(*words).map(lambda each: (Dialect.RESP2, resp.request(*each)))


REQUESTS = st.one_of(
    *(line(verb, KEY) for verb in (b"GET", b"DEL", b"INCR", b"TOUCH", b"TTL")),
    line(b"PUT", KEY, MS, TAGS, VALUE),
    line(b"PUT", KEY, st.just(b"60500"), st.just(b"t,u"), VALUE),
    line(b"TOUCH", KEY, MS),
    line(b"DECR", KEY, STEP),
    line(b"INV_TAG", TAGS),
    *(array(verb, KEY) for verb in (b"GET", b"INCR", b"DEL")),
    *(array(verb, KEY) for verb in (b"TTL", b"PTTL", b"EXISTS", b"TOUCH")),
    *(array(verb, KEY, MS) for verb in (b"EXPIRE", b"PEXPIRE")),
    array(b"EXPIRE", KEY, MS, st.sampled_from([b"NX", b"GT", b"x"])),
    array(b"MGET", KEY, KEY),
    array(b"SET", KEY, VALUE),
    array(b"SET", KEY, VALUE, b"PX", MS),
    array(b"TAG.SET", KEY, VALUE, b"PX", MS, b"TAGS", b"1", TAGS),
    array(b"INCRBY", KEY, STEP),
)
# Whole milliseconds: Python's INCR rounds a deadline to them, and the native one keeps it.
SECONDS = st.sampled_from([0.0, 0.001, 0.06, 1.004, 59.0, 5000.0])
POLICY = st.sampled_from(["sieve", "lru", "noeviction"])
LIMITS = st.sampled_from(
    [
        {"max_memory": 900},
        {"max_memory": 5000},
        {"max_memory": 0, "max_tag_length": 5},
        {"max_tags_per_entry": 1, "max_value_length": 40},
        {"default_ttl_ms": 500},
    ]
)


class Side:
    """A server, and a client of it for each protocol."""

    def __init__(self, policy: str, is_native: bool) -> None:
        self.server = Server(settings_with(cache={"eviction_policy": policy}))
        self.cache = self.server.cache
        self.is_native = is_native
        self.clients = {dialect: self.server.connect() for dialect in READERS}
        self.answered = 0

    def ask(self, dialect: Dialect, request: bytes) -> bytes:
        replies = b""
        if self.is_native and self.cache.plain is not None:
            now = self.server.clock.seconds()
            length, counts, replies = self.cache.plain.answer(
                dialect.value, *READERS[dialect], request, now, ROOM
            )
            request = request[length:]
            self.answered += sum(counts)
        protocol, transport = self.clients[dialect]
        transport.clear()
        if request:
            protocol.dataReceived(request)
        self.server.clock.pump([0] * 3)
        return replies + transport.value()

    def state(self) -> list[object]:
        cache, store = self.cache, self.cache.store
        entries = [store.find(key) for key in (b"a", b"b", b"c")]
        hand: Any = store.sieve.hand
        return [
            [
                (each.value, each.tags, each.stored, round(each.ttl, 9), each.visited)
                for each in entries
                if each is not None
            ],
            newest(cache),
            used(cache) if store.lru is not None else getattr(hand, "key", None),
            cache.counters(),
            cache.totals(),
            cache.memory,
        ]


def used(cache: Any) -> list[bytes]:
    """The keys in the order of their last use."""
    place = cache.store.lru.end
    keys = []
    while (place := place.hotter) is not cache.store.lru.end:
        keys.append(place.key)
    return keys


@settings(max_examples=40, deadline=None)
@given(policy=POLICY, steps=st.lists(REQUESTS | SECONDS | LIMITS, min_size=1, max_size=40))
def test_the_same_history_has_the_same_replies_and_the_same_state(
    policy: str, steps: list[Any]
) -> None:
    follow(policy, steps)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(policy=POLICY, steps=st.lists(REQUESTS | SECONDS | LIMITS, min_size=1, max_size=60))
def test_more_histories(policy: str, steps: list[Any]) -> None:
    follow(policy, steps)


def follow(policy: str, steps: list[Any]) -> None:
    sides = Side(policy, True), Side(policy, False)
    for step in steps:
        if isinstance(step, float):
            for side in sides:
                side.server.clock.advance(step)
        elif isinstance(step, dict):
            for side in sides:
                side.cache.limits = replace(side.cache.limits, **step)
        else:
            replies = [side.ask(*step) for side in sides]
            assert replies[0] == replies[1], step
        assert sides[0].state() == sides[1].state(), step
    assert done(sides[0].cache.check()).faults == ()


@given(
    now=st.floats(0, 1e6),
    request=array(st.sampled_from([b"EXPIRE", b"PEXPIRE"]), st.just(b"a"), MS),
)
def test_a_deadline_is_rounded_as_in_python(now: float, request: tuple[Dialect, bytes]) -> None:
    sides = Side("sieve", True), Side("sieve", False)
    for side in sides:
        side.server.clock.advance(now)
        side.ask(Dialect.RESP2, resp.request(b"SET", b"a", b"1", b"PX", b"1000"))
        # The second time, the bucket is there.
        for _ in range(2):
            side.ask(*request)
    ours, others = (side.cache.peek(b"a") for side in sides)
    assert (ours and ours.expires) == (others and others.expires)
    assert sides[0].state() == sides[1].state()


def test_a_history_is_answered_natively() -> None:
    """What the twins above compare is not Python with itself."""
    side = Side("sieve", True)
    side.ask(Dialect.RESP2, resp.request(b"SET", b"a", b"1"))
    # The first one makes the bucket for its deadline.
    for key in (b"b", b"a"):
        side.ask(Dialect.RESP2, resp.request(b"SET", key, b"1"))
        before = side.answered
        assert side.ask(Dialect.RESP2, resp.request(b"EXPIRE", key, b"100")) == b":1\r\n"
    assert side.answered == before + 1
    for request, reply in (
        (resp.request(b"TTL", b"a"), b":100\r\n"),
        (resp.request(b"PTTL", b"a"), b":100000\r\n"),
        (resp.request(b"PEXPIRE", b"a", b"100001"), b":1\r\n"),
        (resp.request(b"PTTL", b"a"), b":100001\r\n"),
        (resp.request(b"PEXPIRE", b"none", b"1"), b":0\r\n"),
        (resp.request(b"TTL", b"none"), b":-2\r\n"),
        (resp.request(b"EXISTS", b"a"), b":1\r\n"),
        (resp.request(b"TOUCH", b"none"), b":0\r\n"),
    ):
        before = side.answered
        assert side.ask(Dialect.RESP2, request) == reply
        assert side.answered == before + 1
    for line_, reply in ((b"TOUCH\ta\t200000\n", b"TOUCHED\n"), (b"TOUCH\tnone\t1\n", b"NF\n")):
        before = side.answered
        assert side.ask(Dialect.LINE, line_) == reply
        assert side.answered == before + 1
    side.ask(Dialect.RESP2, resp.request(b"SET", b"c", b"1"))
    assert side.ask(Dialect.RESP2, resp.request(b"TTL", b"c")) == b":-1\r\n"
