"""The pool of blocking connections: bounded, last in first out, safe for threads and forks.

Some programs raise exceptions from signal handlers (the time limits of Celery and RQ), that is,
between any two steps of this code. So the pool keeps no counter, which could be left wrong: it
counts the connections that exist, and one that an interrupted caller drops is garbage collected.
Locks are only held in ``with`` blocks, which always release them.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import OrderedDict
from contextlib import suppress

from tagcache.client.breaker import Breaker
from tagcache.client.connection import Connection
from tagcache.client.options import Options
from tagcache.client.single_flight import Flights
from tagcache.errors import ConnectionFailed, PoolExhausted

# Seconds until a waiting caller looks again by itself, in case an interruption lost the wake-up.
_LOOK_AGAIN = 0.1


class Pool:
    """At most ``pool_size`` connections, for any number of threads.

    Callers wait in order of arrival. ``breaker`` records failures to connect, and ends the waiting
    when it opens.
    """

    def __init__(self, options: Options, breaker: Breaker) -> None:
        self._options = options
        self._size = options.pool_size
        self._breaker = breaker
        self._closed = False
        self.flights = Flights()
        self._begin()
        _pools.add(self)

    def _begin(self) -> None:
        # Every operation on these is atomic in CPython.
        self._idle: list[Connection] = []
        self._existing: set[weakref.ref[Connection]] = set()
        # The waiting callers, in order. A lock is released when there may be a connection.
        self._turns: OrderedDict[threading.Lock, None] = OrderedDict()
        # Reentrant: a signal handler or a finalizer may use the pool while its thread holds it.
        self._lock = threading.RLock()

    def here(self) -> Pool:
        """Return the pool of this thread: all threads share one."""
        return self

    @property
    def open(self) -> int:
        """The number of connections, idle or in use."""
        return len(self._existing)

    @property
    def _waiting(self) -> int:
        """The number of threads that wait for a connection."""
        return len(self._turns)

    def take(self, new: bool = False, began: float | None = None) -> tuple[Connection, bool]:
        """Return a connection for one caller, and whether it has been used before.

        ``new`` asks for one that has not. ``began`` is when the command started. Raises
        Unavailable, AuthenticationFailed, Refused.
        """
        try:
            # The usual case, without a lock. A closed pool has no idle connections.
            connection = None if self._turns else self._idle.pop()
        except IndexError:
            connection = self._claim(None)
        if connection is None:
            connection = self._wait()
        try:
            if not new and connection.is_usable():
                return connection, True
            if connection.is_open:
                # The others have been idle for longer, and are probably stale too.
                self._drop_idle()
                connection.close()
            connection.open()
        except BaseException as error:
            # The breaker must know before the pool wakes a waiting caller.
            self._breaker.failed(error, began)
            self.discard(connection)
            raise
        return connection, False

    def _claim(self, turn: threading.Lock | None) -> Connection | None:
        """Return an idle or new connection; None if the pool is full, or others come first."""
        with self._lock:
            if self._closed:
                raise ConnectionFailed("the client is closed")
            if self._next_turn() is not turn:
                return None
            try:
                return self._idle.pop()
            except IndexError:
                pass
            if len(self._existing) >= self._size:
                return None
            connection = Connection(self._options)
            connection.home = self._existing
            self._existing.add(weakref.ref(connection, self._existing.discard))
            return connection

    def _next_turn(self) -> threading.Lock | None:
        while True:
            try:
                return next(iter(self._turns), None)
            except RuntimeError:
                # Another thread changed the dict during the iteration.
                continue

    def _wait(self) -> Connection:
        timeout = self._options.pool_timeout
        deadline = time.monotonic() + timeout
        turn = threading.Lock()
        turn.acquire()
        try:
            self._turns[turn] = None
            while True:
                self._breaker.check()
                if (connection := self._claim(turn)) is not None:
                    return connection
                left = deadline - time.monotonic()
                if left <= 0:
                    raise PoolExhausted(f"all {self._size} connections were in use for {timeout} s")
                turn.acquire(timeout=min(left, _LOOK_AGAIN))
        finally:
            self._turns.pop(turn, None)
            self._wake()

    def _wake(self) -> None:
        if self._turns and (self._idle or len(self._existing) < self._size):
            turn = self._next_turn()
            if turn is not None:
                # The caller may be awake already, and its lock released.
                with suppress(RuntimeError):
                    turn.release()

    def give_back(self, connection: Connection) -> None:
        """Return a working connection to the pool."""
        connection.last_used = time.monotonic()
        if connection.home is not self._existing:
            # It was taken before a fork.
            self.discard(connection)
            return
        self._idle.append(connection)
        if self._closed:
            self._drop_idle()
        elif self._turns:
            self._wake()

    def discard(self, connection: Connection) -> None:
        """Close a connection, and free its place in the pool."""
        connection.close()
        self._existing.discard(weakref.ref(connection))
        self._wake()

    def _drop_idle(self) -> None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            self.discard(connection)

    def close(self) -> None:
        """Close every connection; those in use are closed when they are given back."""
        self._closed = True
        self._drop_idle()
        for turn in list(self._turns):
            with suppress(RuntimeError):
                turn.release()

    def forked(self) -> None:
        """Start without connections in a child process; the parent keeps using them."""
        for reference in self._existing.copy():
            connection = reference()
            if connection is not None:
                connection.abandon()
        self._begin()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forked() -> None:
    for pool in list(_pools):
        pool.forked()


os.register_at_fork(after_in_child=_forked)
