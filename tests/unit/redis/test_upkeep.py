"""Rounds of upkeep: what they do, how they fail, and what they report."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from tagcache.engine.caches import MemoryCaches
from tagcache.errors import BackendUnavailable, OutOfMemory
from tagcache.model.statistics import Counters, EngineTotals
from tagcache.redis import scripts
from tagcache.redis.availability import Availability
from tagcache.redis.connection import connect
from tagcache.redis.election import Report, Seen
from tagcache.redis.engine import RedisEngine
from tagcache.redis.opening import open_databases
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.servers import ServerState
from tagcache.redis.upkeep import Upkeep
from tests.helpers import only, settings_with
from tests.unit.redis.scripted import (
    CLOSE,
    HANG,
    ScriptedServer,
    advance,
    in_fake_time,
    result,
    slots,
    until,
)
from tests.unit.redis.test_cache import World, caches_of

INFO = (
    b"redis_version:7.0.15\r\nused_memory:1000\r\nmaxmemory:5000\r\nmaxmemory_policy:noeviction\r\n"
)
TOTALS = [3, 2, 30, 1, [b"expirations", b"5"], 1, 0, 0]
NOTHING_TO_DO = {
    "elect": [1, b""],
    "sweep": [0, TOTALS],
    "purge_set": [0, 0],
    "reclaim": 0,
    "counts": [],
    "totals": TOTALS,
}


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The level and the text of what is logged."""
    lines: list[str] = []

    def note(event: dict[str, Any]) -> None:
        if event["log_namespace"] in ("tagcache.backend", Deferred.__module__):
            lines.append(f"{event['log_level'].name}: {event['log_format'].format(**event)}")

    globalLogPublisher.addObserver(note)
    yield lines
    globalLogPublisher.removeObserver(note)


class Kept:
    """An upkeep over a pipeline that a test answers, and a server that reports its state."""

    def __init__(self, server: ScriptedServer, near: bool = False, evicting: bool = False) -> None:
        self.server = server
        server.replies[b"INFO"] = INFO
        self.world = World(near=near)
        self.replies = self.world.pipeline.replies
        self.replies |= NOTHING_TO_DO
        self.clock = Clock()
        self.availability = Availability("here")
        self.servers = connect(server.url, 5.0, PolicyCheck(True))
        self.upkeep = Upkeep(
            caches_of(self.world.cache),
            [self.world.pipeline],  # type: ignore[list-item]
            self.servers,
            self.availability,
            self.clock,
            PolicyCheck(evicting),
            only(self.world.near) if near else None,
        )

    async def round(self) -> float:
        """Wait for the end of a round; returns the pause after it, in seconds."""
        await until(self.clock.getDelayedCalls)
        (call,) = self.clock.getDelayedCalls()
        return call.getTime() - self.clock.seconds()

    async def next_round(self) -> float:
        self.clock.advance(await self.round())
        return await self.round()


@asynccontextmanager
async def kept(**options: Any) -> AsyncIterator[Kept]:
    async with ScriptedServer() as server:
        it = Kept(server, **options)
        it.upkeep.startService()
        try:
            yield it
        finally:
            await result(it.upkeep.stopService())


@in_fake_time
async def test_a_round_sees_how_the_engine_stands(logged: list[str]) -> None:
    async with kept(near=True) as it:
        assert await it.round() == 1.0
        assert it.availability.trouble == ""
        seen = it.world.cache.seen
        assert (seen.items, seen.tags, seen.bytes, seen.backlog) == (3, 2, 30, 1)
        assert (seen.memory, seen.max_memory) == (0, 0)
        assert (it.upkeep.memory, it.upkeep.max_memory) == (1000, 5000)
        described = it.upkeep.describe()
        assert (described["status"], described["detail"]) == ("ok", None)
        assert described["servers"][0]["used_memory_bytes"] == 1000
        assert described["near_cache"]["staleness_bound_ms"] == 1000
        assert RedisEngine(it.world.cache, it.upkeep).counters().expirations == 5
        assert logged == ["info: the engine here can be used"]


@in_fake_time
async def test_a_stop_between_rounds_leaves_no_error(logged: list[str]) -> None:
    async with kept() as it:
        await it.round()
    del it
    gc.collect()
    assert logged == ["info: the engine here can be used"]


@in_fake_time
async def test_the_interval_and_the_timeout_can_change() -> None:
    async with kept() as it:
        await it.round()
        it.upkeep.configure(
            settings_with(server={"cleanup_interval_seconds": 7.0}, engine={"timeout_ms": 1500})
        )
        assert await it.next_round() == 7.0
        assert it.world.pipeline.timeout == 1.5
        # The servers are looked at once a minute at least.
        it.upkeep.configure(settings_with(server={"cleanup_interval_seconds": 3600.0}))
        assert await it.next_round() == 60.0


@in_fake_time
async def test_what_was_counted_is_sent_each_round() -> None:
    async with kept() as it:
        await it.round()
        del it.replies["counts"]
        it.world.cache.hits += 2
        it.clock.advance(1.0)
        assert it.world.answer(scripts.COUNTS, []) == (2, 0, 0)
        await it.round()


