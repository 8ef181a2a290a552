"""Run work after earlier work on the same keys is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tagcache.errors import BackendUnavailable
from tagcache.redis.deferreds import to_the_end

T = TypeVar("T")


class _Turn:
    __slots__ = ("fails", "keys", "start")

    def __init__(self, keys: Collection[bytes]) -> None:
        self.keys = keys
        self.fails = False
        self.start: Deferred[None] = Deferred()


class Turns:
    """Runs work on the same keys in the order of the calls.

    Work joins the queues of all its keys at the same time, so there is no deadlock. If work fails
    with BackendUnavailable, the work behind it fails, too: it would have to wait as long.
    """

    def __init__(self) -> None:
        # The first in each queue runs, or waits for its turn in other queues.
        self._queues: dict[bytes, deque[_Turn]] = {}
        self._ready: deque[_Turn] = deque()
        self._is_starting = False

    @property
    def is_idle(self) -> bool:
        """Whether no work is in progress."""
        return not self._queues

    def is_taken(self, keys: Collection[bytes]) -> bool:
        """Return whether ``run`` with these keys would have to wait."""
        return not self.is_idle and any(key in self._queues for key in keys)

    def run(
        self,
        keys: Collection[bytes],
        work: Callable[[], Deferred[T]],
        alone: bool = True,
    ) -> Deferred[T]:
        """Call ``work`` in its turn, and return its result.

        With ``alone``, later work on the keys waits for the result; otherwise only until ``work``
        is called. Cancelling does not stop the work.
        """
        turn = _Turn(frozenset(keys))
        for key in turn.keys:
            self._queues.setdefault(key, deque()).append(turn)

        def start(_: None) -> Deferred[T]:
            if turn.fails and alone:
                raise BackendUnavailable("an earlier change failed")
            if alone:
                return work()
            try:
                return work()
            finally:
                self._end(turn)

        done: Deferred[T] = turn.start.addCallback(start)
        if alone:
            done.addBoth(self._ended, turn)
        told = to_the_end(done)
        self._start_those(turn)
        return told

    def _ended(self, result: Any, turn: _Turn) -> Any:
        if isinstance(result, Failure) and result.check(BackendUnavailable) and not turn.fails:
            for key in turn.keys:
                for waiting in self._queues[key]:
                    waiting.fails = True
        self._end(turn)
        return result

    def _end(self, turn: _Turn) -> None:
        following = []
        for key in turn.keys:
            queue = self._queues[key]
            queue.popleft()
            if queue:
                following.append(queue[0])
            else:
                del self._queues[key]
        self._start_those(*dict.fromkeys(following))

    def _start_those(self, *turns: _Turn) -> None:
        """Start the work that waits for no other, without recursion however much ends at once."""
        self._ready += [
            turn for turn in turns if all(self._queues[key][0] is turn for key in turn.keys)
        ]
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while self._ready:
                self._ready.popleft().start.callback(None)
        finally:
            self._is_starting = False
