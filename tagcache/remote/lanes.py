"""Calls of scripts on their way to Redis: in order, many at once, and never for too long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from twisted.internet.defer import Deferred, fail

from tagcache.errors import BackendUnavailable, OutOfMemory
from tagcache.remote.scripts import Script

# Calls that travel together, and bytes of their arguments after which no more are added.
_MOST_TOGETHER = 256
_MUCH = 2**20
# Calls that may wait in a lane; more would only grow old there.
_MOST_WAITING = 10_000
Client = Redis | RedisCluster


class _Call:
    __slots__ = ("answer", "arguments", "deadline", "root", "script", "size")

    def __init__(
        self, script: Script, root: str, arguments: tuple[Any, ...], deadline: float
    ) -> None:
        self.answer: Deferred[Any] = Deferred()
        self.script = script
        self.root = root
        self.arguments = arguments
        self.deadline = deadline
        self.size = sum(len(each) for each in arguments if isinstance(each, bytes))


class Lane:
    """Calls scripts one after the other; those that wait travel together.

    A Deferred of ``call`` fires with what the script returns within ``timeout`` seconds, or
    fails with BackendUnavailable, or OutOfMemory. ``trouble`` is told each error that makes the
    backend unavailable; ``moved`` is called when a cluster may not be what it was.
    """

    def __init__(
        self,
        client: Client,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        trouble: Callable[[str], None],
        moved: Callable[[], object] = lambda: None,
    ) -> None:
        self.timeout = timeout
        self._moved = moved
        self._client = client
        self._loop = loop
        self._trouble = trouble
        self._waiting: deque[_Call] = deque()
        # By name and root: scripts that Redis knows already, and is not given the text of. One that
        # it does not know is refused, and what comes after it in the batch is carried out first.
        self._known: set[tuple[str, str]] = set()
        self._work: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def call(self, script: Script, root: str, *arguments: Any) -> Deferred[Any]:
        """Run a script on the partition with this root."""
        if len(self._waiting) >= _MOST_WAITING:
            return fail(BackendUnavailable("too many commands wait for the backend"))
        call = _Call(script, root, arguments, self._loop.time() + self.timeout)
        self._waiting.append(call)
        if self._work is None:
            self._work = self._loop.create_task(self._run())
        elif self._alarm is None:
            self._set_alarm()
        return call.answer

    async def close(self) -> None:
        """Give up what is under way."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        if self._alarm is not None:
            self._alarm.cancel()
        self._fail(list(self._waiting), "the server stops")
        self._waiting.clear()

    def _set_alarm(self) -> None:
        self._alarm = self._loop.call_at(self._waiting[0].deadline, self._give_up_late)

    def _give_up_late(self) -> None:
        """Answer to those that waited too long behind others."""
        self._alarm = None
        now = self._loop.time()
        late = []
        while self._waiting and self._waiting[0].deadline <= now:
            late.append(self._waiting.popleft())
        if self._waiting:
            self._set_alarm()
        self._fail(late, "timeout")

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                try:
                    async with asyncio.timeout_at(batch[0].deadline):
                        results = await self._send(batch)
                except asyncio.CancelledError:
                    self._fail(batch, "the server stops")
                    raise
                except TimeoutError:
                    self._trouble("it does not answer in time")
                    self._fail(batch, "timeout")
                except (RedisError, OSError, IndexError) as error:
                    # The cluster client raises IndexError where it knows no node.
                    self._trouble(str(error) or type(error).__name__)
                    self._fail(batch, "no connection")
                    await self._look_around()
                else:
                    for call, result in zip(batch, results, strict=True):
                        self._settle(call, result)
        finally:
            self._work = None

    def _next_batch(self) -> list[_Call]:
        batch: list[_Call] = []
        size = 0
        while self._waiting and len(batch) < _MOST_TOGETHER and size < _MUCH:
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        return batch

    async def _send(self, batch: Sequence[_Call]) -> list[Any]:
        results = await self._pipeline(batch)
        # A server that was restarted, or has just become the primary, does not know them.
        unknown = [n for n, result in enumerate(results) if isinstance(result, NoScriptError)]
        if unknown:
            self._known.clear()
            again = await self._pipeline([batch[n] for n in unknown])
            for n, result in zip(unknown, again, strict=True):
                results[n] = result
        if any(map(_is_out_of_date, results)):
            await self._look_around()
        return results

    async def _look_around(self) -> None:
        """Have a cluster asked anew, at the next use, which node has what."""
        if isinstance(self._client, RedisCluster):
            self._moved()
            with suppress(RedisError, OSError):
                await self._client.aclose()

    async def _pipeline(self, batch: Sequence[_Call]) -> list[Any]:
        pipeline: Any = (
            self._client.pipeline()
            if isinstance(self._client, RedisCluster)
            else self._client.pipeline(transaction=False)
        )
        told: set[tuple[str, str]] = set()
        for call in batch:
            script = call.script.name, call.root
            if script in self._known or script in told:
                how: tuple[Any, ...] = ("EVALSHA", call.script.digest)
            else:
                told.add(script)
                how = ("EVAL", call.script.text)
            pipeline.execute_command(*how, 1, call.root, *call.arguments)
        try:
            results: list[Any] = await pipeline.execute(raise_on_error=False)
        except BaseException:
            # Who answers next may be a server that was restarted.
            self._known.clear()
            raise
        if any(map(_is_out_of_date, results)):
            self._known.clear()
        else:
            self._known |= told
        return results

    def _settle(self, call: _Call, result: Any) -> None:
        if call.answer.called:
            return  # nobody waits any more
        if not isinstance(result, Exception):
            call.answer.callback(result)
        elif isinstance(result, OutOfMemoryError) or str(result).startswith("OOM"):
            call.answer.errback(OutOfMemory("the backend's memory is full"))
        elif type(result) is ResponseError:
            # The call itself is wrong. Where only the server can not serve, or not us, for
            # instance ClusterDownError, the class says so.
            call.answer.errback(result)
        elif isinstance(result, RedisError | RedisClusterException | OSError | TimeoutError):
            self._trouble(str(result) or type(result).__name__)
            self._fail([call], str(result))
        else:
            call.answer.errback(result)

    @staticmethod
    def _fail(calls: Sequence[_Call], why: str) -> None:
        for call in calls:
            if not call.answer.called:
                call.answer.errback(BackendUnavailable(why))


def _is_out_of_date(result: Any) -> bool:
    """Say whether this is what comes of asking a node that is gone, or not responsible now."""
    return isinstance(result, ConnectionError | ClusterDownError | MovedError)
