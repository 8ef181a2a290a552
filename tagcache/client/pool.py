"""The pool of blocking connections: bounded, last in first out, safe for threads and forks."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from tagcache.client.connection import TRUSTED_SECONDS, Connection
from tagcache.errors import ConnectionFailed, PoolExhausted


class Pool:
    """At most ``size`` connections; ``timeout`` (seconds) is how long to wait for one."""

    def __init__(self, connect: Callable[[], Connection], size: int, timeout: float) -> None:
        self._connect = connect
        self._size = size
        self._timeout = timeout
        self._closed = False
        self._begin()
        _pools.add(self)

    def _begin(self) -> None:
        # Taken from and put to without the lock, which each single operation allows.
        self._idle: list[Connection] = []
        self._mine: set[Connection] = set()
        self._freed = threading.Condition(threading.Lock())
        self._waiting = 0
        self._opening = 0

    @property
    def open(self) -> int:
        """How many connections there are, idle or in use."""
        return len(self._mine)

    def take(self) -> tuple[Connection, bool]:
        """Return a connection that nobody else uses, and whether it was used before.

        Raises PoolExhausted, or what connecting raises.
        """
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                if (found := self._open_or_wait()) is None:
                    continue
                return found, False
            try:
                usable = connection.is_usable()
            except BaseException:
                self.discard(connection)
                raise
            if usable:
                return connection, True
            self.discard(connection)

    def take_trusted(self) -> Connection | None:
        """Return a connection that was in use a moment ago, if there is one."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        if time.monotonic() - connection.last_used < TRUSTED_SECONDS:
            return connection
        self._idle.append(connection)
        return None

    def take_new(self) -> Connection:
        """Return a connection that was not used before: idle ones are given up for that."""
        while True:
            with suppress(IndexError):
                self.discard(self._idle.pop())
            if (found := self._open_or_wait()) is not None:
                return found

    def _open_or_wait(self) -> Connection | None:
        """Return a new connection, or None when one was given back."""
        with self._freed:
            if self._closed:
                raise ConnectionFailed("the client is closed")
            if len(self._mine) + self._opening >= self._size:
                self._wait()
                return None
            self._opening += 1
        connection = None
        try:
            connection = self._connect()
        finally:
            with self._freed:
                self._opening -= 1
                if connection is not None:
                    self._mine.add(connection)
                else:
                    self._freed.notify()
        return connection

    def _wait(self) -> None:
        deadline = time.monotonic() + self._timeout
        self._waiting += 1
        try:
            # Who gives one back looks for who waits after that: so look again first.
            while not self._idle and len(self._mine) + self._opening >= self._size:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise PoolExhausted(
                        f"all {self._size} connections are in use, for {self._timeout} s"
                    )
                self._freed.wait(left)
                if self._closed:
                    raise ConnectionFailed("the client is closed")
        finally:
            self._waiting -= 1

    def give_back(self, connection: Connection) -> None:
        """Let others use a connection that works."""
        connection.last_used = time.monotonic()
        if self._closed or connection not in self._mine:
            # Of before a fork, or of before the end.
            self.discard(connection)
            return
        self._idle.append(connection)
        if self._waiting:
            with self._freed:
                self._freed.notify()

    def discard(self, connection: Connection) -> None:
        """Close a connection, which makes room for another."""
        connection.close()
        with self._freed:
            self._mine.discard(connection)
            self._freed.notify()

    def close(self) -> None:
        """Close every connection: those in use when they are given back."""
        self._closed = True
        while True:
            try:
                self.discard(self._idle.pop())
            except IndexError:
                break
        with self._freed:
            self._freed.notify_all()

    def forked(self) -> None:
        """Begin anew in a child process; the parent goes on with its connections."""
        for connection in self._mine:
            connection.abandon()
        self._begin()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forked() -> None:
    for pool in list(_pools):
        pool.forked()


os.register_at_fork(after_in_child=_forked)
