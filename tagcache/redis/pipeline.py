"""Calls scripts in Redis: in order, in batches, and within a time limit."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, repeat
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
from tagcache.redis.scripts import Script

# Calls in a batch, and bytes of arguments from which on a batch is full.
_MOST_TOGETHER = 256
_MUCH = 2**20
# Bytes of answers that a batch may bring, estimated from earlier answers.
_MUCH_TO_COME = 16 * 2**20
_UNKNOWN = 2**20
# Look-ups in one run of a script: Redis serves nobody else meanwhile.
_MOST_AT_ONCE = 64
# Calls that may wait, and bytes of their arguments; more would only run into the timeout.
_MOST_WAITING = 10_000
_MOST_WAITING_BYTES = 64 * 2**20
_STOPS = "the server is stopping"
# Redis 6.2 puts the error of a command in a script inside a sentence.
_OOM = re.compile(r"(?:^|-)OOM ")
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


class ScriptPipeline:
    """Calls scripts in order; calls that wait are sent as one batch.

    The Deferred of ``call`` fires with the result of the script within ``timeout`` seconds, or
    fails with BackendUnavailable or OutOfMemory. ``trouble`` is called with the text of each error
    that makes the backend unavailable, ``moved`` when the nodes of a cluster may have changed. A
    batch has at most ``most_together`` calls.
    """

    def __init__(
        self,
        client: Client,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        trouble: Callable[[str], None],
        moved: Callable[[], object] = lambda: None,
        most_together: int = _MOST_TOGETHER,
    ) -> None:
        self._most_together = most_together
        self.timeout = timeout
        self._moved = moved
        self._client = client
        self._loop = loop
        self._trouble = trouble
        self._waiting: deque[_Call] = deque()
        self._waiting_bytes = 0
        # Bytes that the answer to a call is expected to have.
        self._expected = _UNKNOWN
        self._work: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False

    def call(self, script: Script, root: str, *arguments: Any) -> Deferred[Any]:
        """Run a script in the partition with this root."""
        if self._closed:
            return fail(BackendUnavailable(_STOPS))
        call = _Call(script, root, arguments, self._loop.time() + self.timeout)
        waiting = len(self._waiting)
        if waiting >= _MOST_WAITING or (
            waiting and self._waiting_bytes + call.size > _MOST_WAITING_BYTES
        ):
            return fail(BackendUnavailable("too many commands wait for the backend"))
        self._put_last(call)
        if self._work is None:
            self._work = self._loop.create_task(self._run())
        elif self._alarm is None:
            self._set_alarm()
        return call.answer

    async def close(self) -> None:
        """Fail the calls under way, and refuse new ones."""
        self._closed = True
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        if self._alarm is not None:
            self._alarm.cancel()
        self._fail(list(self._waiting), _STOPS)
        self._waiting.clear()

    def _set_alarm(self) -> None:
        self._alarm = self._loop.call_at(self._waiting[0].deadline, self._give_up_late)

    def _give_up_late(self) -> None:
        """Fail the calls that waited too long behind others."""
        self._alarm = None
        now = self._loop.time()
        late = []
        while self._waiting and self._waiting[0].deadline <= now:
            late.append(self._take_first())
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
                    self._fail(batch, _STOPS)
                    raise
                except TimeoutError:
                    self._trouble("no answer in time")
                    self._fail(batch, "timeout")
                except Exception as error:
                    # The cluster client raises anything, such as IndexError if it knows no node,
                    # and the callers wait for an answer in any case.
                    self._trouble(str(error) or type(error).__name__)
                    self._fail(batch, "no connection")
                    await self._look_around()
                else:
                    brought = sum(map(_size, results)) // len(results)
                    # The estimate grows at once, and shrinks by half.
                    self._expected = max(brought, self._expected // 2, 1)
                    for call, result in zip(batch, results, strict=True):
                        self._settle(call, result)
        finally:
            self._work = None

    def _put_last(self, call: _Call) -> None:
        self._waiting.append(call)
        self._waiting_bytes += call.size

    def _take_first(self) -> _Call:
        call = self._waiting.popleft()
        self._waiting_bytes -= call.size
        return call

    def _next_batch(self) -> list[_Call]:
        batch: list[_Call] = []
        size = 0
        most = min(self._most_together, _MUCH_TO_COME // self._expected + 1)
        while self._waiting and len(batch) < most and size < _MUCH:
            batch.append(self._take_first())
            size += batch[-1].size
        return batch

    async def _send(self, batch: Sequence[_Call]) -> list[Any]:
        results = await self._execute(batch)
        # A server that was restarted or has just become the primary does not have the scripts.
        unknown = [n for n, result in enumerate(results) if isinstance(result, NoScriptError)]
        if unknown:
            again = await self._execute([batch[n] for n in unknown], by_text=True)
            for n, result in zip(unknown, again, strict=True):
                results[n] = result
        if any(map(_is_out_of_date, results)):
            await self._look_around()
        return results

    async def _look_around(self) -> None:
        """Make the client ask a cluster again, at the next use, which node has which slots."""
        if isinstance(self._client, RedisCluster):
            self._moved()
            with suppress(RedisError, RedisClusterException, OSError):
                await self._client.aclose()

    async def _execute(self, batch: Sequence[_Call], by_text: bool = False) -> list[Any]:
        pipeline: Any = (
            self._client.pipeline()
            if isinstance(self._client, RedisCluster)
            else self._client.pipeline(transaction=False)
        )
        runs = _runs(batch, min(_MOST_AT_ONCE, _MUCH // self._expected + 1))
        known: set[tuple[str, str]] = set()
        for run in runs:
            script, root = batch[run[0]].script, batch[run[0]].root
            if by_text and (script.name, root) not in known:
                known.add((script.name, root))
                how: tuple[Any, ...] = ("EVAL", script.text)
            else:
                how = ("EVALSHA", script.digest)
            arguments = chain.from_iterable(batch[n].arguments for n in run)
            pipeline.execute_command(*how, 1, root, *arguments)
        results: list[Any] = [None] * len(batch)
        for run, result in zip(runs, await pipeline.execute(raise_on_error=False), strict=True):
            many = type(result) is list and batch[run[0]].script.many
            for n, one in zip(run, result if many else repeat(result, len(run)), strict=True):
                results[n] = one
        return results

    def _settle(self, call: _Call, result: Any) -> None:
        if call.answer.called:
            return  # timed out or cancelled
        if not isinstance(result, Exception):
            call.answer.callback(result)
        elif isinstance(result, OutOfMemoryError) or _OOM.search(str(result)):
            call.answer.errback(OutOfMemory("the backend's memory is full"))
        elif type(result) is ResponseError:
            # The call itself is wrong. If the server cannot serve it, or not from us, the error
            # has a subclass, such as ClusterDownError.
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


def _runs(batch: Sequence[_Call], most: int) -> list[list[int]]:
    """Group the calls of a batch, by index, into runs of a script with at most ``most`` calls.

    Calls in the same partition keep their order.
    """
    runs = []
    last: dict[str, list[int]] = {}
    for n, call in enumerate(batch):
        run = last.get(call.root)
        if (
            run is None
            or not call.script.many
            or batch[run[0]].script is not call.script
            or len(run) >= most
        ):
            run = last[call.root] = []
            runs.append(run)
        run.append(n)
    return runs


def _is_out_of_date(result: Any) -> bool:
    """Say whether the node that was asked is gone, or no longer has the slot."""
    return isinstance(result, ConnectionError | ClusterDownError | MovedError)


def _size(result: Any) -> int:
    """Return the bytes of a value that was looked up; 0 for any other result."""
    value = result[0] if type(result) is list and result else result
    return len(value) if type(value) is bytes else 0
