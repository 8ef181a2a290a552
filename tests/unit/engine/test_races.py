"""Readers and writers of a database with a cache before it, in every order that chance finds.

A reader makes a value of two rows of the database and stores it; a writer changes a row, and
invalidates its tag. No reader may get a value of a row that was invalidated before it asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from itertools import count
from random import Random

import pytest
from twisted.internet.task import Clock

from tagcache.engine import invalidation, leases, selection, tags
from tagcache.engine.memory import MemoryCache
from tagcache.model.fetched import Found
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions

Steps = Generator[None, None, None]
ROWS = (b"a", b"b", b"c")
HISTORIES = range(150)


class World:
    """A database, a cache, and clients of both, one step of one of them at a time."""

    def __init__(self, seed: int, leases_used: bool) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.clock.advance(100)
        tokens = count(1)
        self.cache = MemoryCache(
            Limits(max_memory=self.random.choice([0, 0, 3000])),
            monotonic=self.clock.seconds,
            wall=self.clock.seconds,
            random_bits=lambda bits: next(tokens),
        )
        self.leases_used = leases_used
        # The version of each row; the last one that was invalidated, and invalidated hard.
        self.database = dict.fromkeys(ROWS, 0)
        self.invalidated = dict.fromkeys(ROWS, 0)
        self.invalidated_hard = dict.fromkeys(ROWS, 0)
        self.outdated = 0
        self.happened: Counter[str] = Counter()

    def run(self) -> None:
        clients = [self.reader() for _ in range(4)]
        clients += [self.writer(row) for row in ROWS]
        clients += [self.upkeep()]
        for _ in range(1500):
            next(self.random.choice(clients))

    def reader(self) -> Steps:
        while True:
            rows = self.random.sample(ROWS, 2)
            key = b"".join(sorted(rows))
            seen, seen_hard = self.invalidated.copy(), self.invalidated_hard.copy()
            yield
            if self.random.random() < 0.2:
                value = self.cache.get(key)
                if value is not None:
                    self.check(value, seen)
                continue
            fetched = self.cache.fetch(key, self.random.choice([500, 5000]))
            self.happened[fetched.found.name] += 1
            if fetched.value is not None:
                self.check(fetched.value, seen if fetched.found is Found.HIT else seen_hard)
            if fetched.token is not None:
                yield from self.compute(key, rows, fetched.token)

    def compute(self, key: bytes, rows: list[bytes], token: int) -> Steps:
        parts = []
        for row in rows:
            yield
            parts.append(b"%b=%d" % (row, self.database[row]))
        yield
        if self.random.random() < 0.1:
            self.cache.release(token, key)
            return
        value = b" ".join(parts)
        grace = self.random.choice([0, 20_000])
        options = StoreOptions(rows, self.random.choice([None, 1500]), grace)
        if not self.leases_used:
            self.cache.put_with(key, value, options)
        elif not self.cache.fill(token, key, value, options):
            self.happened["REFUSED"] += 1

    def check(self, value: bytes, seen: dict[bytes, int]) -> None:
        for part in value.split():
            row, _, version = part.partition(b"=")
            self.outdated += int(version) < seen[row]

    def writer(self, row: bytes) -> Steps:
        while True:
            for _ in range(self.random.randrange(30)):
                yield
            self.database[row] += 1
            version = self.database[row]
            yield
            soft = self.random.random() < 0.5
            yield from self.invalidation(row, soft)
            self.invalidated[row] = version
            if not soft:
                self.invalidated_hard[row] = version

    def invalidation(self, row: bytes, soft: bool) -> Iterator[None]:
        match self.random.randrange(3):
            case 0:
                return self.cache.invalidate_tag(row, soft)
            case 1:
                return self.cache.invalidate_any([row, b"other"], soft)
            case _:
                keys = [b"".join(sorted((row, other))) for other in ROWS if other != row]
                return self.cache.invalidate_keys(keys, soft)

    def upkeep(self) -> Steps:
        while True:
            for _ in range(self.random.randrange(60)):
                yield
            work = self.random.choice([self.cache.sweep, self.cache.reclaim, None])
            if work is None:
                self.clock.advance(self.random.choice([0.01, 0.3, 2]))
            else:
                yield from work()


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let invalidations of three entries take many steps, and remember few tags."""
    monkeypatch.setattr(invalidation, "AT_ONCE", 1)
    monkeypatch.setattr(tags, "_SPLIT_AT", 2)
    monkeypatch.setattr(selection, "_SOME", 1)
    monkeypatch.setattr(selection, "_FEW", 1)
    monkeypatch.setattr(leases, "MOST_TAGS", 3)


def outdated(leases_used: bool, seeds: range = HISTORIES) -> tuple[int, Counter[str]]:
    found, happened = 0, Counter[str]()
    for seed in seeds:
        world = World(seed, leases_used)
        world.run()
        found += world.outdated
        happened += world.happened
    return found, happened


def test_no_reader_gets_what_was_invalidated_before_it_asked() -> None:
    found, happened = outdated(leases_used=True)
    assert found == 0
    # Everything happened that there is.
    assert min(happened[name] for name in ("HIT", "STALE", "LEASE", "WAIT", "REFUSED")) > 1000


def test_without_leases_readers_do() -> None:
    """So the test above would find it."""
    found, _ = outdated(leases_used=False)
    assert found > 100


@pytest.mark.slow
def test_more_histories() -> None:
    assert outdated(leases_used=True, seeds=range(150, 2000))[0] == 0
