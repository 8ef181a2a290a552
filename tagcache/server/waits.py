"""Look-ups that wait until another client has computed the value."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from tagcache.model.fetched import WAIT, Fetched
from tagcache.model.interfaces import IEngine, ISession
from tagcache.server.then import then

# The most look-ups that may wait; further ones are answered at once.
MOST_WAITING = 10_000
# Those that are repeated in one go.
_AT_ONCE = 100

_Place: TypeAlias = "tuple[IEngine, bytes]"


class _Waiting:
    """A waiting look-up: its connection, its key, and its deadline."""

    __slots__ = ("deadline", "deferred", "lease_ms", "owner", "place", "session", "timer")

    def __init__(
        self, place: _Place, session: ISession, owner: object, lease_ms: int, deadline: float
    ) -> None:
        self.place = place
        self.session = session
        self.owner = owner
        self.lease_ms = lease_ms
        self.deadline = deadline
        self.deferred: Deferred[Fetched]
        self.timer: IDelayedCall | None = None


class Waits:
    """The look-ups of all connections that wait for values being computed.

    Nothing polls: a look-up is repeated when a lease of its key ends, or at its deadline. The
    look-ups of one key are answered in the order of their arrival.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._stopped = False
        # In the order of arrival; the values of the inner dict mean nothing.
        self._by_place: dict[_Place, dict[_Waiting, None]] = {}
        self._by_owner: dict[object, set[_Waiting]] = {}
        self._count = 0
        # Where a lease has ended: the look-ups that are about to be repeated.
        self._woken: dict[_Place, Iterator[_Waiting]] = {}

    def __len__(self) -> int:
        return self._count

    def fetch(
        self,
        engine: IEngine,
        session: ISession,
        owner: object,
        key: bytes,
        lease_ms: int,
        wait_ms: int,
    ) -> Fetched | Deferred[Fetched]:
        """Call ``fetch`` of a session; wait up to ``wait_ms`` while another client has the lease.

        ``owner`` is the connection, for ``end``.
        """

        fetched = session.fetch(key, lease_ms)
        if type(fetched) is Fetched and (fetched.found is not WAIT or not wait_ms):
            return fetched

        def conclude(fetched: Fetched) -> Fetched | Deferred[Fetched]:
            full = self._stopped or self._count >= MOST_WAITING
            if fetched.found is not WAIT or not wait_ms or full:
                return fetched
            deadline = self._reactor.seconds() + wait_ms / 1000
            waiting = _Waiting((engine, key), session, owner, lease_ms, deadline)
            return self._add(waiting, fetched)

        return then(fetched, conclude)

    def end(self, owner: object) -> None:
        """Cancel the look-ups of a connection."""
        for waiting in list(self._by_owner.get(owner, ())):
            waiting.deferred.cancel()

    def stop(self) -> None:
        """Answer all look-ups with the current state; let none wait from now on."""
        self._stopped = True
        for waiting in [each for place in self._by_place.values() for each in place]:
            self._ask(waiting)

    def _add(self, waiting: _Waiting, fetched: Fetched) -> Deferred[Fetched]:
        engine, _ = waiting.place
        engine.on_lease_end = partial(self._lease_ended, engine)
        waiting.deferred = Deferred(lambda _: self._remove(waiting))
        self._by_place.setdefault(waiting.place, {})[waiting] = None
        self._by_owner.setdefault(waiting.owner, set()).add(waiting)
        self._count += 1
        self._set_timer(waiting, fetched)
        return waiting.deferred

    def _remove(self, waiting: _Waiting) -> None:
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None
        self._count -= 1
        there = self._by_place[waiting.place]
        del there[waiting]
        if not there:
            del self._by_place[waiting.place]
        owned = self._by_owner[waiting.owner]
        owned.discard(waiting)
        if not owned:
            del self._by_owner[waiting.owner]

    def _set_timer(self, waiting: _Waiting, fetched: Fetched) -> None:
        """Repeat a look-up at its deadline, or when the lease expires."""
        left = max(waiting.deadline - self._reactor.seconds(), 0.0)
        seconds = min(left, fetched.left_ms / 1000)
        waiting.timer = self._reactor.callLater(seconds, self._time_over, waiting)

    def _time_over(self, waiting: _Waiting) -> None:
        waiting.timer = None
        self._ask(waiting)

    def _lease_ended(self, engine: IEngine, key: bytes) -> None:
        place = engine, key
        if place in self._by_place:
            if not self._woken:
                # Later: now, another request is being executed.
                self._reactor.callLater(0, self._wake)
            self._woken[place] = iter(list(self._by_place[place]))

    def _wake(self) -> None:
        """Repeat look-ups where leases have ended, some of them in one go."""
        for _ in range(_AT_ONCE):
            if not self._woken:
                return
            place, left = next(iter(self._woken.items()))
            waiting = next(left, None)
            if waiting is None or (self._is_waiting(waiting) and not self._ask(waiting)):
                # All were repeated, or somebody has the lease again and the others go on waiting.
                del self._woken[place]
        if self._woken:
            self._reactor.callLater(0, self._wake)

    def _is_waiting(self, waiting: _Waiting) -> bool:
        return waiting in self._by_place.get(waiting.place, ())

    def _ask(self, waiting: _Waiting) -> bool:
        """Repeat a look-up; return False if it certainly still waits."""
        _, key = waiting.place
        try:
            fetched = waiting.session.fetch(key, waiting.lease_ms)
        except Exception:
            self._answer(Failure(), waiting)
            return True
        if isinstance(fetched, Deferred):
            fetched.addCallbacks(self._asked, self._answer, (waiting,), errbackArgs=(waiting,))
            return True
        return self._asked(fetched, waiting)

    def _asked(self, fetched: Fetched, waiting: _Waiting) -> bool:
        if not self._is_waiting(waiting):
            return True
        over = self._stopped or self._reactor.seconds() >= waiting.deadline
        if fetched.found is WAIT and not over:
            if waiting.timer is not None:
                waiting.timer.cancel()
            self._set_timer(waiting, fetched)
            return False
        self._answer(fetched, waiting)
        return True

    def _answer(self, result: Fetched | Failure, waiting: _Waiting) -> None:
        if self._is_waiting(waiting):
            self._remove(waiting)
            waiting.deferred.callback(result)
