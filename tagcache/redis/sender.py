"""One connection to a Redis server, over which calls of scripts are sent in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, Protocol

from hiredis import pack_command
from redis.exceptions import NoScriptError, RedisError, ResponseError
from twisted.internet.defer import Deferred

from tagcache.errors import BackendUnavailable
from tagcache.redis.replies import Refusal, failure_of, is_elsewhere, refusal_of
from tagcache.redis.scripts import Effect, Script
from tagcache.redis.servers import Servers, home_on, make_ready
from tagcache.redis.topology import Address

# A batch with this many bytes of arguments is full.
_MUCH = 2**20
# The most bytes of answers to a batch, estimated from earlier answers.
_MUCH_TO_COME = 16 * 2**20
_UNKNOWN = 2**20
# The most look-ups in one run of a script, during which Redis serves nobody else.
_MOST_AT_ONCE = 64
# The most calls that may wait, and bytes of their arguments; more would only time out.
_MOST_WAITING = 10_000
_MOST_WAITING_BYTES = 64 * 2**20
# A server that has not answered for this many seconds is suspect.
_SUSPECT_SECONDS = 0.1
STOPS = "the server is stopping"


class Call:
    """A call of a script; ``deadline`` is a time of the loop."""

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


class Waiting:
    """A queue of calls, with no more than can be answered in time."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque()
        self.bytes = 0

    def takes(self, call: Call) -> bool:
        """Return whether there is room for one more call."""
        number = len(self.calls)
        return number < _MOST_WAITING and (
            not number or self.bytes + call.size <= _MOST_WAITING_BYTES
        )

    def put(self, call: Call) -> None:
        """Add a call at the end."""
        self.calls.append(call)
        self.bytes += call.size

    def take(self) -> Call:
        """Remove the first call."""
        call = self.calls.popleft()
        self.bytes -= call.size
        return call

    def take_all(self) -> list[Call]:
        """Remove all calls."""
        return [self.take() for _ in range(len(self.calls))]

    def take_of(self, root: str) -> list[Call]:
        """Remove the calls in a partition."""
        found = []
        for call in self.take_all():
            if call.root == root:
                found.append(call)
            else:
                Waiting.put(self, call)
        return found

    def take_late(self, now: float) -> list[Call]:
        """Remove the first calls, as far as their deadline has passed."""
        late = []
        while self.calls and self.calls[0].deadline <= now:
            late.append(self.take())
        return late


class Owner(Protocol):
    """The owner of a sender, whose calls it sends."""

    def refused(self, sender: Sender, root: str, calls: list[Call], error: Exception) -> None:
        """Send the refused calls of a partition again, in their order: they had no effect."""

    def lost(self, sender: Sender, waiting: Sequence[Call]) -> None:
        """Send calls elsewhere that were not sent, because the connection is lost."""

    def trouble(self, why: str) -> None:
        """Note an error that makes calls fail."""


