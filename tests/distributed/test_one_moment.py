"""Invalidations in a cluster happen at one moment in all partitions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.defer import fail

from tagcache.errors import BackendUnavailable
from tagcache.redis import invalidation, scripts
from tagcache.redis.invalidation import Invalidations
from tagcache.redis.near import STALENESS_SECONDS
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


def begin(engine: Remote, kind: bytes, *tags: bytes, id: bytes = b"id") -> None:
    """Do as a server that dies in the middle of an invalidation."""
    engine.run(engine.partitions.call_everywhere(scripts.PREPARE, id, kind, *tags))


def commit(engine: Remote, id: bytes = b"id") -> None:
    engine.run(engine.partitions.call(engine.partitions.root(id), scripts.COMMIT, id, 60_000))


def in_one_partition(engine: Remote, number: int) -> list[bytes]:
    root = engine.partitions.root(b"k0")
    keys = [b"k%d" % n for n in range(200 * number)]
    return [key for key in keys if engine.partitions.root(key) == root][:number]


@pytest.mark.slow
@pytest.mark.parametrize("verb", [b"INV_TAG\tt", b"INV_TAGS_ANY\tt,x", b"INV_TAGS_ALL\tt,u"])
def test_once_one_entry_is_gone_no_other_is_found(
    verb: bytes, empty_cluster: RedisCluster, front: Callable[..., RunningServer]
) -> None:
    one, two = front(empty_cluster.url), front(empty_cluster.url)
    turns = threading.Barrier(2)
    rounds = 60
    seen: list[list[bool]] = []

    def read() -> None:
        with two.connect() as reader:
            for number in range(rounds):
                found = [True]
                turns.wait()
                while any(found[-len(KEYS) :]):
                    for key in KEYS[number % 24 :] + KEYS[: number % 24]:
                        found.append(reader.ask(b"GET\t" + key) != b"NF\n")
                seen.append(found)
                turns.wait()

    reading = threading.Thread(target=read)
    reading.start()
    with one.connect() as writer:
        for _ in range(rounds):
            for key in KEYS:
                assert writer.ask(b"PUT\t" + key + b"\t-\tt,u\tv") == b"OK\n"
            turns.wait()
            assert writer.ask(verb).endswith(b"\t24\n")
            turns.wait()
    reading.join()
    # Each time: found, found, ... not found, not found.
    assert all(found == sorted(found, reverse=True) for found in seen)
    # The invalidation often happened in the middle of the keys.
    assert sum(any(found[:24]) and not all(found[:25]) for found in seen) > 0


@pytest.mark.parametrize(("kind", "tags"), [(b"any", [b"t"]), (b"all", [b"t", b"u"])])
def test_what_was_begun_has_not_happened_and_then_has(
    kind: bytes, tags: list[bytes], engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in KEYS:
        engine.put(key, b"v", [b"t", b"u"])
    engine.put(b"other", b"v", [b"u"])
    begin(engine, kind, *tags)
    assert engine.get_many(KEYS) == [b"v"] * 24
    assert all(entry is not None for entry in engine.peek_many(KEYS))
    # Commands that change an entry treat it as gone already.
    assert engine.add(KEYS[0], b"new") is True
    commit(engine)
    assert engine.get_many(KEYS) == [b"new", *[None] * 23]
    assert [entry is not None for entry in engine.peek_many(KEYS)] == [True, *[False] * 23]
    assert engine.get(b"other") == b"v"
    assert engine.keys_by_tag(b"t") == []
    # Not before it is certain that its server is lost.
    engine.settle()
    assert engine.totals().items == 25
    monkeypatch.setattr(invalidation, "_STUCK_MS", -1)
    monkeypatch.setattr(Invalidations, "_forget_after_ms", lambda _: -1)
    engine.settle()
    assert engine.totals().items == 2
    found = engine.check()
    assert (found.entries, found.faults) == (2, ())
    engine.put(KEYS[1], b"again", tags)
    engine.settle()
    assert engine.get(KEYS[1]) == b"again"


def test_what_was_only_begun_is_carried_out_by_others(
    engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in KEYS:
        engine.put(key, b"v", [b"t"])
    for root in engine.partitions.roots[:20]:
        engine.run(engine.partitions.call(root, scripts.PREPARE, b"id", b"any", b"t"))
    monkeypatch.setattr(invalidation, "_STUCK_MS", -1)
    monkeypatch.setattr(Invalidations, "_forget_after_ms", lambda _: -1)
    engine.settle()
    assert engine.get_many(KEYS) == [None] * 24
    assert engine.totals().items == 0


def test_a_partition_that_cannot_be_reached_leaves_no_notes_elsewhere(
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
    noted = [
        engine.wait(engine.client.exists(f"{root}0:noted")) for root in engine.partitions.roots
    ]
    assert noted == [0] * 64
    assert engine.invalidate_tag(b"t") == len(there)


def test_many_invalidations_at_the_same_time_count_each_entry_once(engine: Remote) -> None:
    for key in KEYS:
        engine.put(key, b"v", [b"t", b"t" + key])
    works = [engine.cache.invalidate_any([b"t"]) for _ in range(20)]
    works += [engine.cache.invalidate_any([b"t" + key for key in KEYS[:12]]) for _ in range(5)]
    assert sum(engine.all(works)) == 24
    assert engine.check().faults == ()
    assert engine.totals().backlog == 0


@pytest.mark.parametrize("at_once", [3, 100])
@pytest.mark.parametrize(("kind", "tags"), [(b"any", [b"t"]), (b"all", [b"t", b"u"])])
def test_what_is_stored_after_it_began_stays(
    kind: bytes, tags: list[bytes], at_once: int, engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Partitions, "at_once", at_once)
    # Many entries, whose index becomes a dead set.
    keys = in_one_partition(engine, 20)
    for key in keys:
        engine.put(key, b"old", [b"t", b"u"])
    begin(engine, kind, *tags)
    engine.put(keys[0], b"new", [b"t", b"u"], 60_000)
    commit(engine)
    assert engine.add(keys[1], b"mine", [b"t", b"u"]) is True
    assert engine.get_many(keys) == [b"new", b"mine", *[None] * 18]
    other = Invalidations(engine.partitions, lambda: b"other")
    assert engine.run(other.resume(b"id", kind, tags))[0] == 20
    assert engine.get_many(keys) == [b"new", b"mine", *[None] * 18]
    assert engine.add(keys[1], b"again") is False
    assert sorted(engine.keys_by_tag(b"t")) == sorted(engine.keys_by_tag(b"u")) == sorted(keys[:2])
    engine.settle()
    assert engine.check().faults == ()
    assert engine.totals().items == 2
    assert sorted(engine.tags()) == [(tag, 2, len(keys[0] + keys[1]) + 7) for tag in (b"t", b"u")]
    assert engine.invalidate_tag(b"t") == 2
    assert engine.totals().bytes == 0


@pytest.mark.parametrize("at_once", [3, 100])
@pytest.mark.parametrize(("kind", "tags"), [(b"any", [b"t"]), (b"all", [b"t", b"u"])])
def test_an_earlier_one_that_ends_removes_nothing_of_a_later_one(
    kind: bytes, tags: list[bytes], at_once: int, engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Partitions, "at_once", at_once)
    keys = in_one_partition(engine, 20)
    for key in keys[:10]:
        engine.put(key, b"old", [b"t", b"u"])
    begin(engine, kind, *tags)
    # These come after the first, and are there until the second has happened.
    for key in keys[5:]:
        engine.put(key, b"new", [b"t", b"u", b"v"])
    begin(engine, b"any", b"v", id=b"later")
    commit(engine)
    other = Invalidations(engine.partitions, lambda: b"other")
    engine.run(other.resume(b"id", kind, tags))
    engine.settle()
    assert engine.get_many(keys) == [None] * 5 + [b"new"] * 15
    commit(engine, b"later")
    assert engine.get_many(keys) == [None] * 20
    assert engine.run(other.resume(b"later", b"any", [b"v"]))[0] == 15
    engine.settle()
    assert engine.check().faults == ()
    held = engine.totals()
    assert (held.items, held.bytes, held.backlog) == (0, 0, 0)
    assert held.counters.invalidations == 25


@pytest.mark.parametrize(("kind", "tags"), [(b"any", [b"t"]), (b"all", [b"t", b"u"])])
def test_what_was_missed_before_it_began_is_not_stored_while_it_is_under_way(
    kind: bytes, tags: list[bytes], engine: Remote
) -> None:
    """Two clients fill the same key: the first store makes the partition note the invalidation."""
    both = [b"t", b"u"]
    key, other = in_one_partition(engine, 2)
    # The sequence numbers of a partition begin with its first invalidation.
    engine.invalidate_tag(b"t")
    before = engine.run(engine.cache.get(key)).lease
    engine.run(engine.cache.put(key, b"first", both, None, before))
    begin(engine, kind, *tags)
    engine.run(engine.cache.put(key, b"second", both, None, before))
    # A client that looks it up from now on reads the changed source.
    lease = engine.run(engine.cache.get(other)).lease
    engine.run(engine.cache.put(other, b"fresh", both, None, lease))
    commit(engine)
    engine.run(Invalidations(engine.partitions, lambda: b"mine").resume(b"id", kind, tags))
    assert engine.get_many([key, other]) == [None, b"fresh"]
    assert engine.check().faults == ()


@pytest.mark.parametrize(("kind", "tags"), [(b"any", [b"t"]), (b"all", [b"t", b"u"])])
def test_nobody_finds_near_what_a_server_that_died_had_invalidated(
    kind: bytes, tags: list[bytes], engine: Remote
) -> None:
    for key in KEYS:
        engine.put(key, b"v", [b"t", b"u"])
    other = Remote(engine.url, near=True)
    try:
        assert other.get_many(KEYS) == [b"v"] * 24
        assert all(other.cache.get_near(key) == b"v" for key in KEYS)
        begin(engine, kind, *tags)
        # It has not happened yet, but entries that it concerns are not kept near.
        assert other.get_many(KEYS) == [b"v"] * 24
        commit(engine)
        other.wait(asyncio.sleep(STALENESS_SECONDS))
        assert [other.get(key) for key in KEYS] == [None] * 24
    finally:
        other.close()
