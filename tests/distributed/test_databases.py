"""Numbered databases of both engines: what one does, no other sees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from tagcache.errors import InvalidDatabase
from tagcache.model.interfaces import IDatabases
from tagcache.model.limits import Limits
from tagcache.redis.near import STALENESS_SECONDS, Near
from tagcache.redis.roots import database_of, roots_of
from tests.distributed.engines import Database, Memory, Remote
from tests.distributed.test_random import Commands, answer, totals

NEEDS = pytest.mark.needs("redis-server", "redis-cli")
# Partitions of database 0 have such names, too.
NUMBERS = [0, 1, 2, 11]


@pytest.fixture(
    params=[
        "memory",
        pytest.param("redis", marks=NEEDS),
        pytest.param("near", marks=NEEDS),
        pytest.param("cluster", marks=NEEDS),
        pytest.param("near a cluster", marks=NEEDS),
    ]
)
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        made: Any = Memory()
    elif "cluster" in request.param:
        nodes = request.getfixturevalue("cluster")
        for node in nodes.nodes:
            node.cli("flushall")
        made = Remote(nodes.url, partitions=12, near="near" in request.param)
    else:
        server = request.getfixturevalue("empty_redis")
        made = Remote(server.url, near=request.param == "near")
    yield made
    made.close()


def test_the_roots_of_databases_differ_and_name_their_database() -> None:
    seen = set()
    for database in range(256):
        for partitions in (1, 64):
            for root in roots_of("p:", partitions, database):
                tag = root.removeprefix("p:{").removesuffix("}:")
                assert database_of(tag.encode()) == database
                assert root not in seen
                seen.add(root)
    assert roots_of("p:", 1, 0) == ["p:{all}:"]
    assert roots_of("p:", 2, 0) == ["p:{0}:", "p:{1}:"]


def test_the_contract(engine: Any) -> None:
    databases = engine.databases
    assert verifyObject(IDatabases, databases)
    assert (databases.count, [number for number, _ in databases]) == (16, [0])
    with pytest.raises(InvalidDatabase):
        databases[16]
    Database(engine, 3).put(b"k", b"v", [b"t"])
    assert [number for number, _ in databases] == [0, 3]
    databases.limits = Limits(max_key_length=2)
    for number in (0, 3, 4):
        assert databases[number].limits.max_key_length == 2


@pytest.mark.parametrize("seed", range(3))
def test_each_does_what_an_engine_of_its_own_does(seed: int, engine: Any) -> None:
    commands = Commands(seed)
    tested = {number: Database(engine, number) for number in NUMBERS}
    models = {number: Memory() for number in NUMBERS}
    for _ in range(400):
        number = commands.random.choice(NUMBERS)
        changes = commands.random.random() < 0.7
        name, arguments = commands.changing() if changes else commands.telling()
        asked = (number, name, arguments)
        assert answer(tested[number], name, arguments) == answer(models[number], name, arguments), (
            asked
        )
    for number in NUMBERS:
        assert tested[number].check().faults == ()
        assert totals(tested[number]) == totals(models[number])
        assert tested[number].counted() == models[number].counted()


def test_all_are_flushed_together(engine: Any) -> None:
    for number in NUMBERS:
        for each in range(number + 1):
            Database(engine, number).put(b"%d" % each, b"v", [b"t"])
    assert engine.wait_for(engine.databases.flush_all()) == sum(NUMBERS) + len(NUMBERS)
    for number in NUMBERS:
        assert totals(Database(engine, number)) == (0, 0, 0)


@pytest.fixture(params=["one", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "one":
        return str(request.getfixturevalue("empty_redis").url)
    nodes = request.getfixturevalue("cluster")
    for node in nodes.nodes:
        node.cli("flushall")
    return str(nodes.url)


@pytest.mark.needs("redis-server", "redis-cli")
def test_servers_find_the_databases_that_others_use(url: str) -> None:
    one, two = Remote(url, partitions=4), Remote(url, partitions=4)
    try:
        Database(one, 5).put(b"k", b"v", [b"t"])
        Database(one, 9).get(b"k")
        for number in (5, 9):
            one.run(one.caches[number].send_counts())
        two.run(two.caches.find_used())
        assert [number for number, _ in two.databases] == [0, 5, 9]
        Database(one, 7).put(b"k", b"v")
        assert two.wait_for(two.databases.flush_all()) == 2
        assert [number for number, _ in two.databases] == [0, 5, 7, 9]
        assert Database(one, 7).get(b"k") is None
        for number in (5, 7):
            assert Database(two, number).check().faults == ()
    finally:
        one.close()
        two.close()


@pytest.mark.needs("redis-server", "redis-cli")
def test_changes_reach_the_near_cache_of_their_database_only(url: str) -> None:
    one, two = Remote(url, near=True), Remote(url)
    changes: list[tuple[str, tuple[bytes, ...]]] = [
        ("delete", (b"k",)),
        ("invalidate_tag", (b"t",)),
        ("flush", ()),
    ]

    def is_near(number: int) -> bool:
        near: Near = one.caches[number]._near
        return near.get(b"k") is not None

    def hear_all() -> None:
        """Wait until the server has heard of all changes before this."""
        until = time.monotonic() + STALENESS_SECONDS
        for number in (0, 3):
            near: Near = one.caches[number]._near
            one.wait(one._until(lambda near=near: near.fresh_until > until))

    try:
        for number in (0, 3):
            Database(one, number).put(b"k", b"v", [b"t"])
        for name, arguments in changes:
            for number in (0, 3):
                hear_all()
                for each in (0, 3):
                    assert Database(one, each).get(b"k") == b"v"
                    assert is_near(each)
                getattr(Database(two, number), name)(*arguments)
                one.wait(one._until(lambda changed=number: not is_near(changed)))
                assert is_near(3 - number)
                Database(one, number).put(b"k", b"v", [b"t"])
    finally:
        one.close()
        two.close()
