"""The engine in Redis behind the contract of all engines, and its sessions."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tagcache.model.fetched import LEASE, Fetched
from tagcache.model.interfaces import IEngine, ISession
from tagcache.model.limits import Limits
from tagcache.model.statistics import Totals
from tagcache.model.store_options import StoreOptions
from tagcache.model.views import TagSize
from tagcache.redis import scripts
from tagcache.redis.availability import Availability
from tagcache.redis.engine import RedisEngine
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.session import RedisSession
from tagcache.redis.upkeep import Upkeep
from tests.unit.redis.scripted import outcome
from tests.unit.redis.test_cache import World, caches_of


def make() -> tuple[World, RedisEngine]:
    world = World()
    nobody: Any = None
    upkeep = Upkeep(
        caches_of(world.cache),
        [world.pipeline],  # type: ignore[list-item]
        nobody,
        Availability("here"),
        Clock(),
        PolicyCheck(False),
    )
    return world, RedisEngine(world.cache, upkeep)


def session() -> tuple[World, RedisSession]:
    world, engine = make()
    return world, engine.open_session()


def test_both_keep_the_contract() -> None:
    _, engine = make()
    assert verifyObject(IEngine, engine)
    assert verifyObject(ISession, engine.session)
    assert engine.trouble == "not reached yet"
    engine.limits = Limits(max_key_length=7)
    assert engine.limits.max_key_length == 7


def test_a_store_with_options() -> None:
    world, client = session()
    client.put_with(b"k", b"w", StoreOptions((b"t",), 5, 7))
    assert world.answer(scripts.PUT, 1) == (b"k", b"w", b"5", 7, b"t")


def test_a_look_up_that_takes_a_lease() -> None:
    world, client = session()
    found = outcome(client.fetch(b"k", 5000))
    _, _, token, lease_ms, _ = world.answer(scripts.FETCH, [0, None, []])
    assert (found, lease_ms) == ([Fetched(LEASE, None, token)], 5000)
    done = outcome(client.fill(token, b"k", b"v", StoreOptions((b"t",), 5, 7)))
    assert world.answer(scripts.FILL, 1) == (b"k", token, b"v", 5, 7, b"t")
    assert done == [True]
    done = outcome(client.release(token, b"k"))
    assert world.answer(scripts.RELEASE, 0) == (b"k", token)
    assert done == [False]


def test_the_engine_passes_on_that_a_lease_has_ended() -> None:
    world, engine = make()
    ended: list[bytes] = []
    engine.on_lease_end = ended.append
    assert engine.on_lease_end == ended.append
    world.cache.fresh.ended(b"k")
    assert ended == [b"k"]


def test_what_is_near_is_answered_at_once() -> None:
    world = World(near=True)
    client = RedisSession(world.cache, 1)
    world.keep(b"k")
    assert client.get(b"k") == b"v"
    assert world.pipeline.waiting == []


def test_other_operations_of_a_session() -> None:
    world, client = session()
    for call, script, answer, result in (
        (client.add(b"k", b"v"), scripts.ADD, 1, True),
        (client.increment(b"k", 2), scripts.INCR, [b"2"], 2),
        (client.decrement(b"k"), scripts.INCR, [b"1"], 1),
        (client.touch(b"k"), scripts.TOUCH, 0, False),
        (client.invalidate_any([b"t"]), scripts.INVALIDATE, [3, 0, [], []], 3),
    ):
        done = outcome(call)
        world.answer(script, answer)
        assert done == [result]


def test_figures_at_once_are_those_of_the_last_round_and_of_this_server() -> None:
    world, engine = make()
    engine.session.get(b"k")
    world.answer(scripts.GET, None)
    assert engine.counters().misses == 1
    assert engine.held() == Totals(0, 0, 0)
    assert (engine.memory, engine.max_memory, engine.backlog) == (0, 0, 0)
    assert engine.describe() == {
        "backend": "redis",
        "url": "here",
        "status": "degraded",
        "detail": "not reached yet",
        "servers": [],
        "near_cache": None,
    }


def test_lists_and_counts_of_the_engine() -> None:
    world, engine = make()
    world.pipeline.replies = {"sweep": [0, [3, 2, 30, 1, [], 1, 0, 0]], "purge_set": [0, 0]}
    row = [b"k", b"1", b"", b"", 2, [b"t"]]
    rows = [b"0", [row], 0]
    for call, script, answer in (
        (engine.keys_by_tag(b"t"), scripts.MEMBERS, rows),
        (engine.search([b"t"]), scripts.MEMBERS, rows),
        (engine.newest(b"", 0, 1), scripts.NEWEST, [b"", [row], 0]),
        (engine.peek_many([b"k"]), scripts.PEEK, [[row, b"v"]]),
        (engine.largest_tags(b"", 1), scripts.TAGS, [b"0", [[b"t", 1, 2]]]),
    ):
        done = outcome(call)
        world.answer(script, answer)
        assert len(done[0]) == 1
    done = outcome(engine.peek(b"k"))
    world.answer(scripts.PEEK, [None])
    assert done == [None]
    done = outcome(engine.count([b"t"]))
    world.answer(scripts.COUNT, 4)
    assert done == [4]
    done = outcome(engine.count_keys([b"k", b"none", b"k"]))
    assert world.answer(scripts.PEEK, [[row, b"v"], None]) == (b"k", b"none")
    assert done == [1]
    done = outcome(engine.totals())
    world.answer(scripts.TOTALS, [3, 2, 30, 1, [], 1, 0, 0])
    assert (done[0].items, done[0].memory) == (3, 0)
    done = outcome(engine.all_counters())
    world.answer(scripts.COUNTS, [b"hits", b"3"])
    assert done[0].hits == 3
    done = outcome(engine.check())
    world.answer(scripts.TAGS, [b"0", []])
    world.answer(scripts.CHECK, [b"0", 0, []])
    assert done[0].faults == ()
    assert engine.activity(b"t").hits == 0


@pytest.mark.parametrize(
    ("measure", "expected"), [("keys", b"many"), ("bytes", b"large"), ("hits", b"busy")]
)
def test_the_largest_tags(measure: Any, expected: bytes) -> None:
    world, engine = make()
    world.pipeline.replies = {"sweep": [0, [3, 2, 30, 1, [], 1, 0, 0]], "purge_set": [0, 0]}
    world.cache.get(b"k")
    world.answer(scripts.GET, [b"v", b"", [b"busy"]])
    rows = {b"many": (9, 9), b"large": (2, 500), b"busy": (1, 1)}
    done = outcome(engine.largest_tags(b"", 1, measure))
    world.answer(scripts.TAGS, [b"0", [[tag, *sizes] for tag, sizes in rows.items()]])
    assert done == [[TagSize(expected, *rows[expected])]]


def test_lists_are_those_of_the_listing() -> None:
    world, engine = make()
    row = [b"k", b"1", b"", b"", 2, [b"t"]]
    found = outcome(engine.keys_by_tag(b"t"))
    world.answer(scripts.MEMBERS, [b"0", [row], 0])
    assert found == [[b"k"]]
    found = outcome(engine.count([b"t"]))
    world.answer(scripts.COUNT, 1)
    assert found == [1]
    found = outcome(engine.newest(b"", 0, 1))
    world.answer(scripts.NEWEST, [b"", [row], 0])
    assert found[0][0].key == b"k"
    found = outcome(engine.peek(b"k"))
    world.answer(scripts.PEEK, [[row, b"v"]])
    assert found[0].value == b"v"
    found = outcome(engine.check())
    world.answer(scripts.TAGS, [b"0", []])
    world.answer(scripts.CHECK, [b"0", 1, []])
    assert found[0].entries == 1
