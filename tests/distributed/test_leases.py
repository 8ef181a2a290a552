"""Leases, grace and soft invalidations over two servers: what one does, the other knows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle
from typing import Any, NamedTuple

import pytest

from tagcache.model.store_options import StoreOptions
from tagcache.redis import fresh, invalidation
from tests.distributed.engines import Remote
from tests.distributed.redis_server import RedisServer
from tests.integration.running import TIMEOUT, Client, RunningServer, eventually
from tests.integration.test_fresh_values import Reader, race, stampede

pytestmark = pytest.mark.needs("redis-server", "redis-cli")


class Fronts(NamedTuple):
    """Two servers over the same Redis; clients connect to them in turn."""

    one: RunningServer
    two: RunningServer
    turns: cycle[RunningServer]

    def connect(self) -> Client:
        return next(self.turns).connect()


@pytest.fixture(
    scope="module", params=["redis", pytest.param("near", marks=pytest.mark.slow), "cluster"]
)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Fronts, Sequence[RedisServer]]]:
    name = "cluster" if request.param == "cluster" else "shared_redis"
    there: Any = request.getfixturevalue(name)
    servers = there.nodes if request.param == "cluster" else [there]
    knobs = {"backend": "redis", "url": there.url, "timeout_ms": 30_000}
    if request.param == "near":
        knobs["near_cache_mb"] = 8
    with ExitStack() as stack:
        both = [
            stack.enter_context(
                RunningServer(
                    tmp_path_factory.mktemp("front"), {"engine": knobs}, reactor="asyncio"
                )
            )
            for _ in range(2)
        ]
        yield Fronts(both[0], both[1], cycle(both)), servers
        assert not any("Traceback" in server.text() for server in both)


@pytest.fixture
def fronts(running: tuple[Fronts, Sequence[RedisServer]]) -> Fronts:
    both, servers = running
    for server in servers:
        server.cli("flushall")
    return both


def counted_since(fronts: Fronts) -> Callable[[str], list[int]]:
    """Return a function that counts at each server what has happened since."""
    before = [figures(server) for server in fronts[:2]]

    def count(name: str) -> list[int]:
        now = [figures(server) for server in fronts[:2]]
        return [new[name] - old[name] for new, old in zip(now, before, strict=True)]

    return count


def figures(server: RunningServer) -> dict[str, Any]:
    with server.connect() as client:
        found: dict[str, Any] = client.json(b"INFO")["cache"]
    return found


def take(server: RunningServer, key: bytes = b"page", lease_ms: int = 60_000) -> bytes:
    """Take the lease for a key, and return its token."""
    word, _, token = server.ask(b"FETCH\t%b\t%d" % (key, lease_ms)).strip().partition(b"\t")
    assert word == b"LEASE"
    return token


def test_a_lease_is_that_of_all_servers(fronts: Fronts) -> None:
    token = take(fronts.one)
    word, _, left_ms = fronts.two.ask(b"FETCH\tpage\t60000").strip().partition(b"\t")
    assert word == b"WAIT"
    assert 0 < int(left_ms) <= 60_000
    assert fronts.two.ask(b"FILL\t1\tpage\t-\t-\tv") == b"REFUSED\n"
    assert fronts.two.ask(b"RELEASE\t1\tpage") == b"NF\n"
    assert fronts.two.ask(b"FILL\t%b\tpage\t60000\tt\tnew" % token) == b"OK\n"
    for server in (fronts.one, fronts.two):
        assert server.ask(b"FETCH\tpage\t60000") == b"HIT\tnew\n"
    assert fronts.one.ask(b"FILL\t%b\tpage\t-\t-\tagain" % token) == b"REFUSED\n"
    assert fronts.one.ask(b"RELEASE\t%b\tpage" % token) == b"NF\n"


@pytest.mark.parametrize(
    "change",
    [
        b"PUT\tpage\t-\t-\tother",
        b"PUT\tpage\t1\t-\tother",
        b"INCR\tpage\t1",
        b"DEL\tpage",
        b"INV_KEYS\tpage,other",
        b"SOFT_KEYS\tpage,other",
        b"INV_TAG\tt",
        b"INV_TAGS_ANY\tt,x",
        b"INV_TAGS_ALL\tt,u",
        b"SOFT_TAG\tt",
        b"SOFT_TAGS_ANY\tt,x",
        b"SOFT_TAGS_ALL\tt,u",
        b"FLUSH",
    ],
)
def test_a_value_that_was_outdated_by_another_server_is_refused(
    fronts: Fronts, change: bytes
) -> None:
    token = take(fronts.one)
    assert not fronts.two.ask(change).startswith(b"ERR")
    assert fronts.one.ask(b"FILL\t%b\tpage\t-\tt,u,v\told" % token) == b"REFUSED\n"
    assert fronts.one.ask(b"GET\tpage") != b"VALUE\told\n"
    fronts.two.ask(b"DEL\tpage")
    token = take(fronts.two)
    # Neither are these of the value.
    for other in (b"INV_TAG\tx", b"SOFT_TAG\tx", b"INV_TAGS_ALL\tt,x", b"DEL\tother"):
        fronts.one.ask(other)
    assert fronts.two.ask(b"FILL\t%b\tpage\t-\tt,u,v\tnew" % token) == b"OK\n"
    assert fronts.one.ask(b"GET\tpage") == b"VALUE\tnew\n"


def test_those_who_wait_at_another_server_get_the_value_at_once(fronts: Fronts) -> None:
    count = counted_since(fronts)
    token = take(fronts.one)
    with fronts.two.connect() as first, fronts.two.connect() as second:
        for waiting in (first, second):
            waiting.send(b"FETCH\tpage\t60000\t60000\n")
        eventually(lambda: figures(fronts.two)["waiting_fetches"] == 2)
        assert fronts.one.ask(b"FILL\t%b\tpage\t-\tt\tvalue" % token) == b"OK\n"
        assert [waiting.line() for waiting in (first, second)] == [b"HIT\tvalue\n"] * 2
    assert (count("leases_granted"), count("fills")) == ([1, 0], [1, 0])


def test_a_missing_value_is_computed_once(fronts: Fronts) -> None:
    count = counted_since(fronts)
    both = fronts.one, fronts.two
    stampede(fronts.connect, lambda: sum(figures(each)["waiting_fetches"] for each in both))
    assert (sum(count("leases_granted")), sum(count("fills"))) == (1, 1)


@pytest.mark.parametrize("end", [b"RELEASE\t%b\tpage", b"FILL\t%b\tpage\t-\tt\told"])
def test_who_waits_at_another_server_computes_after_a_release_or_a_refusal(
    fronts: Fronts, end: bytes
) -> None:
    token = take(fronts.one)
    with fronts.two.connect() as waiting:
        waiting.send(b"FETCH\tpage\t60000\t60000\n")
        eventually(lambda: figures(fronts.two)["waiting_fetches"] == 1)
        fronts.one.ask(b"INV_TAG\tt")
        assert fronts.one.ask(end % token) in (b"OK\n", b"REFUSED\n")
        word, _, token = waiting.line().strip().partition(b"\t")
    assert word == b"LEASE"
    assert fronts.one.ask(b"FILL\t%b\tpage\t-\tt\tvalue" % token) == b"OK\n"


def test_a_flush_ends_the_leases_for_all_who_wait(fronts: Fronts) -> None:
    with ExitStack() as stack:
        keys = [b"page%d" % number for number in range(8)]
        tokens = [take(fronts.one, key) for key in keys]
        waiting = [stack.enter_context(fronts.connect()) for _ in keys]
        for client, key in zip(waiting, keys, strict=True):
            client.send(b"FETCH\t%b\t60000\t60000\n" % key)
        both = fronts.one, fronts.two
        eventually(lambda: [figures(each)["waiting_fetches"] for each in both] == [4, 4])
        assert fronts.two.ask(b"FLUSH") == b"FLUSH\t0\n"
        for client, key, old in zip(waiting, keys, tokens, strict=True):
            word, _, token = client.line().strip().partition(b"\t")
            assert word == b"LEASE"
            assert fronts.one.ask(b"FILL\t%b\t%b\t-\t-\told" % (old, key)) == b"REFUSED\n"
            assert fronts.two.ask(b"FILL\t%b\t%b\t-\t-\tnew" % (token, key)) == b"OK\n"


def test_a_lease_ends_with_its_time(fronts: Fronts) -> None:
    token = take(fronts.one, lease_ms=50)
    with fronts.two.connect() as waiting:
        assert waiting.ask(b"FETCH\tpage\t60000\t60000").startswith(b"LEASE\t")
    assert fronts.one.ask(b"FILL\t%b\tpage\t-\t-\tlate" % token) == b"REFUSED\n"


def test_a_stale_value_is_that_of_all_servers(fronts: Fronts) -> None:
    fronts.one.ask(b"PUT\tpage\t-+60000\tt,u\told")
    fronts.one.ask(b"PUT\tplain\t-\tt\told")
    assert fronts.two.ask(b"SOFT_TAG\tt") == b"SOFT_TAG\t2\n"
    assert fronts.one.ask(b"GET\tpage") == b"NF\n"
    assert fronts.one.ask(b"KEYS\tt") == b"KEYS\t\n"
    word, token, value = fronts.one.ask(b"FETCH\tpage\t60000").strip().split(b"\t")
    assert (word, value) == (b"STALE", b"old")
    assert fronts.two.ask(b"FETCH\tpage\t60000\t60000") == b"STALE\t-\told\n"
    assert fronts.two.ask(b"FETCH\tplain\t60000").startswith(b"LEASE\t")
    assert fronts.two.ask(b"FILL\t%b\tpage\t1+60000\tt\tnew" % token) == b"OK\n"
    # The time to live is over, swept or not.
    eventually(lambda: fronts.two.ask(b"GET\tpage") == b"NF\n")
    assert fronts.one.ask(b"FETCH\tpage\t60000").endswith(b"\tnew\n")
    assert fronts.two.ask(b"INV_TAG\tt") == b"INV_TAG\t0\n"
    assert fronts.one.ask(b"FETCH\tpage\t60000").startswith(b"WAIT\t")


@pytest.mark.parametrize("way", [b"SOFT_TAG\tt", b"SOFT_TAGS_ALL\tt,u", b"INV_TAG\tt"])
def test_many_entries_become_stale(fronts: Fronts, way: bytes) -> None:
    keys = [b"k%d" % number for number in range(300)]
    with fronts.connect() as client:
        for key in keys:
            client.send(b"PUT\t%b\t-+60000\tt,u\tv\n" % key)
        assert {client.line() for _ in keys} == {b"OK\n"}
        assert client.ask(way).endswith(b"\t300\n")
        for key in keys:
            client.send(b"FETCH\t%b\t60000\n" % key)
        found = {client.line().partition(b"\t")[0] for _ in keys}
    assert found == ({b"LEASE"} if way == b"INV_TAG\tt" else {b"STALE"})
    with fronts.connect() as client:
        assert client.json(b"INFO\tcheck")["check"]["faults"] == []


def test_a_fill_is_refused_whose_tags_by_a_rule_were_invalidated(
    empty_redis: RedisServer, front: Callable[..., RunningServer]
) -> None:
    server = front(empty_redis.url, tag_rules={"posts": ["post:{id}:*", "post:{id}"]})
    token = take(server, b"post:1:body")
    assert server.ask(b"INV_TAG\tpost:1") == b"INV_TAG\t0\n"
    assert server.ask(b"FILL\t%b\tpost:1:body\t-\t-\told" % token) == b"REFUSED\n"


def test_who_does_not_hear_of_the_end_of_a_lease_asks_again(
    empty_redis: RedisServer, front: Callable[..., RunningServer]
) -> None:
    empty_redis.cli("acl", "setuser", "mute", "on", ">s", "resetchannels", "~*", "+@all")
    one = front(empty_redis.url)
    two = front(empty_redis.url.replace("redis://", "redis://mute:s@"))
    token = take(one)
    with two.connect() as waiting:
        waiting.send(b"FETCH\tpage\t60000\t60000\n")
        eventually(lambda: figures(two)["waiting_fetches"] == 1)
        assert one.ask(b"FILL\t%b\tpage\t-\tt\tvalue" % token) == b"OK\n"
        assert waiting.line() == b"HIT\tvalue\n"
    assert "the ends of leases are not heard" in two.text()
    # Nor can it notify others, who have their value when the lease is over.
    token = take(two, b"other", lease_ms=500)
    with one.connect() as waiting:
        waiting.send(b"FETCH\tother\t60000\t60000\n")
        eventually(lambda: figures(one)["waiting_fetches"] == 1)
        assert two.ask(b"FILL\t%b\tother\t-\tt\tvalue" % token) == b"OK\n"
        assert waiting.line() == b"HIT\tvalue\n"


def test_leases_are_bounded_and_what_is_over_is_forgotten(
    empty_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "_MOST_LEASES", 10)
    monkeypatch.setattr(invalidation, "_GENERATIONS", 10)
    root = "tagcache:{all}:"
    engine = Remote(empty_redis.url)
    try:
        tokens = {b"%d" % n: engine.fetch(b"%d" % n, 50_000 + n).token for n in range(15)}
        assert engine.wait(engine.client.zcard(root + "0:leased")) == 10
        # Those that end first gave way.
        given = [engine.release(tokens[b"%d" % n], b"%d" % n) for n in range(6)]
        assert given == [False] * 5 + [True]
        engine.invalidate_any([b"t%d" % number for number in range(20)])
        engine.invalidate_any([b"u"], soft=True)
        assert engine.wait(engine.client.zcard(root + "0:gens")) == 20
        engine.settle()
        assert engine.wait(engine.client.zcard(root + "0:gens")) == 10
        # This tag is forgotten, or so it may be: the lease is as old as that.
        options = StoreOptions([b"t0"])
        assert engine.fill(tokens[b"14"], b"14", b"v", options) is False
        engine.put_with(b"old", b"v", StoreOptions([b"t"], 1, 1))
        for number in range(6, 14):
            engine.release(tokens[b"%d" % number], b"%d" % number)
        engine.fetch(b"k", 1)
        time.sleep(0.01)
        engine.settle()
        engine.settle()
        names = {name.rpartition(b":")[2] for name in engine.wait(engine.client.keys("*"))}
        assert names <= {b"seq", b"epoch", b"counts", b"floor", b"sums"}
    finally:
        engine.close()


def test_no_reader_gets_what_was_invalidated_before_it_asked(fronts: Fronts) -> None:
    def goes_on(changes: int, readers: list[Reader]) -> bool:
        # Some values live long enough to be found, sooner or later.
        some = any(reader.seen["HIT"] for reader in readers)
        return changes < 100 or (changes < 50_000 and not some)

    readers = race(fronts, goes_on)
    assert [reader.outdated for reader in readers] == [[]] * 5
    seen = sum((reader.seen for reader in readers), Counter())
    assert seen["HIT"]
    assert seen["LEASE"] == seen["OK"] + seen["REFUSED"]


@pytest.mark.slow
def test_nor_in_ten_seconds_each(fronts: Fronts) -> None:
    end = time.monotonic() + 10
    readers = race(fronts, lambda *_: time.monotonic() < end)
    assert [reader.outdated for reader in readers] == [[]] * 5
    assert sum(reader.seen["REFUSED"] for reader in readers)


def test_plain_stores_lose_the_same_race(fronts: Fronts) -> None:
    """The control: with PUT instead of FILL, readers get outdated values."""

    def goes_on(_: int, readers: list[Reader]) -> bool:
        return time.monotonic() < end and not any(reader.outdated for reader in readers)

    end = time.monotonic() + TIMEOUT
    readers = race(fronts, goes_on, leased=False)
    assert any(reader.outdated for reader in readers)
