"""Changes of entries by what is stored: their scripts, their order, and what is kept near."""

from __future__ import annotations

from typing import Any

import pytest

from tagcache.errors import BackendUnavailable, CrossPartition, ValueTooLarge
from tagcache.model.drafts import Draft, Stored
from tagcache.model.limits import Limits
from tagcache.redis import drafts, scripts
from tagcache.redis.session import RedisSession
from tests.unit.redis.scripted import outcome
from tests.unit.redis.test_cache import GONE, World


def row(value: bytes, record: bytes = b"r", expires: int = 0) -> list[Any]:
    ttl = b"5000" if expires else b""
    return [value, b"%d" % expires, ttl, b"77", [b"t"], record]


def append(draft: Draft) -> int:
    old = draft.get(b"k") or Stored(b"")
    draft.put(b"k", old.value + b"+", old.tags, old.expires_ms)
    return len(old.value) + 1


def look(draft: Draft) -> Any:
    return draft.get(b"k")


def make(partitions: int = 1, near: bool = False) -> tuple[World, RedisSession]:
    world = World(partitions, near=near)
    return world, RedisSession(world.cache, 1)


def test_one_script_reads_and_another_stores() -> None:
    world, session = make()
    done = outcome(session.update([b"k"], append))
    assert world.answer(scripts.DRAFT, [b"1000", row(b"v", b"record", 6000)]) == (b"k",)
    assert world.answer(scripts.CARRY_OUT, 0) == (
        *(b"k", 1, b"record"),
        *(b"k", b"v+", 6000, 5000, 1, b"t"),
    )
    assert done == [2]
    assert world.counted == (0, 0, 1, 0)
    done = outcome(session.update([b"k"], look))
    world.answer(scripts.DRAFT, [b"1000", None])
    assert done == [None]
    assert world.pipeline.waiting == []


def test_several_entries_are_stored_and_removed() -> None:
    world, session = make()

    def change(draft: Draft) -> None:
        draft.delete(b"a")
        draft.put(b"b", b"w", (b"x", b"y", b"x"))

    outcome(session.update([b"a", b"b", b"a"], change))
    assert world.answer(scripts.DRAFT, [b"1000", row(b"v"), None]) == (b"a", b"b")
    assert world.answer(scripts.CARRY_OUT, 1) == (
        *(b"a", 2, b"b", b"r", b""),
        *(b"a", b"", 0, b"", 0),
        *(b"b", b"w", b"", b"", 2, b"x", b"y"),
    )
    assert world.counted == (0, 0, 1, 1)


def test_it_begins_again_with_what_another_server_has_stored() -> None:
    world, session = make()
    done = outcome(session.update([b"k"], append, counts=True))
    world.answer(scripts.DRAFT, [b"1000", None])
    world.answer(scripts.CARRY_OUT, [b"1001", row(b"theirs", b"new")])
    assert done == []
    assert world.answer(scripts.CARRY_OUT, 0)[:5] == (b"k", 1, b"new", b"k", b"theirs+")
    assert done == [7]
    # It is one look-up, and one change.
    assert world.counted == (0, 1, 1, 0)


def test_it_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "_ROUNDS", 3)
    world, session = make()
    done = outcome(session.update([b"k"], append))
    world.answer(scripts.DRAFT, [b"1000", None])
    for number in range(3):
        world.answer(scripts.CARRY_OUT, [b"1000", row(b"v", b"%d" % number)])
    assert type(done[0]) is BackendUnavailable
    assert "keep changing" in str(done[0])


def test_what_exceeds_a_limit_is_not_sent() -> None:
    world, session = make()
    world.cache.limits = Limits(max_value_length=1)
    done = outcome(session.update([b"k"], append))
    world.answer(scripts.DRAFT, [b"1000", row(b"v")])
    assert type(done[0]) is ValueTooLarge
    done = outcome(session.update([b"k"], lambda draft: draft.put(b"other", b"v")))
    world.answer(scripts.DRAFT, [b"1000", row(b"v")])
    assert type(done[0]) is KeyError
    assert world.pipeline.waiting == []


def test_entries_of_two_partitions_are_refused_before_anything_is_sent() -> None:
    world, session = make(2)
    keys = {world.partitions.root(key): key for key in (b"%d" % n for n in range(50))}
    a, b = keys.values()
    for call in (
        lambda: session.update([a, b], look),
        lambda: session.versions([a, b]),
        lambda: session.transact({a: None}, [b], lambda *_: 1),
    ):
        assert _error(call) is CrossPartition
    assert world.pipeline.waiting == []


def _error(call: Any) -> type[BaseException]:
    try:
        (error,) = outcome(call())
    except CrossPartition as raised:
        error = raised
    return type(error)


def test_later_calls_of_the_session_wait_for_an_update() -> None:
    world, session = make()
    updated = outcome(session.update([b"k"], append))
    got = outcome(session.get(b"other"))  # type: ignore[arg-type]
    stored = outcome(session.put(b"k", b"w"))
    again = outcome(session.update([b"k"], append))
    removed = outcome(session.delete(b"k"))
    world.answer(scripts.DRAFT, [b"1000", None])
    assert [name for name, _ in world.pipeline.waiting] == ["carry_out"]
    world.answer(scripts.CARRY_OUT, 0)
    assert updated == [1]
    assert [name for name, _ in world.pipeline.waiting] == ["get", "put", "draft"]
    world.answer(scripts.DRAFT, [b"1000", row(b"w")])
    world.answer(scripts.CARRY_OUT, 0)
    assert [name for name, _ in world.pipeline.waiting] == ["get", "put", "delete"]
    for script, answer in ((scripts.GET, None), (scripts.PUT, 1), (scripts.DELETE, 1)):
        world.answer(script, answer)
    assert (got, stored, again, removed) == ([None], [None], [2], [True])


