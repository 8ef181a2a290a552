"""Listen for the ends of leases at other servers, on a channel of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError, ResponseError
from twisted.logger import Logger

from tagcache.redis.roots import database_of
from tagcache.redis.servers import Servers

# After this many seconds without a message, PING checks that the connection still works.
_SILENCE_SECONDS = 5.0
_CONNECT_SECONDS = 2.0
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0

log = Logger(namespace="tagcache.backend")


class LeaseEnds:
    """Listens at one server: in a cluster, each server passes on the messages of the others.

    ``ended`` is called with the number of a database and a key; ``ended_in`` with the number of a
    database and the root of a partition, all of whose leases have ended; ``all_ended`` when
    something may have been missed. ``is_heard`` says whether it listens.
    """

    def __init__(
        self,
        servers: Servers,
        prefix: str,
        loop: asyncio.AbstractEventLoop,
        ended: Callable[[int, bytes], None],
        ended_in: Callable[[int, str], None],
        all_ended: Callable[[], None],
    ) -> None:
        self.is_heard = False
        self._servers = servers
        self._prefix = prefix
        self._channel = f"{prefix}ends"
        self._loop = loop
        self._ended = ended
        self._ended_in = ended_in
        self._all_ended = all_ended
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start listening; failed attempts are repeated forever."""
        self._task = self._loop.create_task(self._run())

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause, attempts = _FIRST_PAUSE, 0
        is_logged = False
        while True:
            try:
                nodes = await self._servers.known_nodes()
                await self._listen(self._servers.dialer.dial(nodes[attempts % len(nodes)]))
            except (RedisError, OSError) as error:
                if self.is_heard:
                    pause, is_logged = _FIRST_PAUSE, False
                # For commands, it is already logged that a server cannot be reached.
                if isinstance(error, ResponseError) and not is_logged:
                    is_logged = True
                    log.warn(
                        "the ends of leases are not heard: {why}. Requests that wait for a value "
                        "ask again twice a second",
                        why=str(error),
                    )
            if self.is_heard:
                self.is_heard = False
                self._all_ended()
            attempts += 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _listen(self, connection: Any) -> None:
        """Pass on published messages until that fails. Raises RedisError, OSError."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await connection.connect()
                await connection.send_command("SUBSCRIBE", self._channel)
                await connection.read_response()
            self.is_heard = True
            self._all_ended()
            is_asked = False
            while True:
                said = await connection.read_response(timeout=_SILENCE_SECONDS)
                if said is not None:
                    is_asked = False
                    if said[0] == b"message":
                        self._hear(said[2])
                elif is_asked:
                    raise TimeoutError("no answer to PING")
                else:
                    is_asked = True
                    await connection.send_command("PING")
        finally:
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    def _hear(self, message: bytes) -> None:
        tag, _, key = message.partition(b"}:")
        try:
            database = database_of(tag.removeprefix(b"{"))
        except ValueError:
            log.warn("not a message of a TagCache server: {message}", message=message[:100])
            self._all_ended()
            return
        if key:
            self._ended(database, key)
        else:
            self._ended_in(database, self._prefix + message.decode(errors="replace"))
