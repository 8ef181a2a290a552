"""Corner cases: many entries, upkeep that comes in between, lost data, unlucky moments."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tagcache.errors import BackendUnavailable, OutOfMemory
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tagcache.redis import invalidation, scripts, upkeep
from tagcache.redis.availability import Availability
from tagcache.redis.partitions import Partitions
from tagcache.redis.pipeline import ScriptPipeline
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.sender import Sender
from tests.distributed.engines import Remote
from tests.distributed.redis_server import RedisCluster, RedisServer
from tests.distributed.test_servers import healthy
from tests.integration.running import RunningServer, eventually
from tests.unit.redis.test_cache import caches_of

pytestmark = [pytest.mark.needs("redis-server", "redis-cli"), pytest.mark.slow]
ROOT = "tagcache:{all}:"


@pytest.fixture
def engine(empty_redis: RedisServer) -> Iterator[Remote]:
    remote = Remote(empty_redis.url)
    yield remote
    remote.close()


@pytest.mark.parametrize("where", ["redis", "cluster"])
def test_order_is_kept_where_some_scripts_are_not_known_yet(
    where: str, request: pytest.FixtureRequest
) -> None:
    if where == "cluster":
        nodes: RedisCluster = request.getfixturevalue("cluster")
        servers = nodes.nodes
        url = nodes.url
    else:
        servers = [request.getfixturevalue("empty_redis")]
        url = servers[0].url
    for server in servers:
        server.cli("flushall")
        server.cli("script", "flush")
    engine = Remote(url)
    try:
        for key in (b"a", b"b", b"c", b"d", b"e"):
            assert engine.get(key) is None
            works = [engine.cache.put(key, b"v", (), None, 0, 1), engine.cache.get(key, 1)]
            assert engine.all(works) == [None, b"v"]
    finally:
        engine.close()


def ask(engine: Remote, script: scripts.Script, *arguments: Any) -> Any:
    return engine.run(engine.partitions.call(ROOT, script, *arguments))


def put_many(engine: Remote, number: int, *tags: bytes) -> list[bytes]:
    keys = [b"k%d" % n for n in range(number)]
    engine.all([engine.cache.put(key, b"v", tags) for key in keys])
    return keys


def test_the_memory_of_many_flushed_entries_is_given_back(engine: Remote) -> None:
    # More than one HSCAN of a hash from its beginning returns.
    put_many(engine, 3000, b"t")
    assert engine.flush() == 3000
    rounds = 0
    while ask(engine, scripts.RECLAIM, 10):
        rounds += 1
        assert rounds < 400
    assert engine.wait(engine.client.keys(ROOT + "0:*")) == []
    assert engine.wait(engine.client.keys("tagcache:v:*")) == []
    assert engine.totals().backlog == 0


def test_generations_do_not_pile_up_however_quickly_they_come(
    engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidation, "_GENERATIONS", 10)
    names = [b"%d" % number for number in range(2500)]
    token = engine.fetch(b"k", 60_000).token
    engine.invalidate_any(names)
    engine.invalidate_any(names, soft=True)
    engine.all([engine.cache.invalidate_all([b"t", name]) for name in names])
    engine.settle()

    def kept() -> list[int]:
        gens = (b"gens", b"softgens", b"allgens")
        return [engine.wait(engine.client.zcard(b"tagcache:{all}:0:" + name)) for name in gens]

    assert kept() == [10, 10, 1000]
    engine.release(token, b"k")
    engine.settle()
    assert kept() == [0, 0, 0]


def test_what_is_gone_and_not_removed_yet_is_not_counted(engine: Remote) -> None:
    put_many(engine, 20, b"t", b"u")
    ask(engine, scripts.INVALIDATE, 5, b"any", b"", b"t")
    assert engine.count([b"u"]) == len(engine.search([b"u"])) == 0


@pytest.mark.parametrize("kind", ["any", "all"])
def test_each_is_counted_whoever_removes_it(
    kind: str, engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Partitions, "at_once", 3)
    cache = engine.cache
    put_many(engine, 200, b"t", b"u")
    invalidate = cache.invalidate_any if kind == "any" else cache.invalidate_all
    helping = [cache.settle() for _ in range(3)]
    assert engine.all([invalidate([b"t", b"u"]), *helping])[0] == 200
    assert engine.counted()[3] == 200


def test_what_others_removed_is_counted_until_it_was_told(engine: Remote) -> None:
    # While there are dead entries, these cannot be counted in advance.
    for number in range(10):
        engine.put(b"other%d" % number, b"v", [b"other"])
    ask(engine, scripts.INVALIDATE, 5, b"any", b"", b"other")
    keys = put_many(engine, 20, b"t")
    _, _, (name,), _ = ask(engine, scripts.INVALIDATE, 5, b"any", b"", b"t")
    # Upkeep runs twice between two steps of the invalidation.
    engine.put(keys[0], b"new")
    engine.settle()
    engine.settle()
    removed = ask(engine, scripts.PURGE_SET, 5, name)[0]
    assert removed == 20
    left = engine.wait(engine.client.pttl(ROOT + "0:late"))
    assert left < 60_000
    engine.settle()
    assert engine.wait(engine.client.pttl(ROOT + "0:late")) <= max(left, 0)


def test_a_lease_from_before_the_database_was_lost_is_of_no_use_after(
    engine: Remote, empty_redis: RedisServer
) -> None:
    for _ in range(5):
        engine.invalidate_tag(b"other")
    token = engine.fetch(b"k", 60_000).token
    empty_redis.cli("flushall")
    assert engine.fill(token, b"k", b"stale", StoreOptions([b"t"])) is False
    token = engine.fetch(b"k", 60_000).token
    assert engine.fill(token, b"k", b"fresh", StoreOptions([b"t"])) is True
    assert engine.get(b"k") == b"fresh"


def test_nothing_is_begun_when_the_server_stops(empty_redis: RedisServer) -> None:
    engine = Remote(empty_redis.url)
    engine.get(b"k")
    engine.close()
    refused: list[Any] = []
    engine.pipelines[0].call(scripts.GET, ROOT, b"k", b"").addErrback(refused.append)
    assert [type(reason.value) for reason in refused] == [BackendUnavailable]


def senders_of(pipeline: ScriptPipeline) -> list[Sender]:
    return list(pipeline._senders.values())


def be_impatient(engine: Remote, seconds: float) -> None:
    """Shorten the timeout, where no answer will come any more."""
    for pipeline in engine.pipelines:
        pipeline.timeout = seconds


def test_a_cluster_of_which_nothing_can_be_reached_is_unavailable(
    tmp_path: Path, front: Callable[..., RunningServer]
) -> None:
    nodes = RedisCluster(tmp_path / "cluster")
    try:
        ours = front(nodes.url)
        eventually(lambda: healthy(ours))
        for node in nodes.nodes:
            node.stop()
        with ours.connect() as client:
            for line in (b"GET\tk", b"PUT\tk\t-\tt\tv", b"INV_TAG\tt", b"STATS", b"GET\tk"):
                assert client.ask(line) == b"ERR backend_unavailable\n"
            assert not healthy(ours)
            for node in nodes.nodes:
                node.start()
            eventually(lambda: healthy(ours))
            assert client.ask(b"PUT\tk\t-\tt\tv") == b"OK\n"
            assert client.ask(b"GET\tk") == b"VALUE\tv\n"
    finally:
        nodes.stop()


def test_an_engine_that_was_never_there_is_unavailable() -> None:
    engine = Remote("redis+cluster://127.0.0.1:1,127.0.0.1:2", timeout=1.0)
    try:
        refused: list[Any] = []
        engine.run(engine.cache.get(b"k").addErrback(refused.append))
        assert [type(reason.value) for reason in refused] == [BackendUnavailable]
        assert engine.troubles
    finally:
        engine.close()


def test_invalidations_and_counts_go_on_where_memory_is_out(
    redis: Callable[..., RedisServer],
) -> None:
    server = redis()
    engine = Remote(server.url, partitions=3)
    try:
        keys = put_many(engine, 20, b"t")
        assert engine.get(keys[0]) == b"v"
        server.cli("config", "set", "maxmemory", "1")
        with pytest.raises(OutOfMemory):
            engine.put(b"k", b"v")
        assert engine.invalidate_tag(b"t") == 20
        assert engine.totals().counters.hits == 1
    finally:
        engine.close()


def test_of_what_the_database_evicted_nothing_is_left(
    redis: Callable[..., RedisServer],
) -> None:
    server = redis("--maxmemory", "6mb", "--maxmemory-policy", "volatile-lru")
    engine = Remote(server.url)
    try:
        for start in range(0, 30_000, 1000):
            numbers = range(start, start + 1000)
            hour = 3_600_000
            puts = [engine.cache.put(b"%d" % n, b"v" * 100, [b"t"], hour) for n in numbers]
            # Otherwise their indexes would fill the memory, and nothing could be stored.
            assert engine.all(puts) == [hour] * 1000
            engine.settle()
        held = engine.totals()
        values = len(engine.wait(engine.client.keys("tagcache:v:*")))
        assert 0 < values <= held.items <= 1.5 * values + 100
        assert held.items + held.counters.evictions == 30_000
        assert engine.check().faults == ()
    finally:
        engine.close()


def test_the_upkeep_does_not_wait_for_ever_for_what_servers_tell_of_themselves(
    engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(upkeep, "look_at", never)
    monkeypatch.setattr(upkeep, "_LOOK_SECONDS", 0.05)
    looking = upkeep.Upkeep(
        caches_of(engine.cache),
        engine.pipelines,
        engine.servers,
        Availability("here"),
        Clock(),
        PolicyCheck(False),
    )

    async def look() -> None:
        await Deferred.fromCoroutine(looking._look()).asFuture(engine.loop)

    with pytest.raises(TimeoutError):
        engine.wait(look())


def test_large_commands_do_not_pile_up(redis: Callable[..., RedisServer]) -> None:
    server = redis()
    engine = Remote(server.url)
    engine.limit(Limits(max_value_length=2**24))
    try:
        assert engine.get(b"k") is None
        server.process.send_signal(signal.SIGSTOP)
        be_impatient(engine, 0.5)
        # In one pipeline.
        works = [engine.cache.put(b"k", bytes(2**23), pipeline=1) for _ in range(40)]
        at_once = [work for work in works if work.called]
        assert 25 < len(at_once) < 40
        for work in works:
            with pytest.raises(BackendUnavailable):
                engine.run(work)
        server.process.send_signal(signal.SIGCONT)
        works = [engine.cache.put(b"k", bytes(2**23), pipeline=1) for _ in range(7)]
        engine.all([work.addErrback(lambda why: why.trap(BackendUnavailable)) for work in works])
        assert [sender.bytes for sender in senders_of(engine.pipelines[1])] == [0]
    finally:
        server.process.send_signal(signal.SIGCONT)
        engine.close()


def test_few_look_ups_travel_together_where_values_are_large(
    engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.put(b"large", b"v" * 2**20)
    engine.put(b"small", b"v")
    engine.run(engine.cache.get(b"small", 0))
    (sender,) = senders_of(engine.pipelines[0])
    together: list[int] = []
    send = sender._execute

    async def note(batch: Any, by_text: bool = False) -> Any:
        together.append(len(batch))
        return await send(batch, by_text)

    monkeypatch.setattr(sender, "_execute", note)
    engine.run(engine.cache.get(b"large", 0))
    assert len(set(engine.all([engine.cache.get(b"large", 0) for _ in range(100)]))) == 1
    assert max(together) <= 17
    assert len(together) < 12
    for _ in range(21):
        engine.run(engine.cache.get(b"small", 0))
    together.clear()
    engine.all([engine.cache.get(b"small", 0) for _ in range(200)])
    assert len(together) <= 2


def test_a_plain_look_up_reads_nothing_but_the_value(
    engine: Remote, empty_redis: RedisServer
) -> None:
    def records_read() -> int:
        stats = empty_redis.cli("info", "commandstats").splitlines()
        line = next((line for line in stats if line.startswith("cmdstat_hget:")), "=0,")
        return int(line.partition("=")[2].partition(",")[0])

    engine.put(b"k", b"v", [b"t"])
    # The first hit is a sample, with its tags.
    assert engine.get(b"k") == b"v"
    before = records_read()
    assert [engine.get(b"k"), engine.get(b"absent")] == [b"v", None]
    assert records_read() == before
    # An entry with a grace, or one that is dead and not removed yet, is known by its record.
    engine.put_with(b"g", b"w", StoreOptions((b"u",), 1, 60_000))
    engine.pass_time(0.01)
    assert [engine.get(b"g"), engine.get(b"k")] == [None, b"v"]
    assert records_read() > before