@in_fake_time
async def test_pauses_grow_while_redis_is_away(logged: list[str]) -> None:
    async with kept() as it:
        await it.round()
        del it.replies["sweep"]
        it.availability.note("Connection refused")
        for pause in (0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0):
            it.clock.advance(await it.round())
            it.world.answer(scripts.SWEEP, BackendUnavailable("timeout"))
            assert await it.round() == pause
        # What commands met says more than that there was no answer.
        assert it.availability.trouble == "Connection refused"
        it.replies["sweep"] = [0, TOTALS]
        assert await it.next_round() == 1.0
        assert it.availability.trouble == ""
        assert logged == [
            "info: the engine here can be used",
            "error: the engine here cannot be used: Connection refused. Commands answer ERR "
            "backend_unavailable until it can be used again",
            "info: the engine here can be used",
        ]


@in_fake_time
async def test_a_server_that_reports_nothing_is_away() -> None:
    async with kept() as it:
        await it.round()
        it.server.expect(b"INFO", answer=CLOSE)
        assert await it.next_round() == 0.25
        assert "closed" in it.availability.trouble
        it.server.expect(b"INFO", b"memory", answer=INFO)
        it.server.expect(b"INFO", answer=HANG)
        it.clock.advance(0.25)
        await until(lambda: not it.server.script)
        advance(5.0)
        assert await it.round() == 0.5
        assert it.availability.trouble == "TimeoutError"


@in_fake_time
async def test_a_full_redis_is_there_and_upkeep_is_postponed(logged: list[str]) -> None:
    async with kept() as it:
        await it.round()
        del it.replies["sweep"]
        it.clock.advance(1.0)
        it.world.answer(scripts.SWEEP, OutOfMemory("the backend's memory is full"))
        assert await it.round() == 1.0
        assert it.availability.trouble == ""
        assert logged[-1] == "warn: here: upkeep is postponed: the backend's memory is full"
        it.replies["sweep"] = [0, TOTALS]


@in_fake_time
async def test_what_nobody_expected_is_logged_and_tried_again(logged: list[str]) -> None:
    async with kept() as it:
        await it.round()
        it.replies["sweep"] = [0, None]
        assert await it.next_round() == 1.0
        assert logged[-1] == "critical: here: upkeep failed; the next round tries again"
        it.replies["sweep"] = [0, TOTALS]
        assert await it.next_round() == 1.0


@in_fake_time
async def test_a_policy_that_becomes_evicting_is_noticed() -> None:
    async with kept() as it:
        await it.round()
        it.server.replies[b"INFO"] = INFO.replace(b"noeviction", b"allkeys-lru")
        assert await it.next_round() == 0.25
        assert "has maxmemory-policy allkeys-lru" in it.availability.trouble
        await until(lambda: not it.server.writers)
        it.upkeep.configure(settings_with(engine={"allow_evicting_policies": True}))
        await it.next_round()
        assert it.availability.trouble == ""


@pytest.mark.parametrize(
    ("policy", "warning"),
    [
        (b"allkeys-lru", "has maxmemory-policy allkeys-lru, which may evict the record of an"),
        (b"", "does not report its maxmemory-policy"),
    ],
)
@in_fake_time
async def test_a_doubtful_policy_is_warned_of_once(
    policy: bytes, warning: str, logged: list[str]
) -> None:
    async with kept(evicting=True) as it:
        it.server.replies[b"INFO"] = INFO.replace(b"noeviction", policy)
        it.server.replies[b"CONFIG"] = []
        for _ in range(2):
            await it.next_round()
        warnings = [line for line in logged if line.startswith("warn")]
        assert len(warnings) == 1
        assert warning in warnings[0]


@in_fake_time
async def test_tags_of_a_cluster_are_listed_seldom() -> None:
    async with ScriptedServer() as server:
        it = Kept(server)
        it.world = World(2)
        it.replies = it.world.pipeline.replies
        it.replies |= NOTHING_TO_DO
        server.replies[b"CLUSTER SLOTS"] = slots((0, 16383, server))
        servers = connect(f"redis+cluster://127.0.0.1:{server.port}", 5.0, PolicyCheck(True))
        it.upkeep = Upkeep(
            caches_of(it.world.cache),
            [it.world.pipeline],  # type: ignore[list-item]
            servers,
            it.availability,
            it.clock,
            PolicyCheck(False),
        )
        it.upkeep.startService()
        it.clock.advance(1 / 64)
        for _ in range(2):
            it.world.answer(scripts.TAGS, [b"0", [[b"t", 1, 1]]])
        await it.round()
        assert it.world.cache.seen.tags == 1
        # It took 1/64 s: for a hundred times that they are not listed again.
        assert await it.next_round() == 1.0
        # Nor while nothing changes.
        assert await it.next_round() == 1.0
        it.replies["sweep"] = [0, [4, *TOTALS[1:]]]
        it.clock.advance(1.0)
        assert it.world.pipeline.waiting == [("tags", root) for root in it.world.roots]
        await result(it.upkeep.stopService())
        await it.servers.close()


