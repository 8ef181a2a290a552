"""Random sequences of commands: the Redis engine behaves like the memory engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from tagcache.errors import CommandError
from tagcache.redis import cache as remote_cache
from tagcache.redis.partitions import Partitions
from tests.distributed.engines import Memory, Remote

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
HOUR = 3_600_000
ODD = [b"", b"{", b"}:", b"{all}:", b"a:b", b"0", b"\x00", b"\xff\xfe", b"meta", b"+inf", b"-"]
KEYS = [*ODD, b"{0}:0:meta", b"all", *(b"k%d" % number for number in range(16))]
TAGS = [*ODD[1:], b"any", b"1", b"t", b"u"]
VALUES = [b"", b"v", b"7", b"-0", b"+007", b" 12\n", b"-9223372036854775808", b"1_0", b"\x00" * 99]


@pytest.fixture(params=["redis", "partitions", "cluster"])
def remote(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    # Small limits, so that few entries reach them.
    monkeypatch.setattr(Partitions, "at_once", 3)
    monkeypatch.setattr(Partitions, "page", 4)
    monkeypatch.setattr(Partitions, "keys_at_once", 2)
    monkeypatch.setattr(remote_cache, "_TAGS_AT_ONCE", 2)
    if request.param == "cluster":
        nodes = request.getfixturevalue("cluster")
        for node in nodes.nodes:
            node.cli("flushall")
        engine = Remote(nodes.url, partitions=8)
    else:
        server = request.getfixturevalue("empty_redis")
        engine = Remote(server.url, partitions=5 if request.param == "partitions" else 1)
    yield engine
    engine.close()


class Commands:
    """Draws commands: the name of an operation of an engine, and its arguments."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def key(self) -> bytes:
        return self.random.choice(KEYS)

    def some(self, names: list[bytes], least: int = 0) -> list[bytes]:
        return self.random.choices(names, k=self.random.randint(least, 4))

    def ttl(self) -> int | None:
        return self.random.choice([None, 0, HOUR, 2**63, 2**64 - 1])

    def entry(self) -> tuple[Any, ...]:
        return self.key(), self.random.choice(VALUES), self.some(TAGS), self.ttl()

    def step(self) -> tuple[Any, ...]:
        by = self.random.choice([1, -1, 0, 5, 2**63 - 1, -(2**63)])
        return self.key(), by, self.some(TAGS), self.ttl()

    def changing(self) -> tuple[str, tuple[Any, ...]]:
        kinds: list[tuple[int, str, Callable[[], tuple[Any, ...]]]] = [
            (40, "put", self.entry),
            (8, "add", self.entry),
            (8, "increment", self.step),
            (3, "decrement", self.step),
            (4, "touch", lambda: (self.key(), self.ttl())),
            (4, "delete", lambda: (self.key(),)),
            (4, "invalidate_tag", lambda: (self.random.choice(TAGS),)),
            (3, "invalidate_any", lambda: (self.some(TAGS),)),
            (4, "invalidate_all", lambda: (self.some(TAGS, 1),)),
            (2, "invalidate_keys", lambda: (self.some(KEYS),)),
            (1, "flush", lambda: ()),
        ]
        _, name, arguments = self.random.choices(kinds, [kind[0] for kind in kinds])[0]
        return name, arguments()

    def telling(self) -> tuple[str, tuple[Any, ...]]:
        return self.random.choice(
            [
                ("get", (self.key(),)),
                ("get_many", (self.some(KEYS),)),
                ("ttl_ms", (self.key(),)),
                ("keys_by_tag", (self.random.choice(TAGS),)),
                ("search", (self.some(TAGS),)),
                ("search", (self.some(TAGS, 1), True)),
                ("newest", (self.random.choice([b"", b"k", b"k1", b"{", b"\xff"]),)),
                ("tags", (self.random.choice([b"", b"a", b"\x00"]),)),
            ]
        )


