"""What is heard of changes empties the near cache, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tagcache.engine.memory import MemoryCache
from tagcache.redis.connection import connect
from tagcache.redis.near import STALENESS_SECONDS, Near
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.tracking import Tracking
from tests.helpers import only
from tests.unit.redis.scripted import (
    HANG,
    Error,
    ScriptedServer,
    advance,
    advance_when_awaited,
    in_fake_time,
    slots,
    until,
)

TRACKING = tuple(
    b"CLIENT TRACKING ON BCAST PREFIX p:v: PREFIX p:n: PREFIX p:f:".split(),
)


class Followed:
    """A near cache, and the tracking that tells it of changes."""

    def __init__(self, url: str) -> None:
        loop = asyncio.get_running_loop()
        # Time 0 means that nothing was ever confirmed.
        advance(100.0)
        self.servers = connect(url, 5.0, PolicyCheck(False))
        self.troubles: list[str] = []
        self.near = Near(MemoryCache(monotonic=loop.time, wall=loop.time), loop.time)
        self.tracking = Tracking(
            self.servers, "p:", only(self.near), loop, loop.time, self.troubles.append
        )
        self.tracking.start()

    def keep(self, key: bytes, *tags: bytes) -> None:
        """Look an entry up, so that it is near."""
        self.near.keep(key, self.near.begin(key), b"v", tags, None)
        assert self.near.get(key) == b"v"

    async def fresh(self) -> None:
        await until(lambda: self.near.is_fresh)

    async def confirmed(self) -> None:
        """Wait until the server has answered what it was asked now."""
        loop = asyncio.get_running_loop()
        await until(lambda: self.near.fresh_until == loop.time() + STALENESS_SECONDS)


@asynccontextmanager
async def followed(url: str) -> AsyncIterator[Followed]:
    it = Followed(url)
    try:
        yield it
    finally:
        await it.tracking.close()
        await it.servers.close()


def server_that_tracks() -> ScriptedServer:
    server = ScriptedServer()
    server.replies |= {b"CLIENT TRACKING": "OK", b"PING": "PONG"}
    return server


def followings(server: ScriptedServer) -> int:
    """How often the server was asked to tell of changes."""
    return server.greeted.count(TRACKING)


@in_fake_time
async def test_what_is_heard_is_dropped() -> None:
    async with server_that_tracks() as server, followed(server.url) as it:
        await it.fresh()
        assert followings(server) == 1
        for names, dropped in (
            ([b"p:v:{all}:0:a"], {b"a"}),
            ([b"p:v:{all}:0:a", b"p:v:{all}:0:with:colon"], {b"a", b"with:colon"}),
            ([b"p:n:{all}:t"], {b"a", b"with:colon"}),
            ([b"p:n:{all}:u", b"p:v:{all}:0:b"], {b"a", b"b"}),
            ([b"p:f:{all}:"], {b"a", b"b", b"with:colon"}),
            (None, {b"a", b"b", b"with:colon"}),
            ([b"p:something:else"], set()),
        ):
            it.keep(b"a", b"t", b"u")
            it.keep(b"b")
            it.keep(b"with:colon", b"t")
            server.push(b"invalidate", names)
            kept = {b"a", b"b", b"with:colon"} - dropped
            # The answer to the next PING comes after the message.
            await advance_when_awaited(0.25)
            await it.confirmed()
            assert {key for key in (b"a", b"b", b"with:colon") if it.near.get(key)} == kept
        assert it.troubles == []


@in_fake_time
async def test_what_is_near_is_answered_as_long_as_the_server_answers() -> None:
    async with server_that_tracks() as server, followed(server.url) as it:
        await it.fresh()
        # It counts from when the server was asked, not from when it answered.
        assert it.near.fresh_until == 100.0 + STALENESS_SECONDS
        it.keep(b"k")
        await advance_when_awaited(0.25)
        await it.confirmed()
        server.replies[b"PING"] = HANG
        advance(STALENESS_SECONDS)
        assert it.near.get(b"k") == b"v"
        advance(0.001)
        assert it.near.get(b"k") is None


@in_fake_time
async def test_a_server_that_is_silent_is_left_and_asked_again_after_a_pause() -> None:
    async with server_that_tracks() as server, followed(server.url) as it:
        await it.fresh()
        it.keep(b"k")
        server.replies[b"PING"] = HANG
        advance(2.0)
        await until(lambda: it.troubles)
        assert it.troubles == ["no answer to PING"]
        assert (it.near.cleared, it.near.fresh_until) == (1, 0.0)
        server.replies[b"PING"] = "PONG"
        advance(0.25)
        await it.fresh()
        assert followings(server) == 2
        assert it.near.get(b"k") is None


@in_fake_time
async def test_a_lost_connection_empties_the_near_cache() -> None:
    async with server_that_tracks() as server, followed(server.url) as it:
        await it.fresh()
        it.keep(b"k")
        server.disconnect()
        await until(lambda: it.troubles)
        assert not it.near.is_fresh
        assert it.near.cleared == 1
        await advance_when_awaited(0.25)
        await it.fresh()
        assert it.near.get(b"k") is None


@in_fake_time
async def test_pauses_between_attempts_double_up_to_five_seconds() -> None:
    async with server_that_tracks() as server, followed(server.url) as it:
        server.replies[b"CLIENT TRACKING"] = Error("ERR unknown subcommand 'TRACKING'")
        for attempts, pause in enumerate((0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0), start=1):
            await until(lambda attempts=attempts: len(it.troubles) == attempts)
            assert followings(server) == attempts
            await advance_when_awaited(pause)
        assert set(it.troubles) == {"unknown subcommand 'TRACKING'"}
        # Nothing was near: there was nothing to drop.
        assert it.near.cleared == 0


@in_fake_time
async def test_a_connection_that_lasted_is_made_anew_after_the_shortest_pause() -> None:
    async with server_that_tracks() as server, followed(server.url) as it:
        server.replies[b"CLIENT TRACKING"] = Error("ERR not now")
        await advance_when_awaited(0.25)
        await until(lambda: len(it.troubles) == 2)
        server.replies[b"CLIENT TRACKING"] = "OK"
        await advance_when_awaited(0.5)
        await it.fresh()
        for _ in range(41):
            await advance_when_awaited(0.25)
            await it.confirmed()
        advance(0.1)
        server.disconnect()
        await advance_when_awaited(0.25)
        await it.fresh()


@in_fake_time
async def test_a_server_that_does_not_answer_at_first_is_left() -> None:
    async with server_that_tracks() as server, followed(server.url) as it:
        server.replies[b"HELLO"] = HANG
        await until(lambda: server.greeted)
        advance(2.0)
        await until(lambda: it.troubles)
        assert it.troubles == ["TimeoutError"]


@in_fake_time
async def test_all_nodes_of_a_cluster_are_followed_and_the_slowest_counts() -> None:
    async with server_that_tracks() as one, server_that_tracks() as other:
        one.replies[b"CLUSTER SLOTS"] = slots((0, 8191, one), (8192, 16383, other))
        other.replies[b"CLUSTER SLOTS"] = one.replies[b"CLUSTER SLOTS"]
        other.replies[b"PING"] = HANG
        async with followed(f"redis+cluster://127.0.0.1:{one.port}") as it:
            await until(lambda: (b"PING",) in one.greeted and (b"PING",) in other.greeted)
            assert not it.near.is_fresh
            # One that leaves is lost for all.
            other.disconnect()
            await until(lambda: it.troubles)
            other.replies[b"PING"] = "PONG"
            advance(0.25)
            await it.fresh()
            assert (followings(one), followings(other)) == (2, 2)
            it.keep(b"k", b"t")
            other.push(b"invalidate", [b"p:n:{7}:t"])
            await until(lambda: it.near.get(b"k") is None)


@in_fake_time
async def test_a_cluster_that_moved_is_looked_at_anew() -> None:
    async with server_that_tracks() as server, followed(server.url) as it:
        await it.fresh()
        it.keep(b"k")
        advance(0.1)
        it.tracking.begin_anew()
        assert it.near.get(b"k") is None
        await advance_when_awaited(0.25)
        await it.fresh()
        assert followings(server) == 2
        # It was asked for; nothing went wrong.
        assert it.troubles == []


@pytest.mark.parametrize("started", [True, False])
@in_fake_time
async def test_closing_drops_everything(started: bool) -> None:
    async with server_that_tracks() as server:
        it = Followed(server.url)
        if not started:
            await it.tracking.close()
            it.tracking.begin_anew()
            assert not it.near.is_fresh
        else:
            await it.fresh()
            it.keep(b"k")
            await it.tracking.close()
            assert it.near.get(b"k") is None
            await until(lambda: not server.writers)
        await it.servers.close()