def test_updates_of_an_entry_by_two_clients_wait_for_each_other() -> None:
    world, session = make()
    other = RedisSession(world.cache, 2)
    outcome(session.update([b"k"], append))
    outcome(other.update([b"k"], append))
    outcome(other.update([b"l"], lambda draft: draft.get(b"l")))
    elsewhere = outcome(RedisSession(world.cache, 3).update([b"l"], lambda draft: 3))
    assert [name for name, _ in world.pipeline.waiting] == ["draft", "draft"]
    world.pipeline.calls[1][3].callback([b"1000", None])
    assert elsewhere == [3]
    del world.pipeline.calls[1]
    world.answer(scripts.DRAFT, GONE)
    # The other client has waited as long.
    assert world.pipeline.waiting == []


def test_without_a_pipeline_only_calls_for_its_key_wait() -> None:
    world = World()
    session = RedisSession(world.cache)
    session.update([b"k"], append)
    session.get(b"k")
    session.get(b"other")
    assert [name for name, _ in world.pipeline.waiting] == ["draft", "get"]


def test_what_is_changed_is_not_near() -> None:
    world, session = make(near=True)
    for outcome_of in (0, GONE, [b"1001", None]):
        world.keep(b"k", b"t")
        done = outcome(session.update([b"k"], lambda draft: draft.delete(b"k")))
        world.answer(scripts.DRAFT, [b"1000", row(b"v")])
        assert world.cache.get_near(b"k") is None
        # What is looked up meanwhile may be old, and is not kept.
        world.cache.get(b"k")
        world.answer(scripts.GET, [b"v", b"", [b"t"]])
        assert world.cache.get_near(b"k") is None
        world.answer(scripts.CARRY_OUT, outcome_of)
        assert len(done) == 1
        world.keep(b"k", b"t")


def test_a_value_near_does_not_overtake_an_update() -> None:
    world, session = make(near=True)
    world.keep(b"k", b"t")
    session.update([b"k"], append)
    found = outcome(session.get(b"k"))  # type: ignore[arg-type]
    assert found == []
    world.answer(scripts.DRAFT, [b"1000", row(b"v")])
    world.answer(scripts.CARRY_OUT, 0)
    world.answer(scripts.GET, [b"v+", b"", [b"t"]])
    assert found == [b"v+"]


def test_many_look_ups_come_in_parts() -> None:
    world, session = make()
    keys = [b"%d" % number for number in range(1100)]
    found = outcome(session.get_many(keys))
    later = outcome(session.put(b"0", b"v"))
    for size in (500, 500, 100):
        assert [name for name, _ in world.pipeline.waiting] == ["get"] * size
        for number in range(size):
            world.answer(scripts.GET, b"%d" % number)
    assert [len(values) for values in found] == [1100]
    world.answer(scripts.PUT, 1)
    assert later == [None]


def test_a_transaction_runs_again_or_not_at_all() -> None:
    world, session = make()

    def run(given: Any, _: Any) -> Any:
        given.get(b"k")
        return given.increment(b"n")

    versions = outcome(session.versions([b"k"]))
    world.answer(scripts.DRAFT, [b"1000", row(b"v", b"r1")])
    assert versions == [{b"k": b"r1"}]
    done = outcome(session.transact(versions[0], [b"n"], run))
    assert world.answer(scripts.DRAFT, [b"1000", None, row(b"v", b"r1")]) == (b"n", b"k")
    world.answer(scripts.CARRY_OUT, [b"1000", row(b"41"), row(b"v", b"r1")])
    world.answer(scripts.CARRY_OUT, 0)
    assert done == [42]
    assert world.counted == (1, 0, 1, 0)
    done = outcome(session.transact(versions[0], [b"n"], run))
    world.answer(scripts.DRAFT, [b"1000", None, row(b"v", b"r1")])
    world.answer(scripts.CARRY_OUT, [b"1000", None, row(b"v", b"r2")])
    assert done == [None]
    done = outcome(session.transact(versions[0], [b"n"], run))
    world.answer(scripts.DRAFT, [b"1000", None, None])
    assert done == [None]
    assert world.pipeline.waiting == []
    assert world.counted == (1, 0, 1, 0)


def test_a_transaction_restarts_the_time_to_live_of_a_counter() -> None:
    world, session = make()

    def run(given: Any, engine: Any) -> Any:
        before = engine.peek(b"k")
        given.increment(b"k")
        after = engine.peek(b"k")
        return [(each.left_ms, each.ttl_ms, each.stored_us) for each in (before, after)]

    done = outcome(session.transact({}, [b"k"], run))
    world.answer(scripts.DRAFT, [b"1000", row(b"1", b"r", 2000)])
    assert world.answer(scripts.CARRY_OUT, 0)[3:] == (b"k", b"2", 6000, 5000, 1, b"t")
    assert done == [[(1000, 5000, 77), (5000, 5000, 1_000_000)]]
