"""Changes of entries by what is stored: the same for all engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tagcache.errors import (
    CommandError,
    CrossPartition,
    KeyTooLong,
    NotAnInteger,
    TagTooLong,
    TooManyTags,
    ValueTooLarge,
)
from tagcache.model.drafts import Draft, Stored
from tagcache.model.limits import Limits
from tests.distributed.drafting import append, far_apart, near_one_another, read
from tests.distributed.engines import Memory

HOUR = 3_600_000


def test_an_entry_is_changed_by_what_is_stored(engine: Any) -> None:
    engine.put(b"k", b"a", [b"t", b"u"], HOUR)
    assert engine.update([b"k"], append(b"k", b"bc")) == 3
    assert engine.get(b"k") == b"abc"
    assert engine.keys_by_tag(b"t") == engine.keys_by_tag(b"u") == [b"k"]
    left = engine.peek(b"k").left_ms
    assert HOUR - 60_000 < left <= HOUR
    assert engine.update([b"new"], append(b"new", b"x")) == 1
    assert (engine.get(b"new"), engine.peek(b"new").left_ms) == (b"x", None)
    assert sorted(engine.newest()) == [b"k", b"new"]
    assert engine.counted() == (2, 0, 3, 0)
    assert engine.check().faults == ()


def test_a_draft_says_what_is_stored_and_when_it_expires(engine: Any) -> None:
    a, b, c = near_one_another(engine, 3)
    engine.put(a, b"1", [b"t", b"u"], HOUR)
    engine.put(b, b"2")

    def look(draft: Draft) -> tuple[Any, ...]:
        assert draft.default_expiry() is None
        return draft.now_ms, draft.get(a), draft.get(b), draft.get(c)

    now, first, second, third = engine.update([a, b, c], look)
    assert first.value == b"1"
    assert tuple(first.tags) == (b"t", b"u")
    assert now + HOUR - 60_000 < first.expires_ms <= now + HOUR
    assert (second, third) == (Stored(b"2"), None)
    assert engine.counted() == (0, 0, 2, 0)
    engine.limit(Limits(default_ttl_ms=50))

    def store(draft: Draft) -> None:
        draft.put(a, b"1", (b"t",), draft.default_expiry())

    engine.update([a], store)
    assert engine.get(a) == b"1"
    engine.pass_time(0.08)
    assert engine.get(a) is None


def test_a_deadline_reads_as_it_was_given(engine: Any) -> None:
    deadlines = []

    def store(draft: Draft) -> None:
        deadlines.append(draft.now_ms + 123_457)
        draft.put(b"k", b"v", (b"t",), deadlines[-1])

    engine.update([b"k"], store)
    for _ in range(3):
        engine.pass_time(0.003)
        (found,) = engine.update([b"k"], read(b"k"))
        assert found.expires_ms == deadlines[-1]
        engine.update([b"k"], append(b"k", b"."))
    assert engine.get(b"k") == b"v..."


def test_what_would_expire_at_once_is_removed(engine: Any) -> None:
    engine.put(b"k", b"v", [b"t"])
    engine.update([b"k"], lambda draft: draft.put(b"k", b"w", (), draft.now_ms))
    assert engine.get(b"k") is None
    assert engine.tags() == []
    engine.put(b"k", b"v")
    engine.update([b"k"], lambda draft: draft.put(b"k", b"w", (), draft.now_ms + 40))
    assert engine.get(b"k") == b"w"
    engine.pass_time(0.08)
    assert engine.update([b"k"], read(b"k")) == [None]
    assert engine.counted()[3] == 1


def test_several_entries_are_changed_together(engine: Any) -> None:
    a, b, c = near_one_another(engine, 3)
    engine.put(a, b"1", [b"t"])
    engine.put(b, b"2", [b"u"], HOUR)

    def rename(draft: Draft) -> bool:
        old = draft.get(a)
        assert old is not None
        draft.put(b, *old)
        draft.put(c, b"3", (b"t", b"t"))
        assert draft.get(c) == Stored(b"3", (b"t", b"t"))
        return draft.delete(a) and not draft.delete(a)

    assert engine.update([a, b, c], rename) is True
    assert engine.get_many([a, b, c]) == [None, b"1", b"3"]
    assert sorted(engine.tags()) == [(b"t", 2, 2 + len(b) + len(c))]
    assert engine.ttl_ms(b) is None
    assert len(engine.newest()) == 2
    assert engine.counted()[2:] == (4, 1)
    assert engine.check().faults == ()
    # Put, and removed after all.
    engine.update([a], lambda draft: (draft.put(a, b"x"), draft.delete(a)))
    assert engine.get(a) is None
    assert engine.counted()[2:] == (4, 1)


def test_an_update_counts_look_ups_if_it_is_asked_to(engine: Any) -> None:
    a, b = near_one_another(engine, 2)
    engine.put(a, b"1", [b"t"])
    engine.update([a, b], read(a, b), counts=True)
    engine.update([a, b], read(a, b))
    assert engine.counted()[:2] == (1, 1)


def test_an_update_that_fails_changes_nothing(engine: Any) -> None:
    a, b = near_one_another(engine, 2)
    engine.put(a, b"1")
    engine.limit(
        Limits(max_key_length=5, max_value_length=4, max_tags_per_entry=2, max_tag_length=5)
    )

    def change(key: bytes, value: bytes, *tags: bytes) -> Callable[[Draft], None]:
        def apply(draft: Draft) -> None:
            draft.delete(a)
            draft.put(key, value, tags)

        return apply

    refused: list[tuple[type[CommandError], Callable[[Draft], None]]] = [
        (KeyTooLong, change(b"keykey", b"")),
        (ValueTooLarge, change(b, b"fivee")),
        (TooManyTags, change(b, b"", b"a", b"b", b"c")),
        (TagTooLong, change(b, b"", b"a" * 6)),
    ]
    for error, apply in refused:
        key = b if error is not KeyTooLong else b"keykey"
        with pytest.raises((error, CrossPartition) if key != b else error):
            engine.update([a, key], apply)

    def fail(draft: Draft) -> None:
        draft.put(a, b"2")
        raise NotAnInteger

    with pytest.raises(NotAnInteger):
        engine.update([a], fail)
    assert engine.get_many([a, b]) == [b"1", None]
    assert engine.counted()[2:] == (1, 0)


def test_entries_in_several_partitions_cannot_be_changed_together(engine: Any) -> None:
    if isinstance(engine, Memory) or len(engine.partitions) == 1:
        return  # there is one partition
    a, b = far_apart(engine)
    called: list[Any] = []
    with pytest.raises(CrossPartition, match="different partitions of the Redis engine"):
        engine.update([a, b], called.append)
    with pytest.raises(CrossPartition):
        engine.versions([a, b])
    version = engine.versions([a])
    with pytest.raises(CrossPartition):
        engine.transact(version, [b], lambda *_: called.append(1))
    assert called == []


def test_what_was_invalidated_or_flushed_is_not_in_a_draft(engine: Any) -> None:
    for end in (
        lambda: engine.invalidate_tag(b"t"),
        lambda: engine.invalidate_all([b"t", b"u"]),
        lambda: engine.invalidate_keys([b"k"]),
        lambda: engine.flush(),
    ):
        engine.put(b"k", b"v", [b"t", b"u"])
        end()
        assert engine.update([b"k"], read(b"k")) == [None]
        assert engine.update([b"k"], append(b"k", b"new")) == 3
        assert engine.get(b"k") == b"new"
        assert engine.keys_by_tag(b"t") == []
        assert engine.delete(b"k") is True
    assert engine.check().faults == ()


def test_calls_of_a_session_keep_their_order_around_an_update(engine: Any) -> None:
    for session in (engine.engine.open_session(), engine.engine.session):
        results: list[Any] = []
        for number in range(20):
            results += [
                session.update([b"k"], append(b"k", b"a")),
                session.get(b"k"),
                session.update([b"k"], append(b"k", b"b")),
                session.get_many([b"k", b"k"]),
                session.put(b"k", b"%d" % number),
                session.get(b"k"),
                session.update([b"k"], read(b"k")),
                session.delete(b"k"),
                session.add(b"k", b"7"),
                session.increment(b"k"),
                session.update([b"k"], lambda draft: draft.delete(b"k")),
                session.touch(b"k"),
            ]
        found = [engine.wait_for(result) for result in results]
        for number in range(20):
            assert found[12 * number : 12 * number + 12] == [
                *(1, b"a", 2, [b"ab", b"ab"], None, b"%d" % number),
                *([Stored(b"%d" % number)], True, True, 8, True, False),
            ]


def test_many_look_ups(engine: Any) -> None:
    keys = [b"%d" % number for number in range(1200)]
    for key in keys[::7]:
        engine.put(key, b"v" + key)
    expected = [b"v" + key if number % 7 == 0 else None for number, key in enumerate(keys)]
    assert engine.get_many(keys) == expected
    assert engine.get_many([]) == []
    assert engine.counted()[:2] == (172, 1028)
