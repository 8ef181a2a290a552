"""Call scripts in Redis: in order, in batches, and within a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import AskError, ClusterDownError, MovedError
from twisted.internet.defer import Deferred, fail

from tagcache.errors import BackendUnavailable
from tagcache.redis.replies import Refusal, refusal_of
from tagcache.redis.scripts import Script
from tagcache.redis.sender import STOPS, Call, Sender, Waiting, fail_all
from tagcache.redis.servers import Servers
from tagcache.redis.topology import Address

# The most calls in a batch.
_MOST_TOGETHER = 256
# The pause before a partition that is being moved is tried again.
_PAUSE = 0.02
# A call with less time left than this, in seconds, is not tried again.
_LEAST_TIME = 0.1


class _Parked(Waiting):
    """The waiting calls of a partition that a server refused, or whose server is not known.

    The server at ``refused_by`` answered ``error``; ``task`` makes the next attempt.
    """

    def __init__(self, error: Exception | None, refused_by: Address | None) -> None:
        super().__init__()
        self.error = error
        self.refused_by = refused_by
        self.task: asyncio.Task[None] | None = None


class ScriptPipeline:
    """Calls scripts in order; calls that wait are sent as one batch to each server.

    The Deferred of ``call`` fires with the result of the script within ``timeout`` seconds, or
    fails with BackendUnavailable or OutOfMemory. Calls in the same partition keep their order, and
    with a single server, all calls do. A server that fails or hangs delays only its own calls.

    ``trouble`` is called with the text of each error that makes the backend unavailable, ``moved``
    when partitions may have another server. A batch has at most ``most_together`` calls.
    """

    def __init__(
        self,
        servers: Servers,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        trouble: Callable[[str], None],
        moved: Callable[[], object] = lambda: None,
        most_together: int = _MOST_TOGETHER,
    ) -> None:
        self.timeout = timeout
        self.trouble = trouble
        self._most_together = most_together
        self._moved = moved
        self._servers = servers
        self._loop = loop
        self._senders: dict[Address, Sender] = {}
        # Where the calls in a partition wait. This changes only while none of them is in progress,
        # so that they keep their order.
        self._queues: dict[str, Sender | _Parked] = {}
        self._attached = self._closed = False

    def call(self, script: Script, root: str, *arguments: Any) -> Deferred[Any]:
        """Run a script in the partition with this root."""
        if self._closed:
            return fail(BackendUnavailable(STOPS))
        call = Call(script, root, arguments, self._loop.time() + self.timeout)
        queue = self._queues.get(root) or self._find_queue(root)
        if not queue.takes(call):
            return fail(BackendUnavailable("too many commands wait for the backend"))
        queue.put(call)
        return call.answer

    async def close(self) -> None:
        """Fail the calls in progress, and refuse new ones."""
        self._closed = True
        for parked in [each for each in self._queues.values() if isinstance(each, _Parked)]:
            if parked.task is not None:
                parked.task.cancel()
            fail_all(parked.take_all(), STOPS)
        for sender in self._senders.values():
            await sender.close()

    def suspects(self) -> list[Address]:
        """Return the servers that failed last, or have not answered for some time."""
        return [sender.address for sender in self._senders.values() if sender.is_suspect]

    def rerouted(self) -> None:
        """Disconnect from the servers that no longer have partitions."""
        primaries = self._servers.topology.primaries
        for address in [each for each in self._senders if each not in primaries]:
            self._senders[address].abandon("another server has taken over")

    def refused(self, sender: Sender, root: str, calls: list[Call], error: Exception) -> None:
        """Park the calls of a partition that the server does not have."""
        if isinstance(error, AskError):
            named = Address(error.host or sender.address.host, error.port)
            if isinstance(error, MovedError):
                self._servers.topology.moved(error.slot_id, named)
                self._moved()
            else:
                self._servers.note_moving(root, sender.address, sender.home, named)
        calls += sender.take_of(root)
        if self._closed:
            fail_all(calls, STOPS)
        else:
            self._park(root, calls, error, sender.address)

    def lost(self, sender: Sender, waiting: Sequence[Call]) -> None:
        """Send the calls that waited for a lost server to where its partitions are now."""
        if self._servers.topology.may_change:
            if sender.is_suspect:
                self._servers.alarm(sender.address)
            self._moved()
        if self._closed:
            fail_all(waiting, STOPS)
            return
        for root in [root for root, queue in self._queues.items() if queue is sender]:
            del self._queues[root]
        if sender.address not in self._servers.topology.primaries:
            self._senders.pop(sender.address, None)
        self._put_again(waiting)

    def _put_again(self, calls: Sequence[Call]) -> None:
        for call in calls:
            (self._queues.get(call.root) or self._find_queue(call.root)).put(call)

    def _find_queue(self, root: str) -> Sender | _Parked:
        """Return where the calls in a partition wait from now on."""
        if not self._attached:
            self._attached = True
            self._servers.attach(self, self._loop)
        address = self._servers.topology.place(root)
        if address is None:
            return self._park(root, ())
        sender = self._senders.get(address)
        if sender is None:
            sender = self._senders[address] = Sender(
                self._servers, address, self._loop, self, self._most_together
            )
        self._queues[root] = sender
        return sender

    def _park(
        self,
        root: str,
        calls: Sequence[Call],
        error: Exception | None = None,
        refused_by: Address | None = None,
    ) -> _Parked:
        parked = self._queues[root] = _Parked(error, refused_by)
        for call in calls:
            parked.put(call)
        parked.task = self._loop.create_task(self._release(root, parked))
        return parked

    async def _release(self, root: str, parked: _Parked) -> None:
        """Send parked calls when the server is known, or after a pause."""
        refusal = refusal_of(parked.error)
        why = f"{refusal.value} ({parked.error})" if refusal else "no answer in time"
        try:
            async with asyncio.timeout_at(parked.calls[0].deadline):
                await self._clear_the_way(root, parked, refusal)
        except TimeoutError:
            pass
        except Exception as error:
            # Catch any error, because the callers wait for an answer.
            why = str(error) or type(error).__name__
            if parked.refused_by is not None:
                self._servers.alarm(parked.refused_by)
            self.trouble(why)
            fail_all(parked.take_all(), why)
        # Do not send late calls: an attempt that times out would cost the connection.
        late = parked.take_late(self._loop.time() + min(_LEAST_TIME, self.timeout / 4))
        if late:
            self.trouble(why)
            fail_all(late, why)
        del self._queues[root]
        self._put_again(parked.take_all())

    async def _clear_the_way(self, root: str, parked: _Parked, refusal: Refusal | None) -> None:
        """Wait until the calls may be sent again. Raises RedisError, OSError."""
        refused_by = parked.refused_by
        if refused_by is None or refusal is Refusal.UNSERVED:
            # A server that has left its cluster does not know the new server, either.
            await self._servers.look()
            if self._servers.topology.place(root) in (None, refused_by):
                raise ClusterDownError("no server has its slot")
        elif refusal is Refusal.STRANGE:
            await self._servers.adopt(refused_by, root)
        if refusal is Refusal.MOVING or self._waits_long(parked.calls[0]):
            await asyncio.sleep(_PAUSE)

    def _waits_long(self, call: Call) -> bool:
        """Return whether a call has waited longer than following one redirection takes."""
        return self._loop.time() > call.deadline - self.timeout + _PAUSE