class Sender(Waiting):
    """Sends calls to the server at ``address``, one batch of at most ``most_together`` at a time.

    Each is answered by its deadline. Calls of one partition keep their order. ``home`` is that of
    the server; None if the server must be asked.
    """

    def __init__(
        self,
        servers: Servers,
        address: Address,
        loop: asyncio.AbstractEventLoop,
        owner: Owner,
        most_together: int,
    ) -> None:
        super().__init__()
        self.address = address
        self.home: str | None = None
        self._servers = servers
        self._connection = servers.dialer.dial(address)
        self._generation = servers.generation
        self._loop = loop
        self._owner = owner
        self._most_together = most_together
        # The expected bytes of the answer to a call.
        self._expected = _UNKNOWN
        self._work: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        # When the batch in progress was sent.
        self._sent_at: float | None = None
        self._fails = False
        # Why the work in progress is stopped.
        self._stopped = ""

    @property
    def is_suspect(self) -> bool:
        """Whether the server failed last, or has not answered for some time."""
        late = self._sent_at is not None and self._loop.time() - self._sent_at >= _SUSPECT_SECONDS
        return self._fails or late

    def put(self, call: Call) -> None:
        """Send a call when the earlier ones are answered."""
        super().put(call)
        if self._work is None:
            self._work = self._loop.create_task(self._run())
        elif self._alarm is None:
            self._set_alarm()

    def abandon(self, why: str) -> None:
        """Disconnect, and leave the waiting calls to the owner.

        Calls in progress fail if the server does not answer; otherwise they are finished first.
        """
        if self._work is None:
            self._work = self._loop.create_task(self._leave())
        elif self._sent_at is not None and self.is_suspect:
            self._stopped = why
            self._work.cancel()

    async def close(self) -> None:
        """Fail all calls, and close the connection."""
        self._stopped = STOPS
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        if self._alarm is not None:
            self._alarm.cancel()
        fail_all(self.take_all(), STOPS)
        await self._connection.disconnect(nowait=True)

    def _set_alarm(self) -> None:
        self._alarm = self._loop.call_at(self.calls[0].deadline, self._give_up_late)

    def _give_up_late(self) -> None:
        """Fail the calls that waited too long behind others."""
        self._alarm = None
        late = self.take_late(self._loop.time())
        if self.calls:
            self._set_alarm()
        fail_all(late, "timeout")

    async def _run(self) -> None:
        try:
            while self.calls and self._stopped != STOPS:
                batch = self._next_batch()
                self._sent_at = self._loop.time()
                is_lost = await self._carry_out(batch)
                self._sent_at = None
                self._fails = is_lost
                if is_lost:
                    await self._leave()
        finally:
            self._work = None

    async def _leave(self) -> None:
        await self._connection.disconnect(nowait=True)
        self._owner.lost(self, self.take_all())

    async def _carry_out(self, batch: Sequence[Call]) -> bool:
        """Send a batch and settle its calls; return whether the server is lost."""
        try:
            async with asyncio.timeout_at(batch[0].deadline):
                results = await self._exchange(batch)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not self._stopped:
                raise
            task.uncancel()
            fail_all(batch, self._stopped)
            if self._stopped != STOPS:
                self._stopped = ""
            return True
        except TimeoutError:
            self._owner.trouble("no answer in time")
            fail_all(batch, "timeout")
            return True
        except Exception as error:
            # Catch any error, because the callers wait for an answer.
            self._owner.trouble(str(error) or type(error).__name__)
            fail_all(batch, "no connection")
            return True
        brought = sum(map(_size, results)) // len(results)
        # The estimate grows at once, but at most halves when it shrinks.
        self._expected = max(brought, self._expected // 2, 1)
        return self._settle_all(batch, results)

    def _next_batch(self) -> list[Call]:
        batch: list[Call] = []
        size = 0
        most = min(self._most_together, _MUCH_TO_COME // self._expected + 1)
        while self.calls and len(batch) < most and size < _MUCH:
            batch.append(self.take())
            size += batch[-1].size
        return batch

    async def _exchange(self, batch: Sequence[Call]) -> list[Any]:
        if self._generation != self._servers.generation:
            self._generation = self._servers.generation
            await self._connection.disconnect(nowait=True)
        if await make_ready(self._connection) or self.home is None:
            self.home = await home_on(self._connection)
        results = await self._execute(batch)
        # A server that was restarted, or has just become the primary, does not have the scripts.
        unknown = [n for n, result in enumerate(results) if isinstance(result, NoScriptError)]
        if unknown:
            again = await self._execute([batch[n] for n in unknown], by_text=True)
            for n, result in zip(unknown, again, strict=True):
                results[n] = result
        return results

    async def _execute(self, batch: Sequence[Call], by_text: bool = False) -> list[Any]:
        runs = _runs(batch, min(_MOST_AT_ONCE, _MUCH // self._expected + 1))
        known: set[tuple[str, str]] = set()
        home = self.home if self._servers.flush_on_failover else ""
        commands = []
        for run in runs:
            script, root = batch[run[0]].script, batch[run[0]].root
            if by_text and (script.name, root) not in known:
                known.add((script.name, root))
                how: tuple[Any, ...] = ("EVAL", script.text)
            else:
                how = ("EVALSHA", script.digest)
            arguments = chain.from_iterable(batch[n].arguments for n in run)
            commands.append((*how, 1, root, *arguments, home))
        waits = self._servers.wait_replicas and any(map(_changes, batch))
        if waits:
            commands.append(("WAIT", self._servers.wait_replicas, self._servers.wait_ms))
        # This takes a fifth of the time of redis-py's own packing.
        await self._connection.send_packed_command(list(map(pack_command, commands)))
        results: list[Any] = [None] * len(batch)
        for run in runs:
            result = await self._read()
            many = type(result) is list and batch[run[0]].script.many
            for n, one in zip(run, result if many else repeat(result, len(run)), strict=True):
                results[n] = one
        if waits:
            self._doubt(batch, results, await self._read())
        return results

    async def _read(self) -> Any:
        """Return the next answer, which may be an error of the server."""
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error

    def _doubt(self, batch: Sequence[Call], results: list[Any], confirmed: Any) -> None:
        """Replace the results of changes that too few replicas have confirmed."""
        wanted = self._servers.wait_replicas
        if isinstance(confirmed, int) and confirmed >= wanted:
            return
        why = f"it was executed, but only {confirmed} of {wanted} replicas have confirmed it"
        for n, call in enumerate(batch):
            if _changes(call) and not isinstance(results[n], Exception):
                results[n] = RedisError(why)

    def _settle_all(self, batch: Sequence[Call], results: Sequence[Any]) -> bool:
        """Settle the calls of a batch; return whether the server cannot execute any."""
        refused: dict[str, list[tuple[Call, Any]]] = {}
        for call, result in zip(batch, results, strict=True):
            refusal = refusal_of(result)
            if refusal is Refusal.STRANGE:
                self.home = None
            early = refused.get(call.root)
            if refusal is not None:
                refused.setdefault(call.root, []).append((call, result))
            elif early is None:
                self._settle(call, result)
            elif call.script.effect is Effect.NONE:
                # It was executed, because its slot was available again. But it only reads, so
                # send it again after the refused calls before it.
                early.append((call, result))
            else:
                # It has taken effect, so do not send the refused calls again after it.
                for one, answer in [*refused.pop(call.root), (call, result)]:
                    self._settle(one, answer)
        for root, calls in refused.items():
            self._owner.refused(self, root, [call for call, _ in calls], calls[0][1])
        return any(map(is_elsewhere, results))

    def _settle(self, call: Call, result: Any) -> None:
        if not isinstance(result, Exception):
            if not call.answer.called:
                call.answer.callback(result)
            return
        failure = failure_of(result)
        if isinstance(failure, BackendUnavailable):
            self._owner.trouble(str(failure))
        if not call.answer.called:  # It has neither timed out nor been cancelled.
            call.answer.errback(failure)


def fail_all(calls: Sequence[Call], why: str) -> None:
    """Fail calls that are not answered yet."""
    for call in calls:
        if not call.answer.called:
            call.answer.errback(BackendUnavailable(why))


def _runs(batch: Sequence[Call], most: int) -> list[list[int]]:
    """Group the calls of a batch, by index, into runs of one script with at most ``most`` calls.

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


def _changes(call: Call) -> bool:
    return call.script.effect is Effect.CHANGE


def _size(result: Any) -> int:
    """Return the bytes of a value that was looked up; 0 for any other result."""
    value = result[0] if type(result) is list and result else result
    return len(value) if type(value) is bytes else 0
