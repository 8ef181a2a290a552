"""Calls of scripts on their way to servers, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ResponseError
from twisted.internet.defer import CancelledError

from tagcache.errors import BackendUnavailable, OutOfMemory
from tagcache.redis import scripts
from tagcache.redis.connection import connect
from tagcache.redis.pipeline import ScriptPipeline
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.topology import Address
from tests.unit.redis.scripted import (
    CLOSE,
    HANG,
    Error,
    ScriptedServer,
    advance,
    advance_when_awaited,
    evalsha,
    in_fake_time,
    result,
    slots,
    until,
)

ROOT = "p:{all}:"
OTHER = "p:{1}:"
TIMEOUT = 5.0


class Opened:
    """A pipeline, and what it told of."""

    def __init__(self, url: str, **options: Any) -> None:
        self.servers = connect(url, TIMEOUT, PolicyCheck(False))
        self.troubles: list[str] = []
        self.moves: list[str] = []
        self.pipeline = ScriptPipeline(
            self.servers,
            asyncio.get_running_loop(),
            TIMEOUT,
            self.troubles.append,
            lambda: self.moves.append("moved"),
            **options,
        )
        self.call = self.pipeline.call


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Opened]:
    it = Opened(url, **options)
    try:
        yield it
    finally:
        await it.pipeline.close()
        await it.servers.close()


@in_fake_time
async def test_calls_travel_together_in_their_order() -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        server.expect(*evalsha(scripts.PUT, ROOT, b"k", b"1"), answer=HANG)
        server.expect(*evalsha(scripts.DELETE, ROOT, b"k"), answer=1)
        server.expect(*evalsha(scripts.PUT, ROOT, b"k", b"2"), answer=1)
        it.call(scripts.PUT, ROOT, b"k", b"1").addErrback(lambda _: None)
        it.call(scripts.DELETE, ROOT, b"k").addErrback(lambda _: None)
        it.call(scripts.PUT, ROOT, b"k", b"2").addErrback(lambda _: None)
        # The second and the third were sent although the first is not answered.
        await until(lambda: len(server.heard) == 3)


@in_fake_time
async def test_each_call_gets_its_own_answer() -> None:
    async with ScriptedServer() as server, opened(server.url, most_together=2) as it:
        server.expect(*evalsha(scripts.DELETE, ROOT, b"a"), answer=1)
        server.expect(*evalsha(scripts.DELETE, ROOT, b"b"), answer=0)
        server.expect(*evalsha(scripts.TOTALS, ROOT), answer=[1, 2, b"three"])
        calls = [
            it.call(scripts.DELETE, ROOT, b"a"),
            it.call(scripts.DELETE, ROOT, b"b"),
            it.call(scripts.TOTALS, ROOT),
        ]
        assert [await result(call) for call in calls] == [1, 0, [1, 2, b"three"]]
        assert it.troubles == []


@in_fake_time
async def test_look_ups_that_wait_together_are_one_run_of_the_script() -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        server.expect(
            *evalsha(scripts.GET, ROOT, b"a", b"", b"b", b"1"),
            answer=[7, [b"v", 8, b"", [b"t"], []]],
        )
        server.expect(*evalsha(scripts.GET, OTHER, b"c", b""), answer=[b"w"])
        server.expect(*evalsha(scripts.DELETE, ROOT, b"a"), answer=1)
        server.expect(*evalsha(scripts.GET, ROOT, b"a", b""), answer=[Error("ERR of this one")])
        calls = [
            it.call(scripts.GET, ROOT, b"a", b""),
            it.call(scripts.GET, OTHER, b"c", b""),
            it.call(scripts.GET, ROOT, b"b", b"1"),
            it.call(scripts.DELETE, ROOT, b"a"),
            it.call(scripts.GET, ROOT, b"a", b""),
        ]
        first = [await result(call) for call in calls[:4]]
        assert first == [7, b"w", [b"v", 8, b"", [b"t"], []], 1]
        with pytest.raises(ResponseError, match="of this one"):
            await result(calls[4])
        # Where Redis refuses the whole run, all of its calls fail.
        server.expect(b"EVALSHA", answer=Error("WRONGTYPE it is a list"))
        calls = [it.call(scripts.GET, ROOT, key, b"") for key in (b"a", b"b")]
        for call in calls:
            with pytest.raises(ResponseError, match="it is a list"):
                await result(call)


@in_fake_time
async def test_few_look_ups_travel_together_while_values_are_large() -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        large = bytes(8 * 2**20)
        server.expect(*evalsha(scripts.GET, ROOT, b"a", b""), answer=[large])
        assert await result(it.call(scripts.GET, ROOT, b"a", b"")) == large
        # 16 MiB of answers together, and 1 MiB of them in one run.
        for key in b"bcde":
            server.expect(*evalsha(scripts.GET, ROOT, bytes([key]), b""), answer=[b"v"])
        calls = [it.call(scripts.GET, ROOT, bytes([key]), b"") for key in b"bcde"]
        assert [await result(call) for call in calls] == [b"v"] * 4
        # It was at most so large lately, and the guess halves.
        for _ in range(20):
            server.expect(*evalsha(scripts.GET, ROOT, b"a", b""), answer=[b"v"])
            await result(it.call(scripts.GET, ROOT, b"a", b""))
        server.expect(*evalsha(scripts.GET, ROOT, b"a", b"", b"b", b""), answer=[b"v", b"w"])
        calls = [it.call(scripts.GET, ROOT, key, b"") for key in (b"a", b"b")]
        assert [await result(call) for call in calls] == [b"v", b"w"]


@in_fake_time
async def test_a_script_that_the_server_does_not_know_is_sent_once_with_its_text() -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        unknown = Error("NOSCRIPT No matching script. Please use EVAL.")
        server.expect(*evalsha(scripts.DELETE, ROOT, b"a"), answer=unknown)
        server.expect(*evalsha(scripts.TOTALS, ROOT), answer=[5])
        server.expect(*evalsha(scripts.DELETE, ROOT, b"b"), answer=unknown)
        server.expect(b"EVAL", scripts.DELETE.text, 1, ROOT, b"a", answer=1)
        server.expect(*evalsha(scripts.DELETE, ROOT, b"b"), answer=0)
        calls = [
            it.call(scripts.DELETE, ROOT, b"a"),
            it.call(scripts.TOTALS, ROOT),
            it.call(scripts.DELETE, ROOT, b"b"),
        ]
        assert [await result(call) for call in calls] == [1, [5], 0]


@in_fake_time
async def test_a_server_that_hangs_makes_the_backend_unavailable_in_time() -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        server.expect(b"EVALSHA", answer=HANG)
        call = it.call(scripts.TOTALS, ROOT)
        await until(lambda: server.heard)
        advance(TIMEOUT - 0.001)
        await asyncio.sleep(0)
        assert not call.called
        advance(0.001)
        with pytest.raises(BackendUnavailable, match="timeout"):
            await result(call)
        assert it.troubles == ["no answer in time"]
        # What answers late is not taken for the answer to the next call.
        server.expect(*evalsha(scripts.DELETE, ROOT, b"k"), answer=1)
        assert await result(it.call(scripts.DELETE, ROOT, b"k")) == 1


@in_fake_time
async def test_calls_that_wait_behind_one_that_hangs_are_answered_in_time() -> None:
    async with ScriptedServer() as server, opened(server.url, most_together=1) as it:
        server.expect(*evalsha(scripts.DELETE, ROOT, b"a"), answer=HANG)
        first = it.call(scripts.DELETE, ROOT, b"a")
        second = it.call(scripts.DELETE, ROOT, b"b")
        await until(lambda: server.heard)
        advance(1.0)
        third = it.call(scripts.DELETE, ROOT, b"c")
        server.expect(*evalsha(scripts.DELETE, ROOT, b"c"), answer=1)
        advance(TIMEOUT - 1.0)
        for late in (first, second):
            with pytest.raises(BackendUnavailable, match="timeout"):
                await result(late)
        assert await result(third) == 1


@in_fake_time
async def test_a_call_that_was_cancelled_does_not_disturb_the_others() -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        for key, answer in ((b"a", 1), (b"b", Error("READONLY it is a replica")), (b"c", 0)):
            server.expect(*evalsha(scripts.DELETE, ROOT, key), answer=answer)
        calls = [it.call(scripts.DELETE, ROOT, key) for key in (b"a", b"b", b"c")]
        for call in calls[:2]:
            call.cancel()
            with pytest.raises(CancelledError):
                await result(call)
        assert await result(calls[2]) == 0
        assert len(server.heard) == 3


@in_fake_time
async def test_a_connection_that_is_closed_fails_its_calls_and_is_made_anew() -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        server.expect(*evalsha(scripts.DELETE, ROOT, b"a"), answer=1)
        server.expect(*evalsha(scripts.DELETE, ROOT, b"b"), answer=CLOSE)
        calls = [it.call(scripts.DELETE, ROOT, key) for key in (b"a", b"b")]
        # Nobody knows which were carried out: none is sent again, and each caller is told.
        for call in calls:
            with pytest.raises(BackendUnavailable, match="no connection"):
                await result(call)
        assert len(it.troubles) == 1
        server.expect(*evalsha(scripts.DELETE, ROOT, b"c"), answer=1)
        assert await result(it.call(scripts.DELETE, ROOT, b"c")) == 1


@in_fake_time
async def test_a_server_that_is_away_makes_the_backend_unavailable() -> None:
    async with ScriptedServer() as server:
        url = server.url
    async with opened(url) as it:
        with pytest.raises(BackendUnavailable, match="no connection"):
            await result(it.call(scripts.TOTALS, ROOT))
        assert "127.0.0.1" in it.troubles[0]


@pytest.mark.parametrize(
    ("error", "raised", "why", "troubles"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", OutOfMemory, "is full", 0),
        # Redis 6.2 puts the error of a command into a sentence.
        (
            "ERR Error running script (call to f_0): @user_script:9: @user_script: 9: -OOM command "
            "not allowed when used memory > 'maxmemory'.",
            OutOfMemory,
            "is full",
            0,
        ),
        # redis-py takes this for an error of the connection.
        ("LOADING Redis is loading it", BackendUnavailable, "no connection", 1),
        ("READONLY You can't write against a read only replica.", BackendUnavailable, "replica", 1),
        ("NOPERM User x has no permissions", BackendUnavailable, "no permissions", 1),
        ("NOREPLICAS Not enough good replicas to write.", BackendUnavailable, "NOREPLICAS", 1),
        ("MISCONF Redis is configured to save RDB snapshots", BackendUnavailable, "MISCONF", 1),
        ("MASTERDOWN Link with MASTER is down", BackendUnavailable, "Link with MASTER", 1),
        ("BUSY Redis is busy running a script", BackendUnavailable, "BUSY", 1),
        ("SOMETHING that nobody knows yet", BackendUnavailable, "nobody knows", 1),
        (
            "ERR Error running script (call to f_0): @user_script:9: @user_script: 9: -NOREPLICAS "
            "Not enough good replicas to write.",
            BackendUnavailable,
            "NOREPLICAS",
            1,
        ),
        (
            "ERR The user executing the script can't run this command or subcommand script: f",
            BackendUnavailable,
            "The user executing",
            1,
        ),
        # Of Valkey.
        (
            "ERR ACL failure in script: User x has no permissions to run the 'hset' command",
            BackendUnavailable,
            "ACL failure",
            1,
        ),
        ("ERR Script attempted to read nothing", ResponseError, "read nothing", 0),
        ("WRONGTYPE Operation against a key", ResponseError, "against a key", 0),
    ],
)
@in_fake_time
async def test_errors_of_the_server(
    error: str, raised: type[Exception], why: str, troubles: int
) -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        server.expect(b"EVALSHA", answer=Error(error))
        with pytest.raises(raised, match=why):
            await result(it.call(scripts.PUT, ROOT, b"k", b"v"))
        assert len(it.troubles) == troubles


@in_fake_time
async def test_no_more_calls_wait_than_can_be_answered_in_time() -> None:
    async with ScriptedServer() as server, opened(server.url, most_together=1) as it:
        server.expect(b"EVALSHA", answer=HANG)
        calls = [it.call(scripts.DELETE, ROOT, b"k")]
        await until(lambda: server.heard)
        calls += [it.call(scripts.DELETE, ROOT, b"k") for _ in range(10_000)]
        with pytest.raises(BackendUnavailable, match="too many commands"):
            await result(it.call(scripts.DELETE, ROOT, b"k"))
        await it.pipeline.close()
        for call in calls:
            with pytest.raises(BackendUnavailable, match="the server is stopping"):
                await result(call)


@in_fake_time
async def test_no_more_bytes_wait_than_the_memory_allows() -> None:
    async with ScriptedServer() as server, opened(server.url, most_together=1) as it:
        server.expect(b"EVALSHA", answer=HANG)
        calls = [it.call(scripts.DELETE, ROOT, b"k")]
        await until(lambda: server.heard)
        large = bytes(33 * 2**20)
        calls.append(it.call(scripts.PUT, ROOT, b"k", large))
        with pytest.raises(BackendUnavailable, match="too many commands"):
            await result(it.call(scripts.PUT, ROOT, b"k", large))
        calls.append(it.call(scripts.PUT, ROOT, b"k", b"small"))
        await it.pipeline.close()
        for call in calls:
            with pytest.raises(BackendUnavailable, match="the server is stopping"):
                await result(call)


@in_fake_time
async def test_a_closed_pipeline_takes_no_calls() -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        server.expect(*evalsha(scripts.TOTALS, ROOT), answer=[0])
        assert await result(it.call(scripts.TOTALS, ROOT)) == [0]
        await it.pipeline.close()
        with pytest.raises(BackendUnavailable, match="the server is stopping"):
            await result(it.call(scripts.TOTALS, ROOT))


@in_fake_time
async def test_a_slot_that_has_moved_is_asked_for_where_it_is() -> None:
    async with ScriptedServer() as old, ScriptedServer() as new:
        old.replies[b"CLUSTER SLOTS"] = slots((0, 16383, old))
        url = f"redis+cluster://127.0.0.1:{old.port}"
        async with opened(url) as it:
            moved = Error(f"MOVED {key_slot(ROOT.encode())} 127.0.0.1:{new.port}")
            old.expect(b"EVALSHA", answer=moved)
            new.expect(*evalsha(scripts.DELETE, ROOT, b"k"), answer=1)
            assert await result(it.call(scripts.DELETE, ROOT, b"k")) == 1
            assert it.troubles == []


def on_its_way(other: ScriptedServer, root: str = ROOT) -> Error:
    return Error(f"ASK {key_slot(root.encode())} 127.0.0.1:{other.port}")


@asynccontextmanager
async def cluster_of_two() -> AsyncIterator[tuple[ScriptedServer, ScriptedServer, Opened]]:
    """Two servers, the first with the slot of ROOT and the second with that of OTHER."""
    border = 8191
    assert key_slot(ROOT.encode()) <= border < key_slot(OTHER.encode())
    async with ScriptedServer() as one, ScriptedServer() as two:
        for server in (one, two):
            server.replies[b"CLUSTER SLOTS"] = slots((0, border, one), (border + 1, 16383, two))
        async with opened(f"redis+cluster://127.0.0.1:{two.port}") as it:
            yield one, two, it


@in_fake_time
async def test_a_slot_that_is_being_moved_is_waited_for() -> None:
    async with cluster_of_two() as (source, target, it):
        for key in (b"a", b"b"):
            server_answers = evalsha(scripts.DELETE, ROOT, key)
            source.expect(*server_answers, answer=on_its_way(target))
        calls = [it.call(scripts.DELETE, ROOT, key) for key in (b"a", b"b")]
        await until(lambda: not source.script)
        # The other partition goes on, and what comes later waits behind.
        target.expect(*evalsha(scripts.TOTALS, OTHER), answer=[0])
        assert await result(it.call(scripts.TOTALS, OTHER)) == [0]
        calls.append(it.call(scripts.DELETE, ROOT, b"c"))
        for number, key in enumerate((b"a", b"b", b"c")):
            source.expect(*evalsha(scripts.DELETE, ROOT, key), answer=number)
        await advance_when_awaited(0.02)
        assert [await result(call) for call in calls] == [0, 1, 2]
        assert it.troubles == []


UNSERVED = Error("CLUSTERDOWN Hash slot not served")


@in_fake_time
async def test_the_partitions_of_a_node_that_has_left_are_where_the_others_say() -> None:
    async with cluster_of_two() as (gone, living, it):
        gone.expect(*evalsha(scripts.TOTALS, ROOT), answer=[0])
        assert await result(it.call(scripts.TOTALS, ROOT)) == [0]
        # It answers first, and knows nobody.
        gone.replies[b"CLUSTER SLOTS"] = []
        living.replies[b"CLUSTER SLOTS"] = slots((0, 16383, living))
        gone.expect(b"EVALSHA", answer=UNSERVED)
        living.expect(*evalsha(scripts.DELETE, ROOT, b"a"), answer=1)
        assert await result(it.call(scripts.DELETE, ROOT, b"a")) == 1
        assert it.troubles == []


@pytest.mark.parametrize("is_listed", [True, False])
@in_fake_time
async def test_a_slot_that_nobody_serves_is_unavailable_at_once(is_listed: bool) -> None:
    async with cluster_of_two() as (one, two, it):
        two.expect(*evalsha(scripts.TOTALS, OTHER), answer=[0])
        assert await result(it.call(scripts.TOTALS, OTHER)) == [0]
        one.expect(b"EVALSHA", answer=UNSERVED)
        if not is_listed:
            one.replies[b"CLUSTER SLOTS"] = two.replies[b"CLUSTER SLOTS"] = slots(
                (8192, 16383, two)
            )
        with pytest.raises(BackendUnavailable, match="no server has its slot"):
            await result(it.call(scripts.DELETE, ROOT, b"a"))
        two.expect(*evalsha(scripts.TOTALS, OTHER), answer=[0])
        assert await result(it.call(scripts.TOTALS, OTHER)) == [0]


@in_fake_time
async def test_a_slot_that_stays_on_its_way_is_unavailable() -> None:
    async with cluster_of_two() as (source, target, it):
        source.expect(b"EVALSHA", answer=on_its_way(target))
        call = it.call(scripts.DELETE, ROOT, b"a")
        await until(lambda: not source.script)
        advance(TIMEOUT)
        with pytest.raises(BackendUnavailable, match="slot is being moved"):
            await result(call)
        assert "slot is being moved" in it.troubles[0]


@in_fake_time
async def test_what_was_overtaken_is_not_sent_again() -> None:
    async with cluster_of_two() as (source, target, it):
        source.expect(*evalsha(scripts.DELETE, ROOT, b"a"), answer=on_its_way(target))
        source.expect(*evalsha(scripts.DELETE, ROOT, b"b"), answer=1)
        calls = [it.call(scripts.DELETE, ROOT, key) for key in (b"a", b"b")]
        with pytest.raises(BackendUnavailable):
            await result(calls[0])
        assert await result(calls[1]) == 1


@in_fake_time
async def test_look_ups_that_overtook_others_are_sent_again_behind_them() -> None:
    async with cluster_of_two() as (source, target, it):
        # Of an unknown length: two in a run.
        source.expect(b"EVALSHA", answer=on_its_way(target))
        source.expect(*evalsha(scripts.GET, ROOT, b"c", b""), answer=[1])
        calls = [it.call(scripts.GET, ROOT, key, b"") for key in (b"a", b"b", b"c")]
        await until(lambda: not source.script)
        keys = [each for key in (b"a", b"b", b"c") for each in (key, b"")]
        source.expect(*evalsha(scripts.GET, ROOT, *keys), answer=[2, 3, 4])
        await advance_when_awaited(0.02)
        assert [await result(call) for call in calls] == [2, 3, 4]
        assert it.troubles == []


@in_fake_time
async def test_a_look_up_is_not_sent_again_behind_a_change() -> None:
    async with cluster_of_two() as (source, target, it):
        source.expect(b"EVALSHA", answer=on_its_way(target))
        source.expect(*evalsha(scripts.GET, ROOT, b"c", b""), answer=[1])
        source.expect(*evalsha(scripts.DELETE, ROOT, b"a"), answer=1)
        calls = [it.call(scripts.GET, ROOT, key, b"") for key in (b"a", b"b", b"c")]
        calls.append(it.call(scripts.DELETE, ROOT, b"a"))
        for call in calls[:2]:
            with pytest.raises(BackendUnavailable):
                await result(call)
        assert [await result(call) for call in calls[2:]] == [1, 1]


def told(home: bytes, role: bytes = b"master", ids: tuple[bytes, bytes] = (b"", b"0")) -> bytes:
    """What a server tells of itself; ``ids``: its replication ID, and that of its last primary."""
    lines = [b"maxmemory_policy:noeviction", b"run_id:" + home, b"role:" + role]
    lines += [b"master_replid:" + ids[0], b"master_replid2:" + ids[1], b""]
    return b"\r\n".join(lines)


@in_fake_time
async def test_a_partition_that_was_elsewhere_is_adopted_before_anything_is_read() -> None:
    async with cluster_of_two() as (one, two, it):
        one.replies[b"INFO"], two.replies[b"INFO"] = told(b"new"), told(b"other")
        two.expect(*evalsha(scripts.TOTALS, OTHER, "other"), answer=[0])
        assert await result(it.call(scripts.TOTALS, OTHER)) == [0]
        await it.servers.look()
        one.expect(
            *evalsha(scripts.GET, ROOT, b"k", b"", "new"),
            answer=Error("HOME of this partition was old"),
        )
        # The other server might have moved it.
        one.expect(b"EVAL", scripts.ADOPT.text, 1, ROOT, "other", "new", answer=0)
        one.expect(*evalsha(scripts.GET, ROOT, b"k", b"", "new"), answer=[7])
        assert await result(it.call(scripts.GET, ROOT, b"k", b"")) == 7
        assert it.troubles == []
        # Where that is not wanted, no home is told.
        it.servers.configure(False, 0, 0)
        one.expect(*evalsha(scripts.GET, ROOT, b"k", b"", b""), answer=[7])
        assert await result(it.call(scripts.GET, ROOT, b"k", b"")) == 7


@in_fake_time
async def test_a_partition_is_kept_that_was_seen_on_its_way() -> None:
    async with cluster_of_two() as (source, target, it):
        source.replies[b"INFO"], target.replies[b"INFO"] = told(b"old"), told(b"new")
        source.expect(b"EVALSHA", answer=on_its_way(target))
        call = it.call(scripts.DELETE, ROOT, b"a")
        await until(lambda: not source.script)
        # It has given away its last slot, and is a replica of the other one now.
        source.replies[b"INFO"] = told(b"new", b"slave")
        moved = Error(f"MOVED {key_slot(ROOT.encode())} 127.0.0.1:{target.port}")
        source.expect(b"EVALSHA", answer=moved)
        target.expect(b"EVALSHA", answer=Error("HOME of this partition was old"))
        target.expect(b"EVAL", scripts.ADOPT.text, 1, ROOT, "old", "new", answer=1)
        target.expect(*evalsha(scripts.DELETE, ROOT, b"a", "new"), answer=1)
        await advance_when_awaited(0.02)
        assert await result(call) == 1


@in_fake_time
async def test_the_primary_before_a_replica_took_over_has_moved_nothing() -> None:
    async with cluster_of_two() as (one, two, it):
        # It does not know yet that it was replaced.
        one.replies[b"INFO"], two.replies[b"INFO"] = (
            told(b"new", ids=(b"2", b"1")),
            told(b"old", ids=(b"1", b"0")),
        )
        one.expect(b"EVALSHA", answer=Error("HOME of this partition was old"))
        one.expect(b"EVAL", scripts.ADOPT.text, 1, ROOT, "new", answer=0)
        one.expect(*evalsha(scripts.TOTALS, ROOT, "new"), answer=[0])
        assert await result(it.call(scripts.TOTALS, ROOT)) == [0]


@in_fake_time
async def test_a_replica_has_no_partition() -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        server.replies[b"INFO"] = told(b"new", b"slave")
        server.expect(
            *evalsha(scripts.TOTALS, ROOT, "a replica"),
            answer=Error("HOME of this partition was new"),
        )
        with pytest.raises(BackendUnavailable, match="is a replica"):
            await result(it.call(scripts.TOTALS, ROOT))


@in_fake_time
async def test_changes_wait_for_replicas() -> None:
    async with ScriptedServer() as server, opened(server.url) as it:
        it.servers.configure(True, 2, 50)
        for confirmed in (2, 1):
            server.expect(*evalsha(scripts.GET, ROOT, b"k", b""), answer=[b"v"])
            server.expect(*evalsha(scripts.DELETE, ROOT, b"k"), answer=1)
            server.expect(b"WAIT", 2, 50, answer=confirmed)
            look_up = it.call(scripts.GET, ROOT, b"k", b"")
            change = it.call(scripts.DELETE, ROOT, b"k")
            assert await result(look_up) == b"v"
            if confirmed == 2:
                assert await result(change) == 1
            else:
                with pytest.raises(BackendUnavailable, match="1 of 2 replicas"):
                    await result(change)
        # What changes nothing does not wait.
        server.expect(*evalsha(scripts.TOTALS, ROOT), answer=[0])
        assert await result(it.call(scripts.TOTALS, ROOT)) == [0]


@pytest.mark.parametrize("answer", [CLOSE, HANG], ids=["dies", "hangs"])
@in_fake_time
async def test_a_fail_over_is_noticed_in_a_tenth_of_a_second(answer: Any) -> None:
    async with cluster_of_two() as (dead, living, it):
        for root, server in ((ROOT, dead), (OTHER, living)):
            server.expect(*evalsha(scripts.TOTALS, root), answer=[0])
            assert await result(it.call(scripts.TOTALS, root)) == [0]
        dead.replies[b"CLUSTER SLOTS"] = answer
        dead.expect(b"EVALSHA", answer=answer)
        call = it.call(scripts.DELETE, ROOT, b"a")
        await until(lambda: not dead.script)
        # It has taken over, and no call has to fail for that to be noticed.
        living.replies[b"CLUSTER SLOTS"] = slots((0, 16383, living))
        living.expect(*evalsha(scripts.DELETE, ROOT, b"b"), answer=1)
        asked = living.greeted.count((b"CLUSTER", b"SLOTS"))
        advance(0.1)
        with pytest.raises(BackendUnavailable):
            await result(call)
        await until(lambda: living.greeted.count((b"CLUSTER", b"SLOTS")) > asked)
        await until(lambda: it.servers.topology.primaries == [Address("127.0.0.1", living.port)])
        assert await result(it.call(scripts.DELETE, ROOT, b"b")) == 1


@pytest.mark.parametrize(
    "answer", [Error("CLUSTERDOWN The cluster is down"), CLOSE], ids=["down", "closed"]
)
@in_fake_time
async def test_a_cluster_that_fails_is_looked_at_anew(answer: Any) -> None:
    async with ScriptedServer() as server:
        server.replies[b"CLUSTER SLOTS"] = slots((0, 16383, server))
        async with opened(f"redis+cluster://127.0.0.1:{server.port}") as it:
            server.expect(b"EVALSHA", answer=answer)
            with pytest.raises(BackendUnavailable):
                await result(it.call(scripts.DELETE, ROOT, b"k"))
            assert it.moves
            assert it.troubles
            asked = server.greeted.count((b"CLUSTER", b"SLOTS"))
            server.expect(*evalsha(scripts.DELETE, ROOT, b"k"), answer=1)
            assert await result(it.call(scripts.DELETE, ROOT, b"k")) == 1
            assert server.greeted.count((b"CLUSTER", b"SLOTS")) > asked
