"""Versions and transactions: the same for all engines."""

from __future__ import annotations

from typing import Any

import pytest

from tagcache.errors import (
    NotAnInteger,
    NotInTransaction,
    TagTooLong,
    TooManyTags,
    ValueTooLarge,
)
from tagcache.model.drafts import Draft
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tests.distributed.drafting import append, meanwhile, near_one_another
from tests.distributed.engines import Memory, Remote
from tests.distributed.redis_server import RedisServer

NEEDS = pytest.mark.needs("redis-server", "redis-cli")
HOUR = 3_600_000


def test_a_version_differs_after_every_change(engine: Any) -> None:
    engine.put(b"k", b"v", [b"t"], HOUR)
    seen = [engine.versions([b"k"])]
    assert engine.versions([b"k"]) == seen[0]
    assert engine.versions([]) == {}
    assert engine.versions([b"none"]) == engine.versions([b"none"])
    for change in (
        lambda: engine.put(b"k", b"v", [b"t"], HOUR),
        lambda: engine.touch(b"k", HOUR),
        lambda: engine.update([b"k"], lambda draft: draft.put(b"k", b"v")),
        lambda: engine.delete(b"k"),
        lambda: engine.put(b"k", b"v", [b"t"], 40),
        lambda: engine.invalidate_tag(b"t"),
        lambda: engine.put(b"k", b"v", [b"t"], 40),
        lambda: engine.pass_time(0.08),
    ):
        engine.pass_time(0.001)
        change()
        seen.append(engine.versions([b"k"]))
        assert seen[-1] != seen[-2]
    assert engine.peek(b"k") is None
    assert engine.versions([b"k"]) == seen[-1]


def test_a_transaction_does_everything_or_nothing(engine: Any) -> None:
    a, b, c = near_one_another(engine, 3)
    engine.put(a, b"1", [b"t"], HOUR)
    version = engine.versions([a, c])

    def run(session: Any, inner: Any) -> list[Any]:
        return [
            session.get(a),
            session.increment(a, 4),
            session.get_many([a, b]),
            session.put(b, b"x", [b"u", b"u"], HOUR),
            session.put_with(c, b"y", StoreOptions((b"u",))),
            session.add(c, b"z"),
            session.decrement(a, 2),
            session.touch(b, 2 * HOUR),
            session.update([c], append(c, b"!")),
            session.delete(c),
            session.delete(c),
            session.invalidate_keys([c, b, b]),
            session.add(c, b"new"),
            inner.count_keys([a, b, c, c]),
            inner.peek(a).tags,
            inner.peek(a).ttl_ms,
            inner.peek_many([b]),
            inner.limits.max_key_length,
        ]

    assert engine.transact(version, [a, b, c], run) == [
        *(b"1", 5, [b"5", None], HOUR, None, False, 3, True, 2, True, False, 1, True, 2),
        *((b"t",), HOUR, [None], 1024),
    ]
    assert engine.get_many([a, b, c]) == [b"3", None, b"new"]
    assert (engine.ttl_ms(a), engine.ttl_ms(c)) == (HOUR, None)
    assert engine.keys_by_tag(b"t") == [a]
    assert engine.counted()[:2] == (4, 2)
    # The versions are out of date by now.
    assert engine.transact(version, [a, b, c], run) is None
    assert engine.transact(engine.versions([a]), [a], lambda session, _: session.delete(a)) is True
    missing = engine.versions([b])
    assert engine.transact(missing, [], lambda *_: 7) == engine.transact({}, [], lambda *_: 7)
    assert engine.check().faults == ()


def test_a_command_that_fails_in_a_transaction_changes_nothing_itself(engine: Any) -> None:
    a, b = near_one_another(engine, 2)
    engine.put(a, b"word")
    engine.limit(Limits(max_value_length=4, max_tags_per_entry=1, max_tag_length=2))

    def update_and_fail(draft: Draft) -> None:
        draft.put(b, b"lost")
        draft.delete(a)
        raise NotAnInteger

    def run(session: Any, _: Any) -> None:
        for error, call in (
            (NotAnInteger, lambda: session.increment(a)),
            (ValueTooLarge, lambda: session.put(a, b"fivee")),
            (TooManyTags, lambda: session.add(b, b"", [b"x", b"y"])),
            (TagTooLong, lambda: session.increment(b, 1, [b"abc"])),
            (NotAnInteger, lambda: session.update([a, b], update_and_fail)),
            (ValueTooLarge, lambda: session.update([a], append(a, b"s"))),
        ):
            with pytest.raises(error):
                call()
        session.put(b, b"kept")

    engine.transact({}, [a, b], run)
    assert engine.get_many([a, b]) == [b"word", b"kept"]


def test_a_transaction_in_redis_has_only_what_concerns_known_keys(engine: Any) -> None:
    if isinstance(engine, Memory):
        return  # there is nothing that it cannot do

    def run(session: Any, inner: Any) -> int:
        refused = [
            *(lambda: session.invalidate_tag(b"t"), lambda: session.invalidate_any([b"t"])),
            *(lambda: session.invalidate_all([b"t"]), session.flush, lambda: session.transact()),
            *(lambda: inner.search([b"t"]), lambda: inner.scan_keys(0), inner.totals),
            *(inner.random_key, inner.check, lambda: inner.keys_by_tag(b"t"), inner.describe),
            lambda: inner.memory,
        ]
        for call in refused:
            with pytest.raises(NotInTransaction, match="in a transaction with the Redis engine"):
                call()
        return len(refused)

    assert engine.transact({}, [b"k"], run) == 13


@NEEDS
def test_a_transaction_meets_another_server(empty_redis: RedisServer) -> None:
    one, two = Remote(empty_redis.url), Remote(empty_redis.url)
    try:
        one.put(b"a", b"1")
        version = one.versions([b"a"])
        runs = []

        def run(session: Any, _: Any) -> Any:
            runs.append(session.get(b"b"))
            if len(runs) == 1:
                meanwhile(lambda: two.put(b"b", b"2"))
            return session.put(b"b", b"mine")

        # What is not watched may change: it runs again.
        assert one.transact(version, [b"b"], run) is None
        assert runs == [None, b"2"]
        assert one.get(b"b") == b"mine"
        assert one.engine.counters().hits == 2

        def conflict(session: Any, _: Any) -> Any:
            meanwhile(lambda: two.put(b"a", b"theirs"))
            return session.put(b"b", b"never")

        assert one.transact(version, [b"b"], conflict) is None
        assert one.get_many([b"a", b"b"]) == [b"theirs", b"mine"]
    finally:
        one.close()
        two.close()
