"""Connections and their pool, for clients whose methods are awaited.

Their coroutines await futures on asyncio and Deferreds on Twisted; INetwork hides the difference.
The pool for threads is in tagcache.client.pool; it uses locks, and this one uses promises.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from zope.interface import Attribute, Interface

from tagcache.client.breaker import Breaker
from tagcache.client.making import greeting
from tagcache.client.options import Options
from tagcache.client.replies import Replies
from tagcache.client.requests import PING
from tagcache.errors import (
    ClientError,
    ConnectionFailed,
    PoolExhausted,
    TimedOut,
    UnexpectedReply,
)
from tagcache.sockopts import AppliedOption

# Seconds that a late event loop gets to read what has already arrived.
_GRACE = 0.01


class IPromise(Interface):
    """A result that is awaited once."""

    awaited = Attribute("the awaitable")

    def resolve(result: Any) -> None:
        """Set the result, unless there is a result or an error already."""

    def reject(error: Exception) -> None:
        """Make the awaiting code raise ``error``, unless there is a result or an error already."""


class ICarrier(Interface):
    """The transport of one connection."""

    def write(data: bytes) -> None:
        """Send ``data`` as soon as possible."""

    def abort() -> None:
        """Close the connection at once."""

    def unread() -> bool:
        """Return whether there is anything to read, or the peer has closed the connection."""

    def applied_options() -> tuple[AppliedOption, ...]:
        """Return the current socket options."""


class INetwork(Interface):
    """Where coroutines wait: asyncio's event loop, or a Twisted reactor."""

    def here() -> Hashable:
        """Return a key that is equal for all coroutines that may share a promise."""

    def promise() -> IPromise:
        """Return a new promise."""

    def call_later(seconds: float, call: Callable[[], object]) -> Callable[[], object]:
        """Schedule a call; return a function that cancels it."""

    def monotonic() -> float:
        """Return the time in seconds."""

    def connect(connection: AwaitedConnection) -> Awaitable[None]:
        """Connect, and call ``connected`` of ``connection``. Raises Unavailable."""


