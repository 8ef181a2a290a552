"""Connections and their pool, for the clients whose methods are awaited.

Coroutines await futures in one world and Deferreds in the other; INetwork is that difference.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from zope.interface import Attribute, Interface

from tagcache.client import requests as making
from tagcache.client.breaker import Breaker
from tagcache.client.options import Options
from tagcache.errors import (
    ClientError,
    ConnectionFailed,
    PoolExhausted,
    TimedOut,
    UnexpectedReply,
)
from tagcache.sockopts import AppliedOption
from tagcache.wire import line as wire

# So many seconds an event loop that is busy gets to read what is there already.
_GRACE = 0.01


class IPromise(Interface):
    """A result that is awaited once."""

    awaited = Attribute("the awaitable")

    def resolve(result: Any) -> None:
        """Give the result; nothing happens where there is one already."""

    def reject(error: Exception) -> None:
        """Have the awaiting code raise ``error``; nothing happens where there is a result."""


class ICarrier(Interface):
    """What carries the bytes of one connection."""

    def write(data: bytes) -> None:
        """Send these bytes when possible."""

    def abort() -> None:
        """Close the connection at once."""

    def unread() -> bool:
        """Say whether anything waits to be read, or the other side has closed."""

    def options() -> tuple[AppliedOption, ...]:
        """Return the socket options as they are now."""


class INetwork(Interface):
    """Where coroutines wait: asyncio's event loop, or a Twisted reactor."""

    def promise() -> IPromise:
        """Return a new one."""

    def call_later(seconds: float, call: Callable[[], object]) -> Callable[[], object]:
        """Have something called; what is returned takes that back."""

    def monotonic() -> float:
        """Return the time in seconds."""

    def connect(connection: AwaitedConnection) -> Awaitable[None]:
        """Connect; then ``connected`` of ``connection`` was called. Raises Unavailable."""

    def gather(work: list[Coroutine[Any, Any, Any]]) -> Awaitable[list[Any]]:
        """Run coroutines beside each other; returns the result of each, or its exception."""


