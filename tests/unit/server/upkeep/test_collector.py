"""The garbage collector does not traverse entries, and nothing depends on it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from sys import getrefcount

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tagcache.engine.memory import MemoryCache
from tagcache.server.upkeep.collector import CHECK_SECONDS, FEW_ENTRIES, Collector
from tests.helpers import done, settings_with
from tests.unit.server.http.test_protocol import Door
from tests.unit.server.line.test_protocol import Server


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generation of each collection that was started."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_full_collections_are_made_only_while_there_are_few_entries(
    collections: list[int],
) -> None:
    clock = Clock()
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
    collector = Collector(cache, clock)
    before = gc.get_threshold()
    collector.startService()
    clock.advance(0)
    try:
        assert gc.get_freeze_count() > 0
        collections.clear()
        clock.advance(CHECK_SECONDS)
        assert 2 in collections
        for number in range(FEW_ENTRIES + 1):
            cache.put(b"%d" % number, b"v", [b"t"])
        collections.clear()
        held = [[] for _ in range(200_000)]  # type: ignore[var-annotated]
        clock.advance(CHECK_SECONDS)
        assert 1 in collections
        assert 2 not in collections
        assert held
    finally:
        collector.stopService()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
    assert clock.getDelayedCalls() == []


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_connection_that_is_lost_leaves_nothing_behind(no_collector: None) -> None:
    for server in (Server(settings_with()), Door()):
        protocol, transport = server.connect()
        protocol.dataReceived(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        gone = weakref.ref(protocol)
        transport.protocol = None  # as Twisted's transports do
        protocol.connectionLost(Failure(ConnectionDone()))
        del protocol
        assert gone() is None


def test_entries_that_are_removed_leave_nothing_behind(no_collector: None) -> None:
    clock = Clock()
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)

    # Each entry refers to its value; the native ones are unknown to the collector.
    value = bytes(bytearray(b"value"))
    others = getrefcount(value)

    def entries() -> int:
        return getrefcount(value) - others

    for number in range(2000):
        cache.put(b"%d" % number, value, [b"t", b"%d" % number], 1000)
    cache.delete(b"0")
    done(cache.invalidate_tag(b"1"))
    assert entries() == 1998
    done(cache.invalidate_tag(b"t"))
    for _ in cache.reclaim():
        pass
    assert entries() == 0
    for number in range(2000):
        cache.put(b"%d" % number, value, [b"t"], 1000)
    done(cache.flush())
    assert entries() == 2000
    for _ in cache.reclaim():
        pass
    assert entries() == 0
    cache.put(b"short", value, [b"t"], 1000)
    clock.advance(2)
    assert cache.totals().items == entries() == 0
