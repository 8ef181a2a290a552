"""The channel on which servers tell each other that leases have ended."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.logger import capturedLogs

from tagcache.redis import lease_ends
from tagcache.redis.connection import connect
from tagcache.redis.lease_ends import LeaseEnds
from tagcache.redis.policy import PolicyCheck
from tests.unit.redis.scripted import (
    HANG,
    Error,
    ScriptedServer,
    advance_when_awaited,
    in_fake_time,
    until,
)

SUBSCRIBED = [b"subscribe", b"p:ends", 1]


class Listener:
    """Listens at a scripted server; ``told`` has what it heard, None for everything."""

    def __init__(self, server: ScriptedServer) -> None:
        self.told: list[Any] = []
        self.servers = connect(server.url, 5.0, PolicyCheck(False))
        self.ends = LeaseEnds(
            self.servers,
            "p:",
            asyncio.get_running_loop(),
            lambda database, key: self.told.append((database, key)),
            lambda database, root: self.told.append((database, root)),
            lambda: self.told.append(None),
        )
        self.ends.start()

    async def close(self) -> None:
        await self.ends.close()
        await self.servers.close()


def message(data: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$6\r\np:ends\r\n$%d\r\n%b\r\n" % (len(data), data)


@in_fake_time
async def test_ends_are_passed_on_with_the_number_of_their_database() -> None:
    async with ScriptedServer() as server:
        server.expect("SUBSCRIBE", "p:ends", answer=SUBSCRIBED)
        listener = Listener(server)
        assert not listener.ends.is_heard
        # Whatever ended before that was not heard.
        await until(lambda: listener.told == [None])
        assert listener.ends.is_heard
        server.writers[-1].write(message(b"{all}:k}:1") + message(b"{3.17}:key"))
        await until(lambda: len(listener.told) == 3)
        assert listener.told == [None, (0, b"k}:1"), (3, b"key")]
        await listener.close()


@in_fake_time
async def test_the_flush_of_a_partition_ends_all_its_leases() -> None:
    async with ScriptedServer() as server:
        server.expect("SUBSCRIBE", answer=SUBSCRIBED)
        listener = Listener(server)
        await until(lambda: listener.ends.is_heard)
        server.writers[-1].write(message(b"{all}:") + message(b"{3.17}:"))
        await until(lambda: len(listener.told) == 3)
        assert listener.told == [None, (0, "p:{all}:"), (3, "p:{3.17}:")]
        await listener.close()


@in_fake_time
async def test_a_message_of_another_program_ends_nothing() -> None:
    async with ScriptedServer() as server:
        server.expect("SUBSCRIBE", answer=SUBSCRIBED)
        listener = Listener(server)
        await until(lambda: listener.ends.is_heard)
        with capturedLogs() as logged:
            server.writers[-1].write(message(b"{x.y}:k") + message(b"\xff") + message(b"{all}:k"))
            await until(lambda: (0, b"k") in listener.told)
        # Any lease may have ended.
        assert listener.told == [None, None, (0, "p:\ufffd"), (0, b"k")]
        assert listener.ends.is_heard
        assert "not a message of a TagCache server" in logged[0]["log_format"]
        await listener.close()


@in_fake_time
async def test_a_connection_that_is_lost_is_made_again() -> None:
    async with ScriptedServer() as server:
        server.expect("SUBSCRIBE", answer=Error("NOPERM no"))
        server.expect("SUBSCRIBE", answer=SUBSCRIBED)
        listener = Listener(server)
        await advance_when_awaited(0.25)
        await until(lambda: listener.ends.is_heard)
        server.disconnect()
        await until(lambda: not listener.ends.is_heard)
        assert listener.told == [None, None]
        server.expect("SUBSCRIBE", answer=SUBSCRIBED)
        await advance_when_awaited(lease_ends._FIRST_PAUSE)
        await until(lambda: listener.ends.is_heard)
        assert listener.told == [None] * 3
        await listener.close()


@in_fake_time
async def test_a_server_that_hangs_is_noticed() -> None:
    async with ScriptedServer() as server:
        server.expect("SUBSCRIBE", answer=SUBSCRIBED)
        server.expect("PING", answer=HANG)
        listener = Listener(server)
        await until(lambda: listener.ends.is_heard)
        await advance_when_awaited(lease_ends._SILENCE_SECONDS)
        await until(lambda: (b"PING",) in server.heard)
        assert listener.ends.is_heard
        await advance_when_awaited(lease_ends._SILENCE_SECONDS)
        await until(lambda: not listener.ends.is_heard)
        await listener.close()