class AwaitedConnection:
    """One connection: requests out, replies in, one exchange at a time."""

    def __init__(self, network: INetwork, options: Options) -> None:
        self._network = network
        self._options = options
        self._carrier: ICarrier | None = None
        self._promise: IPromise | None = None
        self._replies = Replies()
        self._timeout = options.timeout
        self._due = 0.0
        self.last_used = network.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether the connection is established, as far as is known."""
        return self._carrier is not None

    def is_clean(self) -> bool:
        """Return whether the connection is open, and there is nothing to read on it.

        Between requests, only the end of the stream or an unexpected reply can arrive.
        """
        return self._carrier is not None and not self._carrier.unread()

    def connected(self, carrier: ICarrier) -> None:
        """Called by the network when bytes can be sent."""
        self._carrier = carrier

    def received(self, chunk: bytes) -> None:
        """Called by the network with bytes that arrived."""
        if self._promise is None:
            self.close()
            return
        before = self._replies.progress
        try:
            replies = self._replies.feed(chunk)
        except UnexpectedReply as error:
            self._end(error)
            return
        if replies is not None:
            promise, self._promise = self._promise, None
            promise.resolve(replies)
        elif self._timeout is not None and self._replies.progress > before:
            # The timeout starts again with each reply.
            self._due = self._network.monotonic() + self._timeout

    def lost(self, reason: str) -> None:
        """Called by the network when the connection is gone."""
        self._end(ConnectionFailed(f"{self._options.address}: {reason}"))

    async def exchange(self, payload: bytes, count: int) -> list[Any]:
        """Send ``payload`` and return the ``count`` replies.

        After any exception the state of the connection is unknown, and it must be closed.
        """
        if self._carrier is None:
            raise ConnectionFailed(f"{self._options.address} closed the connection")
        promise = self._network.promise()
        self._replies.expect(count)
        self._promise = promise
        self._carrier.write(payload)
        if self._timeout is None:
            replies: list[Any] = await promise.awaited
            return replies
        self._due = self._network.monotonic() + self._timeout
        self._schedule_check(self._timeout)
        try:
            replies = await promise.awaited
        finally:
            self._cancel_check()
        return replies

    def _schedule_check(self, seconds: float, last: bool = False) -> None:
        self._cancel_check = self._network.call_later(seconds, lambda: self._check_time(last))

    def _check_time(self, last: bool) -> None:
        left = self._due - self._network.monotonic()
        if self._promise is None or self._carrier is None:
            return
        if left > 0:
            self._schedule_check(left)
        elif not last and self._carrier.unread():
            # The event loop is late, not the server: it has not read the reply yet.
            self._schedule_check(_GRACE, last=True)
        else:
            self._end(TimedOut(f"{self._options.address} did not answer within {self._timeout} s"))

    async def is_answered(self) -> bool:
        """Test an idle connection with PING."""
        self._timeout = self._options.health_check_timeout
        try:
            return PING.read((await self.exchange(PING.payload, 1))[0])
        except ClientError:
            return False
        finally:
            self._timeout = self._options.timeout

    def _end(self, error: ClientError) -> None:
        promise, self._promise = self._promise, None
        self.close()
        if promise is not None:
            promise.reject(error)

    def applied_options(self) -> tuple[AppliedOption, ...]:
        """Return the current socket options."""
        return () if self._carrier is None else self._carrier.applied_options()

    def close(self) -> None:
        """Close the connection."""
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.abort()


class AwaitedPool:
    """At most ``pool_size`` connections, last in first out, for one thread.

    Callers wait in order of arrival. ``breaker`` records failures to connect, and ends the waiting
    when it opens.
    """

    def __init__(self, network: INetwork, options: Options, breaker: Breaker) -> None:
        self._network = network
        self._options = options
        self._breaker = breaker
        self._idle: list[AwaitedConnection] = []
        # The waiting callers, in order. A promise is resolved when there may be a connection.
        self._turns: OrderedDict[object, IPromise] = OrderedDict()
        self._closed = False
        self.open = 0

    async def take(
        self, new: bool = False, began: float | None = None
    ) -> tuple[AwaitedConnection, bool]:
        """Return a connection for one caller, and whether it has been used before.

        ``new`` asks for one that has not. ``began`` is when the command started. Raises
        Unavailable, AuthenticationFailed, Refused.
        """
        connection = None if self._turns else self._claim()
        if connection is None:
            connection = await self._wait()
        try:
            if connection.is_open:
                if not new and await self._is_usable(connection):
                    return connection, True
                # The others have been idle for longer, and are probably stale too.
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
        """Return an idle connection, or a new one if the pool is not full."""
        if self._closed:
            raise ConnectionFailed("the client is closed")
        if self._idle:
            return self._idle.pop()
        if self.open < self._options.pool_size:
            self.open += 1
            return AwaitedConnection(self._network, self._options)
        return None

    async def _connect(self, connection: AwaitedConnection) -> None:
        await self._network.connect(connection)
        for request in greeting(self._options):
            request.read((await connection.exchange(request.payload, 1))[0])

    async def _is_usable(self, connection: AwaitedConnection) -> bool:
        if not connection.is_clean():
            return False
        idle = self._network.monotonic() - connection.last_used
        return idle < self._options.health_check_seconds or await connection.is_answered()

    async def _wait(self) -> AwaitedConnection:
        seconds = self._options.pool_timeout
        exhausted = PoolExhausted(
            f"all {self._options.pool_size} connections were in use for {seconds} s"
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
            # In the loop's next turn: on Twisted, the waiting caller would run recursively here.
            self._network.call_later(0, self._call_first)

    def _call_first(self) -> None:
        if self._turns and (self._idle or self.open < self._options.pool_size or self._closed):
            next(iter(self._turns.values())).resolve(None)

    def give_back(self, connection: AwaitedConnection) -> None:
        """Return a working connection to the pool."""
        if self._closed or not connection.is_open:
            self.discard(connection)
            return
        connection.last_used = self._network.monotonic()
        self._idle.append(connection)
        self._wake()

    def discard(self, connection: AwaitedConnection) -> None:
        """Close a connection, and free its place in the pool."""
        connection.close()
        self.open -= 1
        self._wake()

    def _drop_idle(self) -> None:
        while self._idle:
            self.discard(self._idle.pop())

    def close(self) -> None:
        """Close every connection; those in use are closed when they are given back."""
        self._closed = True
        self._drop_idle()
        self._wake()
