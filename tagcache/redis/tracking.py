"""Tracks changes in Redis for the near cache, by its client-side caching in broadcast mode."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from tagcache.redis.near import STALENESS_SECONDS, Near
from tagcache.redis.pipeline import Client

# When a PING is answered, every change before it has been reported.
_BEAT_SECONDS = 0.25
_SILENCE_SECONDS = 2.0
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0


class Tracking:
    """Follows every server, primaries and replicas, and reports each change to ``near``.

    If the connection to one of them is lost, the near cache is emptied and all are followed anew.
    Replicas report every change as well, so that none is missed when one becomes the primary.
    ``trouble`` is called with the reason of each loss.
    """

    def __init__(
        self,
        client: Client,
        prefix: str,
        near: Near,
        loop: asyncio.AbstractEventLoop,
        monotonic: Callable[[], float],
        trouble: Callable[[str], None],
    ) -> None:
        self._client = client
        self._prefixes = [f"{prefix}{kind}:".encode() for kind in "vnf"]
        self._near = near
        self._loop = loop
        self._monotonic = monotonic
        self._trouble = trouble
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        # When the last PING that was answered was sent, by connection.
        self._confirmed: dict[AbstractConnection, float] = {}

    def start(self) -> None:
        """Begin to follow the servers; failed attempts are repeated for ever."""
        self._task = self._loop.create_task(self._run())

    def begin_anew(self) -> None:
        """Empty the near cache and follow anew: the nodes of the cluster may have changed."""
        self._near.lose()
        if self._listening is not None:
            self._listening.cancel()

    async def close(self) -> None:
        """Stop following."""
        self._near.lose()
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
                self._near.lose()
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
        client: Any = self._client
        if not isinstance(client, RedisCluster):
            pool = client.connection_pool
            return [pool.connection_class(**_for_pushes(pool.connection_kwargs))]
        await client.initialize()
        return [
            node.connection_class(**_for_pushes(node.connection_kwargs))
            for node in client.get_nodes()
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
                        self._near.fresh_until = oldest + STALENESS_SECONDS
        finally:
            beating.cancel()

    async def _beat(self, connection: AbstractConnection, sent: deque[float]) -> None:
        with suppress(RedisError, OSError):  # the reader sees it as well
            while True:
                sent.append(self._monotonic())
                await connection.send_command("PING")
                await asyncio.sleep(_BEAT_SECONDS)

    async def _heard(self, message: list[Any]) -> list[Any]:
        names = message[1]
        if names is None:  # everything was flushed
            self._near.clear()
            return message
        values, tags, flushes = self._prefixes
        changed = []
        for name in names:
            _, _, rest = name.partition(b"}:")
            if name.startswith(values):
                self._near.changed(rest.partition(b":")[2])
            elif name.startswith(tags):
                changed.append(rest)
            elif name.startswith(flushes):
                self._near.clear()
        if changed:
            self._near.tags_changed(changed)
        return message


def _for_pushes(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "protocol": 3, "socket_timeout": None}


def _why(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
