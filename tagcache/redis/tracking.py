"""Track changes in Redis for the near caches, with client-side caching in broadcast mode."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from tagcache.model.numbered import Numbered
from tagcache.redis.near import STALENESS_SECONDS, Near
from tagcache.redis.roots import database_of
from tagcache.redis.servers import Servers

# Seconds between PINGs. When a PING is answered, every change before it has been reported.
_BEAT_SECONDS = 0.25
_SILENCE_SECONDS = 2.0
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0


class Tracking:
    """Follows every server, primaries and replicas, and reports each change to ``nears``.

    ``nears`` are the near caches by the number of their database. If the connection to a server is
    lost, they are emptied, and all servers are followed anew. Replicas report every change, too, so
    that none is missed when one becomes the primary. ``trouble`` is called with the reason of each
    loss.
    """

    def __init__(
        self,
        servers: Servers,
        prefix: str,
        nears: Numbered[Near],
        loop: asyncio.AbstractEventLoop,
        monotonic: Callable[[], float],
        trouble: Callable[[str], None],
    ) -> None:
        self._servers = servers
        self._prefixes = [f"{prefix}{kind}:".encode() for kind in "vnf"]
        self._nears = nears
        self._loop = loop
        self._monotonic = monotonic
        self._trouble = trouble
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        # When the last PING that was answered was sent, by connection.
        self._confirmed: dict[AbstractConnection, float] = {}

    def start(self) -> None:
        """Start following the servers; failed attempts are repeated forever."""
        self._task = self._loop.create_task(self._run())

    def begin_anew(self) -> None:
        """Empty the near caches and follow anew: the nodes of the cluster may have changed."""
        self._lose()
        if self._listening is not None:
            self._listening.cancel()

    async def close(self) -> None:
        """Stop following."""
        self._lose()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = self._monotonic()
            self._listening = self._loop.create_task(self._listen_to_all())
            try:
                await asyncio.wait([self._listening])
            finally:
                self._listening.cancel()
                self._lose()
            if not self._listening.cancelled():
                error = self._listening.exception()
                if error is not None:
                    self._trouble(_why(error))
            if self._monotonic() - began > 2 * _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _listen_to_all(self) -> None:
        connections = await self._connections()
        self._confirmed = dict.fromkeys(connections, 0.0)
        try:
            async with asyncio.TaskGroup() as group:
                for connection in connections:
                    group.create_task(self._listen_to(connection))
        finally:
            for connection in connections:
                with suppress(RedisError, OSError):
                    await connection.disconnect(nowait=True)

    async def _connections(self) -> list[AbstractConnection]:
        return [
            self._servers.dialer.dial(address, protocol=3)
            for address in await self._servers.known_nodes()
        ]

    async def _listen_to(self, connection: Any) -> None:
        sent: deque[float] = deque()
        async with asyncio.timeout(_SILENCE_SECONDS):
            await connection.connect()
            connection._parser.set_invalidation_push_handler(self._heard)
            words = [word for prefix in self._prefixes for word in (b"PREFIX", prefix)]
            await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", *words)
            await connection.read_response()
        beating = self._loop.create_task(self._beat(connection, sent))
        try:
            while True:
                said = await connection.read_response(timeout=_SILENCE_SECONDS, push_request=True)
                if said is None:
                    raise TimeoutError("no answer to PING")
                if said in (b"PONG", "PONG"):
                    self._confirmed[connection] = sent.popleft()
                    oldest = min(self._confirmed.values())
                    if oldest:
                        for _, near in self._nears:
                            near.fresh_until = oldest + STALENESS_SECONDS
        finally:
            beating.cancel()

    async def _beat(self, connection: AbstractConnection, sent: deque[float]) -> None:
        with suppress(RedisError, OSError):  # The reader gets the same error.
            while True:
                sent.append(self._monotonic())
                await connection.send_command("PING")
                await asyncio.sleep(_BEAT_SECONDS)

    def _lose(self) -> None:
        for _, near in self._nears:
            near.lose()

    async def _heard(self, message: list[Any]) -> list[Any]:
        names = message[1]
        if names is None:  # everything was flushed
            for _, near in self._nears:
                near.clear()
            return message
        values, tags, flushes = self._prefixes
        changed: dict[int, list[bytes]] = {}
        for name in names:
            root, _, rest = name.partition(b"}:")
            number = database_of(root.rpartition(b"{")[2])
            used = self._nears.used(number)
            if used is None:
                continue
            if name.startswith(values):
                used.changed(rest.partition(b":")[2])
            elif name.startswith(tags):
                changed.setdefault(number, []).append(rest)
            elif name.startswith(flushes):
                used.clear()
        for number, some in changed.items():
            self._nears[number].tags_changed(some)
        return message


def _why(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
