"""Changes by what is stored, in Redis: other servers, full memory, pending invalidations."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tagcache.errors import OutOfMemory
from tagcache.model.drafts import Draft
from tests.distributed.drafting import append, meanwhile, read
from tests.distributed.engines import Memory, Remote
from tests.distributed.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
HOUR = 3_600_000


def add_one(draft: Draft) -> int:
    old = draft.get(b"n")
    number = int(old.value) + 1 if old else 1
    draft.put(b"n", b"%d" % number)
    return number


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


@pytest.mark.parametrize("partitions", [1, 5])
def test_steps_of_several_servers_at_once_add_up(empty_redis: RedisServer, partitions: int) -> None:
    first = Remote(empty_redis.url, partitions=partitions)
    others = [Remote(empty_redis.url, partitions=partitions, loop=first.loop) for _ in range(3)]
    servers = [*others, first]
    steps = 200
    try:
        works: list[Deferred[int]] = []
        for number in range(steps):
            server = servers[number % len(servers)]
            session = server.engine.open_session() if number % 3 else server.engine.session
            works.append(session.update([b"n"], add_one))
        assert sorted(first.all(works)) == list(range(1, steps + 1))
        assert first.get(b"n") == b"%d" % steps
    finally:
        for server in servers:
            server.close()


def test_where_memory_is_full_nothing_is_stored_but_things_are_removed(
    redis: Callable[..., RedisServer],
) -> None:
    server = redis("--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
    engine = Remote(server.url)
    try:
        engine.put(b"k", b"v", [b"t"])
        engine.put(b"l", b"v")
        server.cli("config", "set", "maxmemory", "1")

        def move(draft: Draft) -> None:
            draft.delete(b"l")
            draft.put(b"k", b"w")

        for change in (append(b"k", b"x"), move):
            with pytest.raises(OutOfMemory):
                engine.update([b"k", b"l"], change)
        assert engine.get_many([b"k", b"l"]) == [b"v", b"v"]
        assert engine.update([b"k"], lambda draft: draft.delete(b"k")) is True
        server.cli("config", "set", "maxmemory", "0")
        assert engine.get_many([b"k", b"l"]) == [None, b"v"]
        assert engine.counted()[2:] == (2, 1)
        assert engine.check().faults == ()
    finally:
        engine.close()


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
        # The deadline passes before it is stored.
        one.update(
            [b"k"],
            lambda draft: (draft.put(b"k", b"w", (), draft.now_ms + 5), two.pass_time(0.03)),
        )
        assert one.get(b"k") is None
        assert one.check().faults == ()
    finally:
        one.close()
        two.close()


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