async def elected_elsewhere(it: Kept) -> list[tuple[str, str]]:
    """Let the second round find another server elected; returns what the round waits for."""
    await it.round()
    del it.replies["elect"], it.replies["sweep"]
    it.clock.advance(1.0)
    return it.world.pipeline.waiting


@in_fake_time
async def test_only_the_elected_server_removes_entries() -> None:
    async with kept() as it:
        assert await elected_elsewhere(it) == [("elect", "p:{all}:")]
        seen = Seen(EngineTotals(7, 6, 5, 4, 3, 2, Counters(1, 2, 3, 4, 5, 6)), 8, 9)
        server = ServerState("there", "Redis 7", 3, 2, "noeviction", "home")
        report = Report([server], {0: seen}).encode()
        token, milliseconds, ours = it.world.answer(scripts.ELECT, [0, report])
        assert (token > 0, milliseconds) == (True, 5000)
        assert Report.decode(ours).databases[0].totals.items == 3  # type: ignore[union-attr]
        await it.round()
        assert it.world.cache.seen.items == 7
        assert it.world.cache.fresh.counts().stale_items == 9
        assert it.upkeep.memory == 3
        # It asks again when the term of the other one may be over.
        for _ in range(4):
            assert await it.next_round() == 1.0
        it.clock.advance(1.0)
        assert it.world.answer(scripts.ELECT, [1, b""])[0] == token
        assert it.world.answer(scripts.SWEEP, [0, TOTALS]) == (100, 200_000)
        await it.round()
        assert it.world.cache.seen.items == 3
        # The elected server renews its term in each round, with what it saw.
        it.clock.advance(1.0)
        ours = it.world.answer(scripts.ELECT, [1, b""])[2]
        assert Report.decode(ours).databases[0].totals.items == 3  # type: ignore[union-attr]
        it.world.answer(scripts.SWEEP, [0, TOTALS])
        await it.round()
        it.replies |= NOTHING_TO_DO


@in_fake_time
async def test_a_server_in_trouble_does_not_stand_for_election() -> None:
    async with kept() as it:
        assert await elected_elsewhere(it) == [("elect", "p:{all}:")]
        it.world.answer(scripts.ELECT, BackendUnavailable("timeout"))
        assert await it.round() == 0.25
        it.clock.advance(0.25)
        assert it.world.pipeline.waiting == [("sweep", "p:{all}:")]
        it.world.answer(scripts.SWEEP, [0, TOTALS])
        assert await it.round() == 1.0
        assert it.availability.trouble == ""
        it.replies |= NOTHING_TO_DO


@in_fake_time
async def test_a_report_of_another_version_is_not_relied_on() -> None:
    async with kept() as it:
        assert await elected_elsewhere(it) == [("elect", "p:{all}:")]
        it.world.answer(scripts.ELECT, [0, b'{"servers": [], "databases": {"0": {}}}'])
        it.world.answer(scripts.SWEEP, [0, TOTALS])
        await it.round()
        it.replies |= NOTHING_TO_DO


@in_fake_time
async def test_a_database_that_the_elected_server_does_not_know_is_kept_up_here() -> None:
    async with kept() as it:
        assert await elected_elsewhere(it) == [("elect", "p:{all}:")]
        it.world.answer(scripts.ELECT, [0, Report([], {}).encode()])
        it.world.answer(scripts.SWEEP, [0, TOTALS])
        await it.round()
        it.replies |= NOTHING_TO_DO


@in_fake_time
async def test_a_server_that_stops_gives_up_its_term() -> None:
    async with kept() as it:
        await it.next_round()
        del it.replies["elect"]
        stopped = it.upkeep.stopService()
        assert it.world.answer(scripts.ELECT, [1, b""])[1:] == (0, b"")
        await result(stopped)


@in_fake_time
async def test_an_engine_is_assembled_from_the_settings() -> None:
    async with ScriptedServer() as server:
        server.replies |= {b"INFO": INFO, b"CLIENT TRACKING": "OK", b"PING": "PONG"}
        clock: Any = Clock()
        clock._asyncioEventloop = asyncio.get_running_loop()
        settings = settings_with(engine={"url": server.url, "near_cache_mb": 1, "connections": 1})
        world = World(near=True)
        engine = open_databases(settings, MemoryCaches(lambda: world.near.cache), clock)[0]
        layout = (b"EVALSHA", scripts.LAYOUT.digest, 1, "tagcache:{all}:", "")
        server.expect(*layout, answer=[b"1:1", 1])
        server.expect(b"EVALSHA", scripts.GET.digest, 1, "tagcache:{all}:", b"k", answer=[b"v"])
        assert await result(engine.session.get(b"k")) == b"v"  # type: ignore[arg-type]
        server.expect(b"EVALSHA", scripts.COUNTS.digest, 1, "tagcache:{all}:", 1, 0, 0, answer=[])
        await result(engine.upkeep.stopService())
        assert world.near.cache.limits.max_memory == 2**20