def answer(engine: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        found = getattr(engine, name)(*arguments)
    except CommandError as error:
        return type(error)
    return found if name == "get_many" or not isinstance(found, list) else sorted(found)


def totals(engine: Any) -> tuple[int, int, int]:
    if isinstance(engine, Memory):
        # The Redis engine does that by itself.
        list(engine.cache.sweep())
    held = engine.totals()
    return held.items, held.tags, held.bytes


@pytest.mark.parametrize("seed", range(4))
def test_it_does_what_the_engine_in_memory_does(seed: int, remote: Remote) -> None:
    memory = Memory()
    commands = Commands(seed)
    done = []
    for number in range(250):
        dice = commands.random.random()
        if dice < 0.7:
            name, arguments = commands.changing()
        elif dice < 0.95:
            name, arguments = commands.telling()
        else:
            # Some entries expire, and are not removed yet.
            for _ in range(4):
                entry = (*commands.entry()[:3], 1)
                done.append(("put", entry))
                assert remote.put(*entry) == memory.put(*entry)
            remote.pass_time(0.003)
            memory.pass_time(0.003)
            continue
        done.append((name, arguments))
        assert answer(remote, name, arguments) == answer(memory, name, arguments), (number, done)
    assert totals(remote) == totals(memory), done
    assert remote.counted()[2:] == memory.counted()[2:], done
    nothing_is_left(remote)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_at_the_same_time_nothing_is_left_over(seed: int, remote: Remote) -> None:
    commands = Commands(seed)
    works: list[Deferred[Any]] = []
    for number in range(500):
        name, arguments = (commands.telling if number % 4 == 3 else commands.changing)()
        if name == "put" and commands.random.random() < 0.3:
            arguments = (*arguments[:3], commands.random.randint(1, 10))
        if name in ("search", "tags", "keys_by_tag", "newest", "ttl_ms"):
            name, arguments = "settle", ()
        elif name == "get_many":
            works += [maybeDeferred(remote.engine.session.get, key) for key in arguments[0]]
            continue
        works.append(maybeDeferred(remote.operation(name), *arguments))
        # A refusal is a result as well.
        works[-1].addErrback(lambda reason: reason.trap(CommandError))
    remote.all(works)
    remote.pass_time(0.012)
    nothing_is_left(remote)


@pytest.mark.parametrize("seed", range(4))
def test_each_entry_is_counted_once_whoever_removes_it(seed: int, remote: Remote) -> None:
    random = Random(seed)
    works: list[Deferred[Any]] = []
    stored = 0
    for _ in range(40):
        for _ in range(8):
            tags = random.sample([b"t", b"u", b"v", b"w"], random.randint(0, 3))
            # Each key is stored once: none is overwritten.
            works.append(remote.cache.add(b"%d" % stored, b"v", tags))
            works[-1].addCallback(lambda _: 0)
            stored += 1
        tags = random.sample([b"t", b"u", b"v", b"w"], random.randint(1, 3))
        keys = [b"%d" % random.randrange(stored) for _ in range(5)]
        name, argument = random.choice(
            [
                ("invalidate_any", tags),
                ("invalidate_all", tags),
                ("invalidate_keys", keys),
                ("delete", keys[0]),
            ]
        )
        works.append(getattr(remote.cache, name)(argument))
        if random.random() < 0.3:
            works.append(remote.cache.settle().addCallback(lambda _: 0))
    removed = sum(remote.all(works))
    held = remote.totals()
    assert removed > 0
    assert removed + held.items == stored
    assert held.counters.invalidations == removed
    assert (held.counters.evictions, held.counters.expirations) == (0, 0)
    nothing_is_left(remote)


def nothing_is_left(engine: Remote) -> None:
    """Check that lists, counts and indexes agree, and that no key is left after deletion."""
    found = engine.check()
    assert found.faults == ()
    held = engine.totals()
    keys = engine.newest()
    assert len(keys) == len(set(keys)) == held.items
    assert held.backlog == 0 or engine.reclaim() is None
    assert engine.totals().backlog == 0
    entries = engine.peek_many(keys)
    assert sum(entry.size - len(entry.key) for entry in entries) == held.bytes
    carried: dict[bytes, list[int]] = {}
    for entry in entries:
        for tag in entry.tags:
            carried.setdefault(tag, []).append(entry.size)
    assert sorted(engine.tags()) == sorted((t, len(each), sum(each)) for t, each in carried.items())
    assert all(engine.count([tag]) == len(each) for tag, each in carried.items())
    assert held.tags == len(carried)
    engine.invalidate_keys(keys)
    engine.settle()
    engine.reclaim()
    assert set(names(engine)) <= {
        *(b"seq", b"floor", b"epoch", b"counts"),
        *(b"gens", b"sums", b"late"),
    }
    for root in engine.partitions.roots:
        epoch = (engine.wait(engine.client.get(f"{root}epoch")) or b"0").decode().partition(":")[0]
        sums = engine.wait(engine.client.hgetall(f"{root}{epoch}:sums"))
        assert sums in ({}, {b"bytes": b"0"})


def names(engine: Remote) -> Iterator[bytes]:
    """The keys in the database, without their partition and epoch."""

    async def every() -> list[bytes]:
        return [name async for name in engine.client.scan_iter("*")]

    for name in engine.wait(every()):
        assert name.startswith(b"tagcache:{")
        name = name.partition(b"}:")[2]
        epoch, _, rest = name.partition(b":")
        yield rest if epoch.isdigit() else name
