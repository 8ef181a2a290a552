"""The pool of blocking connections: bounded, last in first out, safe for threads and forks.

Programs raise exceptions from signal handlers (Celery's and RQ's time limits), and so between any
two steps of this code. Nothing is therefore counted up and down: the connections that exist are
the bound, and one that an interrupted caller drops ceases to exist. What needs a lock
holds it by ``with``, which releases it however the block is left.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from tagcache.client.breaker import Breaker
from tagcache.client.connection import Connection
from tagcache.errors import ConnectionFailed, PoolExhausted

# A waiting caller looks again after so many seconds: an interruption may swallow the wake-up.
_LOOK_AGAIN = 0.1


class Pool:
    """At most ``size`` connections; ``timeout`` (seconds) is how long to wait for one.

    Callers wait in order. ``breaker`` is told how connecting went, and ends the waiting when the
    server fails.
    """

    def __init__(
        self, build: Callable[[], Connection], size: int, timeout: float, breaker: Breaker
    ) -> None:
        self._build = build
        self._size = size
        self._timeout = timeout
        self._breaker = breaker
        self._closed = False
        self._begin()
        _pools.add(self)

    def _begin(self) -> None:
        # Each operation on these is a single step of the interpreter.
        self._idle: list[Connection] = []
        self._existing: set[weakref.ref[Connection]] = set()
        # Each waiting caller has a lock, which is released when it is worth looking again.
        self._turns: OrderedDict[threading.Lock, None] = OrderedDict()
        # A signal handler or a finalizer may use the pool while its thread is in here.
        self._lock = threading.RLock()

    @property
    def open(self) -> int:
        """How many connections there are, idle or in use."""
        return len(self._existing)

    @property
    def _waiting(self) -> int:
        """How many threads wait for a connection."""
        return len(self._turns)

    def take(self, new: bool = False, began: float | None = None) -> tuple[Connection, bool]:
        """Return a connection that nobody else uses, and whether it was used before.

        With ``new`` it was not. ``began`` is when the command began that needs it. Raises
        Unavailable, AuthenticationFailed.
        """
        connection = None if self._turns else self._claim(None)
        if connection is None:
            connection = self._wait()
        try:
            if connection.is_open:
                if not new and connection.is_usable():
                    return connection, True
                # The others have been idle for longer.
                self._drop_idle()
                connection.close()
            connection.open()
        except BaseException as error:
            # Before a waiting caller takes its place.
            self._breaker.failed(error, began)
            self.discard(connection)
            raise
        return connection, False

    def _claim(self, turn: threading.Lock | None) -> Connection | None:
        """Return an idle connection, or one to be opened, if there is one for this caller."""
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
            connection = self._build()
            self._existing.add(weakref.ref(connection, self._existing.discard))
            return connection

    def _next_turn(self) -> threading.Lock | None:
        while True:
            try:
                return next(iter(self._turns), None)
            except RuntimeError:
                # Somebody came or left at this moment.
                continue

    def _wait(self) -> Connection:
        deadline = time.monotonic() + self._timeout
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
                    raise PoolExhausted(
                        f"all {self._size} connections are in use, for {self._timeout} s"
                    )
                turn.acquire(timeout=min(left, _LOOK_AGAIN))
        finally:
            self._turns.pop(turn, None)
            self._wake()

    def _wake(self) -> None:
        if self._turns and (self._idle or len(self._existing) < self._size):
            turn = self._next_turn()
            if turn is not None:
                # It may be awake already.
                with suppress(RuntimeError):
                    turn.release()

    def give_back(self, connection: Connection) -> None:
        """Let others use a connection that works."""
        connection.last_used = time.monotonic()
        if weakref.ref(connection) not in self._existing:
            # Of before a fork.
            self.discard(connection)
            return
        self._idle.append(connection)
        if self._closed:
            self._drop_idle()
        elif self._turns:
            self._wake()

    def discard(self, connection: Connection) -> None:
        """Close a connection, which makes room for another."""
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
        """Close every connection: those in use when they are given back."""
        self._closed = True
        self._drop_idle()
        for turn in list(self._turns):
            with suppress(RuntimeError):
                turn.release()

    def forked(self) -> None:
        """Begin anew in a child process; the parent goes on with its connections."""
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
