"""The pump and its channels: where memory ends, and where one connection closes another."""

from __future__ import annotations

import gc
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tagcache import native
from tagcache.engine.memory import MemoryCache
from tagcache.server.commands.cache import plain_options

pytestmark = [
    pytest.mark.skipif(native.core is None, reason="the native core is not in use"),
    # A channel has nobody to raise to.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Owner:
    """Records the calls of a channel, and closes it as a transport does."""

    def __init__(self, pump: Any) -> None:
        self.sock, self.peer = socket.socketpair()
        self.sock.setblocking(False)
        self.peer.setblocking(False)
        self.received: list[bytes] = []
        self.calls: list[object] = []
        self.on_data: Callable[[bytes], object] = self.received.append
        self.channel = pump.add(self.sock.fileno(), self, lambda data: self.on_data(data))

    def full(self) -> None:
        self.calls.append("full")

    def drained(self) -> None:
        self.calls.append("drained")

    def read_ended(self) -> None:
        self.calls.append("read ended")

    def lost(self, error: int) -> None:
        self.calls.append(error)
        self.close()

    def slow(self, seconds: float, requests: int, verb: int) -> None:
        assert seconds > 0
        self.calls.append(("slow", requests, verb))

    def close(self) -> None:
        self.channel.close()
        self.sock.close()

    def replies(self) -> bytes:
        data = b""
        while True:
            try:
                more = self.peer.recv(1 << 20)
            except BlockingIOError:
                return data
            if not more:
                return data
            data += more


@pytest.fixture
def cache() -> MemoryCache:
    cache = MemoryCache()
    cache.put(b"k", b"value", [b"t"])
    cache.put(b"large", b"x" * 200_000, [b"t"])
    return cache


def turns(pump: Any, count: int = 5) -> None:
    for _ in range(count):
        pump.run(0.0)


def test_each_allocation_fails_once(pump: Any, cache: MemoryCache) -> None:
    """Each request is answered in order, or the connection is lost; others go on."""
    testcapi = pytest.importorskip("_testcapi", reason="this Python comes without its test modules")
    other = Owner(pump)
    other.channel.answer(cache.plain, 0, plain_options, plain_options)
    large = b"VALUE\t" + b"x" * 200_000 + b"\n"
    expected = {
        b"GET\tk\n": b"VALUE\tvalue\n",
        b"PUT\tp\t5000\tt,u\tv\n": b"OK\n",
        b"TOUCH\tp\t6000\n": b"TOUCHED\n",
        b"GET\tnone\n": b"NF\n",
        b"GET\tlarge\n": large,
        b"PING\n": b"for Python",
    }
    request = b"".join(expected)
    replies_to = {b"": b""}
    for each, reply in expected.items():
        replies_to[list(replies_to)[-1] + each] = list(replies_to.values())[-1] + reply
    undisturbed = failures = 0
    gc.disable()
    # At first, Python stores: the options of the store are new to the native core.
    for number in (*range(1, 20), *range(300)):
        owner = Owner(pump)
        owner.channel.answer(cache.plain, 0, plain_options, plain_options)
        owner.peer.send(request)
        testcapi.set_nomemory(number, number + 1)
        try:
            pump.run(0.0)
        except MemoryError:
            failures += 1
        finally:
            testcapi.remove_mem_hooks()
        turns(pump)
        replies = owner.replies()
        if 5 in owner.calls:
            failures += 1
            assert list(replies_to.values())[-1].startswith(replies)
        else:
            left = b"".join(owner.received)
            assert request.endswith(left)
            assert replies == replies_to[request.removesuffix(left)]
            undisturbed = undisturbed + 1 if left == b"PING\n" else 0
        other.peer.send(b"GET\tk\n")
        turns(pump, 1)
        assert other.replies() == b"VALUE\tvalue\n"
        owner.close()
        owner.peer.close()
        if undisturbed > 30 and failures:
            break
    gc.enable()
    assert failures
    assert undisturbed


def test_a_connection_may_close_another_whose_event_is_still_to_come(pump: Any) -> None:
    owners = [Owner(pump) for _ in range(10)]

    def close_all(data: bytes) -> None:
        for owner in owners:
            owner.close()

    for owner in owners:
        owner.on_data = close_all
        owner.peer.send(b"x")
    turns(pump)
    assert [owner.received for owner in owners] == [[]] * 10
    assert all(owner.channel.unsent == 0 for owner in owners)
    owners[0].channel.write(b"ignored")
    owners[0].channel.resume()
    owners[0].channel.tell_drained()
    owners[0].channel.close()


def test_many_sockets_with_large_chunks_are_answered_in_one_turn(
    pump: Any, cache: MemoryCache
) -> None:
    """More sockets, and more bytes, than are read before the first reply."""
    owners = [Owner(pump) for _ in range(40)]
    large = b"y" * 30_000
    for number, owner in enumerate(owners):
        owner.channel.answer(cache.plain, 0, plain_options, plain_options)
        owner.peer.send(b"PUT\tk%d\t-\tt\t%d%s\nGET\tk%d\n" % (number, number, large, number))
    pump.run(0.0)
    for number, owner in enumerate(owners):
        assert owner.replies() == b"OK\nVALUE\t%d%s\n" % (number, large)
        assert owner.received == []


def test_other_connections_may_change_while_their_requests_wait(
    pump: Any, cache: MemoryCache
) -> None:
    """The first of several that are read together closes one, and lets another read RESP."""
    first, closed, changed, silent, same = owners = [Owner(pump) for _ in range(5)]
    for owner in owners:
        owner.channel.answer(cache.plain, 0, plain_options, plain_options)
        owner.peer.send(b"GET\tk\n")

    def interfere(data: bytes) -> None:
        first.received.append(data)
        closed.close()
        changed.channel.answer(cache.plain, 1, plain_options, plain_options)
        silent.channel.answer_nothing()

    first.on_data = interfere
    first.peer.send(b"PING\n")
    pump.run(0.0)
    assert first.replies() == same.replies() == b"VALUE\tvalue\n"
    assert first.received == [b"PING\n"]
    assert closed.replies() == changed.replies() == silent.replies() == b""
    assert closed.received == []
    assert changed.received == silent.received == [b"GET\tk\n"]


def test_an_owner_that_raises_loses_its_connection_only(pump: Any) -> None:
    bad, good = Owner(pump), Owner(pump)

    def fail(data: bytes) -> None:
        raise ValueError

    bad.on_data = fail
    for owner in (bad, good):
        owner.peer.send(b"data")
    turns(pump)
    assert bad.calls == [5]
    assert good.received == [b"data"]


def test_a_slow_reader_is_told_of(pump: Any) -> None:
    owner = Owner(pump)
    owner.channel.write(b"x" * 5_000_000)
    assert owner.calls == ["full"]
    assert owner.channel.unsent > 1_000_000
    size = 0
    while size < 5_000_000:
        turns(pump, 1)
        size += len(owner.replies())
    turns(pump)
    assert owner.calls == ["full", "drained"]
    assert owner.channel.unsent == 0


def test_a_look_up_waits_behind_unsent_replies(pump: Any, cache: MemoryCache) -> None:
    owner = Owner(pump)
    owner.channel.answer(cache.plain, 0, plain_options, plain_options)
    owner.channel.write(b"x" * 1_000_000)
    owner.peer.send(b"GET\tk\n")
    turns(pump)
    assert owner.received == [b"GET\tk\n"]


def test_what_arrived_before_both_directions_ended_is_read(pump: Any) -> None:
    owner = Owner(pump)
    owner.channel.pause()
    owner.peer.send(b"last words")
    owner.peer.close()
    owner.sock.shutdown(socket.SHUT_WR)
    turns(pump)
    assert owner.received == owner.calls == []
    owner.channel.resume()
    turns(pump)
    assert owner.received == [b"last words"]
    assert "read ended" in owner.calls


def test_a_wait_ends_when_the_others_have_events() -> None:
    core: Any = native.core
    one, another = socket.socketpair()
    with select.epoll() as others, one, another:
        pump = core.Pump(others.fileno())
        others.register(one.fileno(), select.EPOLLIN)
        assert pump.run(0.0) is False
        assert pump.run(0.01) is False
        another.send(b"x")
        assert pump.run(-1.0) is True
    with pytest.raises(OSError, match="Bad file descriptor"):
        core.Pump(-1)


def test_an_owner_may_close_when_it_is_told_that_much_is_unsent(
    pump: Any, cache: MemoryCache
) -> None:
    owner = Owner(pump)
    owner.full = owner.close  # type: ignore[method-assign]
    owner.channel.answer(cache.plain, 0, plain_options, plain_options)
    pump.take_durations(10)
    while owner.sock.fileno() >= 0:
        owner.peer.send(b"GET\tlarge\n")
        turns(pump, 1)
    turns(pump)
    assert owner.received == []


def test_durations_are_kept_for_a_while(pump: Any, cache: MemoryCache) -> None:
    owner = Owner(pump)
    owner.channel.answer(cache.plain, 0, plain_options, plain_options, (b"GET", b"PUT"))
    assert pump.take_durations(3) == []
    requests = b"GET\tk\nPUT\tk\t-\t-\tv\n", b"GET\tk\n", b"PUT\tk\t-\t-\tv\n", b"GET\tk\nGET\tk\n"
    for request in (b"PUT\tk\t-\t-\tv\n", *requests, b"GET\tk\n"):
        owner.peer.send(request)
        turns(pump, 1)
    durations = pump.take_durations(1000)
    # Only of requests that are all of one kind.
    assert [verb for verb, _ in durations] == [b"PUT", b"GET", b"PUT"]
    assert all(0 < seconds < 60 for _, seconds in durations)
    assert pump.take_durations(1) == []
    # Without their names, and for a verb that has none, nothing is measured.
    for verbs in ((), ((b"GET",),)):
        owner.channel.answer(cache.plain, 0, plain_options, plain_options, *verbs)
        owner.peer.send(b"PUT\tk\t-\t-\tv\n")
        turns(pump, 1)
    assert pump.take_durations(1) == []


def test_counts_are_taken(pump: Any, cache: MemoryCache) -> None:
    owner = Owner(pump)
    owner.channel.answer(cache.plain, 0, plain_options, plain_options)
    for _ in range(5):
        owner.peer.send(b"GET\tk\n")
        turns(pump, 1)
    assert owner.channel.take_counts()[:4] == ((5, *(0,) * 15), 0, 30, 60)
    assert owner.channel.take_counts()[:4] == ((0,) * 16, 0, 0, 0)


def test_slow_stores_are_told_of(pump: Any, cache: MemoryCache) -> None:
    owner = Owner(pump)
    owner.channel.answer(cache.plain, 0, plain_options, plain_options)
    request = b"GET\tk\nPUT\tnew\t-\t-\tv\n"
    owner.peer.send(request)
    turns(pump)
    assert owner.calls == []
    pump.slow_seconds = 1e-9
    owner.peer.send(request)
    turns(pump)
    assert owner.calls == [("slow", 2, 1)]
    assert owner.channel.take_counts()[:2] == ((2, 2, *(0,) * 14), 1)
    assert owner.replies() == b"VALUE\tvalue\nOK\n" * 2


def test_an_abandoned_channel_is_freed(pump: Any, cache: MemoryCache) -> None:
    owner = Owner(pump)
    owner.channel.answer(cache.plain, 2, plain_options, plain_options)
    with pytest.raises(ValueError, match="there is no such dialect"):
        owner.channel.answer(cache.plain, 3, plain_options, plain_options)
    owner.close()
    del owner
    del pump
    gc.collect()