class AwaitedConnection:
    """One connection: requests out, reply lines in, one exchange at a time."""

    def __init__(self, network: INetwork, options: Options) -> None:
        self._network = network
        self._options = options
        self._carrier: ICarrier | None = None
        self._promise: IPromise | None = None
        self._replies = wire.Replies(0)
        self._timeout = options.timeout
        self._due = 0.0
        self.last_used = network.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether the connection is there, as far as is known."""
        return self._carrier is not None

    def is_clean(self) -> bool:
        """Say whether the connection is there, and nothing waits on it.

        What does wait is the end of the stream, or what nobody asked for.
        """
        return self._carrier is not None and not self._carrier.unread()

    def connected(self, carrier: ICarrier) -> None:
        """The network says: bytes can be sent."""
        self._carrier = carrier

    def received(self, chunk: bytes) -> None:
        """The network says: these bytes came."""
        if self._promise is None:
            self.close()
            return
        before = self._replies.received
        try:
            lines = self._replies.feed(chunk)
        except UnexpectedReply as error:
            self._end(error)
            return
        if lines is not None:
            promise, self._promise = self._promise, None
            promise.resolve(lines)
        elif self._timeout is not None and self._replies.received > before:
            # Each reply may take the whole time, from the one before it.
            self._due = self._network.monotonic() + self._timeout

    def lost(self, reason: str) -> None:
        """The network says: the connection is gone."""
        self._end(ConnectionFailed(f"{self._options.address}: {reason}"))

    async def exchange(self, payload: bytes, count: int) -> list[bytes]:
        """Send ``payload`` and return the ``count`` reply lines, without their ends.

        After any exception the connection's state is unknown: it must be closed.
        """
        if self._carrier is None:
            raise ConnectionFailed(f"{self._options.address} closed the connection")
        promise = self._network.promise()
        self._replies = wire.Replies(count)
        self._promise = promise
        self._carrier.write(payload)
        if self._timeout is None:
            lines: list[bytes] = await promise.awaited
            return lines
        self._due = self._network.monotonic() + self._timeout
        self._watch_time(self._timeout)
        try:
            lines = await promise.awaited
        finally:
            self._unwatch()
        return lines

    def _watch_time(self, seconds: float, last: bool = False) -> None:
        self._unwatch = self._network.call_later(seconds, lambda: self._look_at_time(last))

    def _look_at_time(self, last: bool) -> None:
        left = self._due - self._network.monotonic()
        if self._promise is None or self._carrier is None:
            return
        if left > 0:
            self._watch_time(left)
        elif not last and self._carrier.unread():
            # The loop is late, not the server: it has not come to read yet.
            self._watch_time(_GRACE, last=True)
        else:
            self._end(TimedOut(f"{self._options.address} did not answer within {self._timeout} s"))

    async def is_answered(self) -> bool:
        """Try the connection, which was idle, with PING."""
        self._timeout = self._options.health_check_timeout
        try:
            return making.PING.read((await self.exchange(making.PING.payload, 1))[0])
        except ClientError:
            return False
        finally:
            self._timeout = self._options.timeout

    def _end(self, error: ClientError) -> None:
        promise, self._promise = self._promise, None
        self.close()
        if promise is not None:
            promise.reject(error)

    def options(self) -> tuple[AppliedOption, ...]:
        """Return the socket options as they are now."""
        return () if self._carrier is None else self._carrier.options()

    def close(self) -> None:
        """Close it."""
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.abort()


class AwaitedPool:
    """At most ``pool_size`` connections, taken last in first out by one thread.

    Callers wait in order. ``breaker`` is told how connecting went, and ends the waiting when the
    server fails.
    """

    def __init__(self, network: INetwork, options: Options, breaker: Breaker) -> None:
        self._network = network
        self._options = options
        self._breaker = breaker
        self._idle: list[AwaitedConnection] = []
        # Waiting callers, in order; a promise is resolved when it is worth looking again.
        self._turns: OrderedDict[object, IPromise] = OrderedDict()
        self._closed = False
        self.open = 0

    async def take(
        self, new: bool = False, began: float | None = None
    ) -> tuple[AwaitedConnection, bool]:
        """Return a connection that nobody else uses, and whether it was used before.

        With ``new`` it was not. ``began`` is when the command began that needs it. Raises
        Unavailable, AuthenticationFailed.
        """
        connection = None if self._turns else self._claim()
        if connection is None:
            connection = await self._wait()
        try:
            if connection.is_open:
                if not new and await self._is_usable(connection):
                    return connection, True
                # The others have been idle for longer.
                self._drop_idle()
                connection.close()
                connection = AwaitedConnection(self._network, self._options)
            await self._connect(connection)
        except BaseException as error:
            self._breaker.failed(error, began)
            self.discard(connection)
            raise
        return connection, False

    def _claim(self) -> AwaitedConnection | None:
        """Return an idle connection, or one to be connected, if there is one."""
        if self._closed:
            raise ConnectionFailed("the client is closed")
        if self._idle:
            return self._idle.pop()
        if self.open < self._options.pool_size:
            self.open += 1
            return AwaitedConnection(self._network, self._options)
        return None

    async def _connect(self, connection: AwaitedConnection) -> None:
        options = self._options
        await self._network.connect(connection)
        if options.username is not None and options.password is not None:
            request = making.auth(options.username, options.password)
            request.read((await connection.exchange(request.payload, 1))[0])

    async def _is_usable(self, connection: AwaitedConnection) -> bool:
        if not connection.is_clean():
            return False
        idle = self._network.monotonic() - connection.last_used
        return idle < self._options.health_check_seconds or await connection.is_answered()

    async def _wait(self) -> AwaitedConnection:
        seconds = self._options.pool_timeout
        exhausted = PoolExhausted(
            f"all {self._options.pool_size} connections are in use, for {seconds} s"
        )
        if not seconds:
            raise exhausted
        turn = object()
        self._turns[turn] = self._network.promise()
        cancel = self._network.call_later(seconds, lambda: self._turns[turn].reject(exhausted))
        try:
            while True:
                await self._turns[turn].awaited
                self._breaker.check()
                if (connection := self._claim()) is not None:
                    return connection
                self._turns[turn] = self._network.promise()
        finally:
            cancel()
            del self._turns[turn]
            self._wake()

    def _wake(self) -> None:
        if self._turns:
            # Not at once: on Twisted the waiting caller would run in here, and wake the next one.
            self._network.call_later(0, self._call_first)

    def _call_first(self) -> None:
        if self._turns and (self._idle or self.open < self._options.pool_size or self._closed):
            next(iter(self._turns.values())).resolve(None)

    def give_back(self, connection: AwaitedConnection) -> None:
        """Let others use a connection that works."""
        if self._closed or not connection.is_open:
            self.discard(connection)
            return
        connection.last_used = self._network.monotonic()
        self._idle.append(connection)
        self._wake()

    def discard(self, connection: AwaitedConnection) -> None:
        """Close a connection, which makes room for another."""
        connection.close()
        self.open -= 1
        self._wake()

    def _drop_idle(self) -> None:
        while self._idle:
            self.discard(self._idle.pop())

    def close(self) -> None:
        """Close every connection: those in use when they are given back."""
        self._closed = True
        self._drop_idle()
        self._wake()
