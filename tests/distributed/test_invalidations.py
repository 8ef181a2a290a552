"""Invalidations in all partitions of a cluster: what they remove, what stays, what is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from tagcache.errors import BackendUnavailable
from tagcache.redis import scripts
from tagcache.redis.partitions import Partitions
from tests.distributed.engines import Remote
from tests.distributed.redis_server import RedisCluster
from tests.integration.running import RunningServer, eventually

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
KEYS = [b"k%d" % number for number in range(24)]


@pytest.fixture
def empty_cluster(cluster: RedisCluster) -> RedisCluster:
    for node in cluster.nodes:
        node.cli("flushall")
    return cluster


@pytest.fixture
def engine(empty_cluster: RedisCluster) -> Iterator[Remote]:
    remote = Remote(empty_cluster.url)
    yield remote
    remote.close()


def in_one_partition(engine: Remote, number: int) -> list[bytes]:
    root = engine.partitions.root(b"k0")
    keys = [b"k%d" % n for n in range(200 * number)]
    return [key for key in keys if engine.partitions.root(key) == root][:number]


@pytest.mark.slow
@pytest.mark.parametrize("verb", [b"INV_TAG\tt", b"INV_TAGS_ANY\tt,x", b"INV_TAGS_ALL\tt,u"])
def test_after_the_answer_nobody_finds_what_was_there_before(
    verb: bytes, empty_cluster: RedisCluster, front: Callable[..., RunningServer]
) -> None:
    one, two = front(empty_cluster.url), front(empty_cluster.url)
    old: list[bytes] = []
    answered = [0]
    over = threading.Event()

    def read() -> None:
        with two.connect() as reader:
            while not over.is_set():
                for key in KEYS:
                    before = answered[0]
                    found = reader.ask(b"GET\t" + key)
                    if found != b"NF\n" and int(found.split(b"\t")[1]) < before:
                        old.append(found)

    reading = threading.Thread(target=read)
    reading.start()
    with one.connect() as writer:
        for number in range(60):
            for key in KEYS:
                assert writer.ask(b"PUT\t%b\t-\tt,u\t%d" % (key, number)) == b"OK\n"
            assert writer.ask(verb).endswith(b"\t24\n")
            answered[0] = number + 1
    over.set()
    reading.join()
    assert old == []


def test_a_partition_that_cannot_be_reached_is_told_and_the_others_are_done(
    engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in KEYS:
        engine.put(key, b"v", [b"t"])
    call = engine.partitions.call
    lost = engine.partitions.root(KEYS[0])

    def cut(root: str, script: scripts.Script, *arguments: object) -> object:
        if root == lost:
            return fail(BackendUnavailable("cut"))
        return call(root, script, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engine.partitions, "call", cut)
        with pytest.raises(BackendUnavailable):
            engine.invalidate_tag(b"t")
    there = [key for key in KEYS if engine.partitions.root(key) == lost]
    left = [b"v" if key in there else None for key in KEYS]
    eventually(lambda: engine.get_many(KEYS) == left)
    assert engine.invalidate_tag(b"t") == len(there)
    assert engine.get_many(KEYS) == [None] * 24


def test_many_invalidations_at_the_same_time_count_each_entry_once(engine: Remote) -> None:
    for key in KEYS:
        engine.put(key, b"v", [b"t", b"t" + key])
    works = [engine.cache.invalidate_any([b"t"]) for _ in range(20)]
    works += [engine.cache.invalidate_any([b"t" + key for key in KEYS[:12]]) for _ in range(5)]
    assert sum(engine.all(works)) == 24
    assert engine.check().faults == ()
    assert engine.totals().backlog == 0


@pytest.mark.parametrize("at_once", [3, 100])
@pytest.mark.parametrize(("kind", "tags"), [("any", [b"t"]), ("all", [b"t", b"u"])])
def test_what_is_stored_after_it_began_stays(
    kind: str, tags: list[bytes], at_once: int, engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Partitions, "at_once", at_once)
    # Many entries, whose index becomes a dead set, or is looked through in pages.
    keys = in_one_partition(engine, 20)
    for key in keys:
        engine.put(key, b"old", [b"t", b"u"])
    stored: list[Deferred[Any]] = []
    later = engine.partitions.call_later

    def store_first(root: str, script: scripts.Script, *arguments: Any) -> Deferred[Any]:
        """Before the first page, another client stores one of the entries anew."""
        if not stored:
            stored.append(engine.cache.put(keys[0], b"new", [b"t", b"u"], 60_000))
            return stored[0].addCallback(lambda _: later(root, script, *arguments))
        return later(root, script, *arguments)

    monkeypatch.setattr(engine.partitions, "call_later", store_first)
    removed = engine.operation(f"invalidate_{kind}")(tags)
    # The one that was stored anew is replaced, not removed, where it was not dead yet.
    assert engine.run(removed) == (19 if kind == "all" and at_once == 3 else 20)
    if not stored:
        engine.put(keys[0], b"new", [b"t", b"u"], 60_000)
    assert engine.get_many(keys) == [b"new", *[None] * 19]
    engine.settle()
    assert engine.check().faults == ()
    assert engine.totals().items == 1
    assert sorted(engine.tags()) == [(tag, 1, len(keys[0]) + 3) for tag in (b"t", b"u")]
    assert engine.invalidate_tag(b"t") == 1
    assert engine.totals().bytes == 0
