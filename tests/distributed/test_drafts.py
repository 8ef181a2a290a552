"""Changes of entries by what is stored, and transactions: the same for all engines."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from threading import Thread
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tagcache.errors import (
    CommandError,
    CrossPartition,
    KeyTooLong,
    NotAnInteger,
    NotInTransaction,
    TagTooLong,
    TooManyTags,
    ValueTooLarge,
)
from tagcache.model.drafts import Draft, Stored
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tests.distributed.engines import Memory, Remote
from tests.distributed.redis_server import RedisServer

NEEDS = pytest.mark.needs("redis-server", "redis-cli")
HOUR = 3_600_000


def append(key: bytes, more: bytes) -> Callable[[Draft], int]:
    def change(draft: Draft) -> int:
        old = draft.get(key) or Stored(b"")
        draft.put(key, old.value + more, old.tags, old.expires_ms)
        return len(old.value + more)

    return change


def add_one(draft: Draft) -> int:
    old = draft.get(b"n")
    number = int(old.value) + 1 if old else 1
    draft.put(b"n", b"%d" % number)
    return number


def read(*keys: bytes) -> Callable[[Draft], list[Stored | None]]:
    return lambda draft: [draft.get(key) for key in keys]


def meanwhile(call: Callable[[], object]) -> None:
    """Make a call of another server: in a thread, as the event loop of this one is running."""
    thread = Thread(target=call)
    thread.start()
    thread.join()


def near_one_another(engine: Any, number: int) -> list[bytes]:
    """Return keys in one partition."""
    keys = [b"k%d" % n for n in range(2000)]
    if isinstance(engine, Remote):
        root = engine.partitions.root(keys[0])
        keys = [key for key in keys if engine.partitions.root(key) == root]
    return keys[:number]


def far_apart(engine: Remote) -> list[bytes]:
    """Return keys in two partitions."""
    roots = {engine.partitions.root(key): key for key in (b"k%d" % n for n in range(1000))}
    return list(roots.values())[:2]


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


def test_an_update_is_new_data_whatever_was_missed_before(engine: Any) -> None:
    session = engine.engine.open_session()

    def store(value: bytes, *tags: bytes) -> Callable[[Draft], None]:
        return lambda draft: draft.put(b"k", value, tags)

    assert engine.wait_for(session.get(b"k")) is None
    engine.invalidate_tag(b"t")
    engine.wait_for(session.update([b"k"], store(b"1", b"t")))
    assert engine.get(b"k") == b"1"
    # It has ended the lease of the miss; a deletion, too.
    engine.invalidate_tag(b"t")
    engine.wait_for(session.put(b"k", b"2", [b"t"]))
    assert engine.get(b"k") == b"2"
    engine.wait_for(session.update([b"k"], lambda draft: draft.delete(b"k")))
    engine.wait_for(session.put(b"k", b"3"))
    assert engine.get(b"k") == b"3"
    engine.invalidate_tag(b"t")
    assert engine.get(b"k") == b"3"


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


def test_a_version_differs_after_every_change(engine: Any) -> None:
    engine.put(b"k", b"v", [b"t"], HOUR)
    seen = [engine.versions([b"k"])]
    assert engine.versions([b"k"]) == seen[0]
    assert engine.versions([]) == {}
    assert engine.versions([b"none"]) == {b"none": None}
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
    assert seen[-1] == {b"k": None}


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
    assert engine.transact({b: None}, [], lambda *_: 7) == engine.transact({}, [], lambda *_: 7)
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
        ]
        for call in refused:
            with pytest.raises(NotInTransaction, match="in a transaction with the Redis engine"):
                call()
        return len(refused)

    assert engine.transact({}, [b"k"], run) == 12


def every_key(engine: Any, count: int, between: Callable[[], object] = lambda: None) -> list[bytes]:
    found: list[bytes] = []
    cursor = 0
    while True:
        cursor, some = engine.scan_keys(cursor, count)
        assert 0 <= cursor < 2**53
        found += some
        if not cursor:
            return found
        between()


def test_all_keys_are_scanned_in_parts(engine: Any) -> None:
    assert engine.scan_keys(0, 10) == (0, [])
    assert engine.random_key() is None
    keys = [b"k%d" % number for number in range(700)]
    for number, key in enumerate(keys):
        engine.put(key, b"v", [b"odd"] if number % 2 else [], HOUR)
    for count in (1, 10, 10_000):
        found = every_key(engine, count)
        assert set(found) == set(keys)
    assert engine.scan_keys(0, None)[0] == 0
    assert sorted(engine.scan_keys(0)[1]) == sorted(keys)
    assert engine.scan_keys(0, None, lambda key: key in (b"k7", b"none")) == (0, [b"k7"])
    engine.invalidate_tag(b"odd")
    assert set(every_key(engine, 50)) == set(keys[::2])
    assert engine.random_key() in keys[::2]


def test_a_key_that_is_there_throughout_is_scanned_whatever_comes_and_goes(engine: Any) -> None:
    stays = [b"stays%d" % number for number in range(300)]
    for key in stays:
        engine.put(key, b"v")
    random = Random(1)
    stored: list[bytes] = []

    def between() -> None:
        for _ in range(40):
            if stored and random.random() < 0.4:
                engine.delete(stored.pop(random.randrange(len(stored))))
            elif len(stored) < 600:
                stored.append(b"goes%d" % random.randrange(10**9))
                engine.put(stored[-1], b"v", [b"t"])
        engine.put(random.choice(stays), b"again")

    assert set(stays) <= set(every_key(engine, 60, between))
    engine.invalidate_tag(b"t")
    assert set(every_key(engine, 60)) == set(stays)


def test_what_has_expired_is_neither_scanned_nor_picked(engine: Any) -> None:
    for number in range(20):
        engine.put(b"goes%d" % number, b"v", [], 30)
    engine.put(b"stays", b"v")
    engine.pass_time(0.06)
    assert every_key(engine, 5) == [b"stays"]
    assert {engine.random_key() for _ in range(10)} == {b"stays"}


def test_keys_at_random(engine: Any) -> None:
    keys = {b"k%d" % number for number in range(8)}
    for key in keys:
        engine.put(key, b"v")
    assert {engine.random_key() for _ in range(300)} == keys


class Changes:
    """Draws changes of entries, and carries the same out in two engines."""

    def __init__(self, seed: int, keys: list[bytes]) -> None:
        self.random = Random(seed)
        self.keys = keys

    def step(self) -> tuple[str, tuple[Any, ...]]:
        random = self.random
        kind = random.choice(("put", "put", "delete", "append", "move", "expire"))
        key, other = random.choice(self.keys), random.choice(self.keys)
        tags = tuple(random.choices((b"t", b"u", b"v"), k=random.randint(0, 3)))
        ttl = random.choice((None, HOUR, HOUR, 2**62, -5, 0))
        return kind, (key, other, b"x" * random.randint(0, 9), tags, ttl)

    @staticmethod
    def apply(draft: Draft, kind: str, arguments: tuple[Any, ...]) -> Any:
        key, other, value, tags, ttl = arguments
        expires = None if ttl is None else draft.now_ms + ttl
        old = draft.get(key)
        if kind == "put":
            return draft.put(key, value, tags, expires)
        if kind == "delete":
            return draft.delete(key)
        if old is None:
            return None
        if kind == "append":
            draft.put(key, old.value + value, old.tags, old.expires_ms)
        elif kind == "move":
            draft.delete(key)
            draft.put(other, *old)
        else:
            draft.put(key, old.value, old.tags, expires)
        return old.value, tuple(old.tags), old.expires_ms is None


@NEEDS
@pytest.mark.parametrize("seed", range(4))
def test_updates_in_redis_do_what_those_in_memory_do(seed: int, empty_redis: RedisServer) -> None:
    memory, remote = Memory(), Remote(empty_redis.url)
    changes = Changes(seed, [b"", b"{", b"k1", b"k2", b"\x00\xff", b"k3"])
    try:
        for _ in range(150):
            steps = [changes.step() for _ in range(changes.random.randint(1, 4))]

            def change(draft: Draft, steps: Any = steps) -> list[Any]:
                return [changes.apply(draft, *step) for step in steps]

            update = changes.random.random() < 0.8
            if update:
                found = [each.update(changes.keys, change) for each in (remote, memory)]
            else:
                tag = changes.random.choice((b"t", b"u", b"v"))
                found = [each.invalidate_tag(tag) for each in (remote, memory)]
            assert found[0] == found[1], steps
            state = [each.update(changes.keys, read(*changes.keys)) for each in (remote, memory)]
            for ours, theirs in zip(*state, strict=True):
                assert (ours and ours[:2]) == (theirs and theirs[:2])
            for look in (remote, memory):
                assert len(look.newest()) == len(set(look.newest()))
            assert sorted(remote.tags()) == sorted(memory.tags())
        assert remote.counted()[2:] == memory.counted()[2:]
        assert remote.check().faults == ()
    finally:
        remote.close()


@NEEDS
@pytest.mark.parametrize("partitions", [1, 5])
def test_steps_of_several_servers_at_once_add_up(empty_redis: RedisServer, partitions: int) -> None:
    servers = [Remote(empty_redis.url, partitions=partitions) for _ in range(4)]
    steps = 200

    async def together() -> list[int]:
        works: list[Deferred[int]] = []
        for number in range(steps):
            server = servers[number % len(servers)]
            session = server.engine.open_session() if number % 3 else server.engine.session
            works.append(session.update([b"n"], add_one))
        return [await work.asFuture(servers[0].loop) for work in works]

    try:
        for server in servers[1:]:
            for pipeline in server.pipelines:
                pipeline._loop = servers[0].loop
        assert sorted(servers[0].wait(together())) == list(range(1, steps + 1))
        assert servers[0].get(b"n") == b"%d" % steps
    finally:
        for server in servers[1:]:
            for pipeline in server.pipelines:
                servers[0].wait(pipeline.close())
            servers[0].wait(server.client.aclose())
            server.loop.close()
        servers[0].close()


@NEEDS
def test_another_server_changes_the_entry_meanwhile(empty_redis: RedisServer) -> None:
    one, two = Remote(empty_redis.url), Remote(empty_redis.url)
    try:
        for change, expected in (
            (lambda: two.put(b"k", b"2"), [b"1", b"2"]),
            (lambda: two.delete(b"k"), [b"1", None]),
            (lambda: two.invalidate_tag(b"t"), [b"1", None]),
            (lambda: two.flush(), [b"1", None]),
            (lambda: two.touch(b"k", HOUR), [b"1", b"1"]),
        ):
            one.put(b"k", b"1", [b"t"])
            seen: list[bytes | None] = []

            def apply(draft: Draft, seen: Any = seen, change: Any = change) -> None:
                old = draft.get(b"k")
                if not seen:
                    meanwhile(change)
                seen.append(old and old.value)
                draft.put(b"k", b"changed", (b"u",))

            one.update([b"k"], apply)
            assert seen == expected
            assert one.get(b"k") == b"changed"
            assert one.keys_by_tag(b"t") == []
        one.put(b"k", b"1", [], 60)
        one.update([b"k"], lambda draft: (two.pass_time(0.08), draft.put(b"k", b"late")))
        assert one.get(b"k") == b"late"
    finally:
        one.close()
        two.close()


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


@NEEDS
def test_the_near_cache_forgets_what_is_updated(empty_redis: RedisServer) -> None:
    engine = Remote(empty_redis.url, near=True)
    try:
        engine.put(b"k", b"a")
        for number in range(1, 4):
            while engine.cache.get_near(b"k") is None:
                engine.get(b"k")
            engine.update([b"k"], append(b"k", b"b"))
            assert engine.cache.get_near(b"k") is None
            assert engine.get(b"k") == b"a" + b"b" * number
        while engine.cache.get_near(b"k") is None:
            engine.get(b"k")
        engine.transact({}, [b"k"], lambda session, _: session.delete(b"k"))
        assert engine.get(b"k") is None
    finally:
        engine.close()
