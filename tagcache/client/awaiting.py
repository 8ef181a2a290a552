"""What the asyncio and the Twisted client share: everything but the waiting itself.

Coroutines await futures in one world and Deferreds in the other; INetwork is that difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar, overload

from zope.interface import Attribute, Interface

from tagcache import wire
from tagcache.client import requests as making
from tagcache.client.binding import AwaitedCommands, Pending, QueuedCommands
from tagcache.client.options import Options
from tagcache.client.outcomes import raise_first, read_all, windows
from tagcache.client.requests import Batch, Request, Requests, Tag, Ttl
from tagcache.errors import (
    ClientError,
    ConnectionFailed,
    PoolExhausted,
    TimedOut,
    Unavailable,
    UnexpectedReply,
)
from tagcache.sockopts import AppliedOption

T = TypeVar("T")
_ABSENT = object()


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
        self.last_used = network.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether the connection is there, as far as is known."""
        return self._carrier is not None

    def connected(self, carrier: ICarrier) -> None:
        """The network says: bytes can be sent."""
        self._carrier = carrier

    def received(self, chunk: bytes) -> None:
        """The network says: these bytes came."""
        if self._promise is None:
            self.close()
            return
        try:
            lines = self._replies.feed(chunk)
        except UnexpectedReply as error:
            self._end(error)
            return
        if lines is not None:
            promise, self._promise = self._promise, None
            promise.resolve(lines)

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
        timeout = self._options.timeout
        cancel = None if timeout is None else self._network.call_later(timeout, self._late)
        try:
            lines: list[bytes] = await promise.awaited
        finally:
            if cancel is not None:
                cancel()
        return lines

    def _late(self) -> None:
        seconds = self._options.timeout
        self._end(TimedOut(f"{self._options.address} did not answer within {seconds} s"))

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
    """At most ``pool_size`` connections, taken last in first out by one thread."""

    def __init__(self, network: INetwork, options: Options) -> None:
        self._network = network
        self._options = options
        self._idle: list[AwaitedConnection] = []
        self._waiting: deque[IPromise] = deque()
        self._closed = False
        self.open = 0

    async def take(self, new: bool = False) -> tuple[AwaitedConnection, bool]:
        """Return a connection that nobody else uses, and whether it was used before.

        With ``new`` it was not. Raises Unavailable, AuthenticationFailed.
        """
        deadline = self._network.monotonic() + self._options.pool_timeout
        while True:
            if self._idle:
                connection = self._idle.pop()
                if not new and await self._is_usable(connection):
                    return connection, True
                self.discard(connection)
            elif self._closed:
                raise ConnectionFailed("the client is closed")
            elif self.open < self._options.pool_size:
                return await self._connect(), False
            else:
                await self._wait(deadline)

    async def _connect(self) -> AwaitedConnection:
        options = self._options
        connection = AwaitedConnection(self._network, options)
        self.open += 1
        try:
            await self._network.connect(connection)
            if options.username is not None and options.password is not None:
                request = making.auth(options.username, options.password)
                request.read((await connection.exchange(request.payload, 1))[0])
        except BaseException:
            self.discard(connection)
            raise
        return connection

    async def _is_usable(self, connection: AwaitedConnection) -> bool:
        idle = self._network.monotonic() - connection.last_used
        if connection.is_open and idle >= self._options.health_check_seconds:
            try:
                making.PING.read((await connection.exchange(making.PING.payload, 1))[0])
            except ClientError:
                return False
            except BaseException:
                self.discard(connection)
                raise
        return connection.is_open

    async def _wait(self, deadline: float) -> None:
        left = deadline - self._network.monotonic()
        size = self._options.pool_size
        exhausted = PoolExhausted(
            f"all {size} connections are in use, for {self._options.pool_timeout} s"
        )
        if left <= 0:
            raise exhausted
        promise = self._network.promise()
        cancel = self._network.call_later(left, lambda: promise.reject(exhausted))
        self._waiting.append(promise)
        try:
            await promise.awaited
        except BaseException:
            if promise not in self._waiting:
                # It was woken, and gave up at the same time.
                self._wake()
            raise
        finally:
            cancel()
            if promise in self._waiting:
                self._waiting.remove(promise)

    def _wake(self) -> None:
        if self._waiting:
            self._waiting.popleft().resolve(None)

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

    def close(self) -> None:
        """Close every connection: those in use when they are given back."""
        self._closed = True
        while self._idle:
            self.discard(self._idle.pop())
        while self._waiting:
            self._wake()


class AwaitedClient(AwaitedCommands):
    """A client whose methods are coroutines, be there one server or several."""

    _requests: Requests
    _options: Options

    async def _run(self, work: Request[T] | Batch[T]) -> T:
        if isinstance(work, Batch):
            return work.conclude(raise_first(await self._outcomes(work.requests)))
        try:
            return await self._perform(work)
        except Unavailable as error:
            if not self._options.ignore_exc:
                raise
            self._options.ignored(error)
            return work.absent

    async def _outcomes(self, requests: list[Request[Any]]) -> list[Any]:
        """Carry requests out; a result for each, or the exception that took its place."""
        try:
            return await self._perform_all(requests)
        except Unavailable as error:
            if not self._options.ignore_exc:
                raise
            self._options.ignored(error)
            return [request.absent for request in requests]

    async def _perform(self, request: Request[T]) -> T:
        raise NotImplementedError

    async def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        raise NotImplementedError

    @overload
    async def get_or_set(
        self,
        key: str | bytes,
        producer: Callable[[], Awaitable[T]],
        *,
        tags: Iterable[Tag] = (),
        ttl: Ttl | None = None,
    ) -> T: ...

    @overload
    async def get_or_set(
        self,
        key: str | bytes,
        producer: Callable[[], T],
        *,
        tags: Iterable[Tag] = (),
        ttl: Ttl | None = None,
    ) -> T: ...

    async def get_or_set(
        self,
        key: str | bytes,
        producer: Callable[[], Awaitable[T] | T],
        *,
        tags: Iterable[Tag] = (),
        ttl: Ttl | None = None,
    ) -> T:
        """Return what is stored, or what ``producer`` returns, which is stored then.

        What it returns is awaited if it can be. Several callers may produce at the same time;
        tagcache.contrib.cached avoids that within one process.
        """
        found = await self.get(key, _ABSENT)
        if found is _ABSENT:
            produced = producer()
            found = await produced if isinstance(produced, Awaitable) else produced
            await self.put(key, found, tags=tags, ttl=ttl)
        value: T = found
        return value

    def pipeline(self) -> AwaitedPipeline:
        """Return commands to be sent together; see AwaitedPipeline."""
        return AwaitedPipeline(self._requests, self._outcomes)


class PooledClient(AwaitedClient):
    """A client of one server, over a pool of connections."""

    def _pool_here(self) -> AwaitedPool:
        raise NotImplementedError

    async def socket_options(self) -> dict[str, dict[str, Any]]:
        """Return for each socket option what is ``asked``, and what is ``effective``.

        That is read from the socket of a connection of the pool. Raises Unavailable.
        """
        pool = self._pool_here()
        connection, _ = await pool.take()
        try:
            return {each.name: each.describe() for each in connection.options()}
        finally:
            pool.give_back(connection)

    async def _perform(self, request: Request[T]) -> T:
        return request.read((await self._lines([request]))[0])

    async def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        return read_all(requests, await self._lines(requests)) if requests else []

    async def _lines(self, requests: list[Request[Any]]) -> list[bytes]:
        pool = self._pool_here()
        connection, used = await pool.take()
        try:
            return await self._exchange(pool, connection, requests)
        except ConnectionFailed:
            if not (used and all(request.safe for request in requests)):
                raise
            # It had gone stale.
            connection, _ = await pool.take(new=True)
            return await self._exchange(pool, connection, requests)

    async def _exchange(
        self, pool: AwaitedPool, connection: AwaitedConnection, requests: list[Request[Any]]
    ) -> list[bytes]:
        """Send the requests over a connection that was taken, and give that back."""
        lines: list[bytes] = []
        over = False
        for payload, count in windows(requests):
            if over:
                connection, _ = await pool.take(new=True)
            try:
                lines += await connection.exchange(payload, count)
            except BaseException:
                pool.discard(connection)
                raise
            over = lines[-1] in wire.LAST_WORDS
            if over:
                pool.discard(connection)
        if not over:
            pool.give_back(connection)
        return lines


class AwaitedPipeline(QueuedCommands):
    """Commands that are sent together and answered together, in one or few round trips.

    They are not one transaction: other clients' commands may come in between.

        async with client.pipeline() as pipe:
            name = pipe.get("name")
            pipe.increment("views")
        print(name.result())
    """

    def __init__(
        self,
        requests: Requests,
        perform: Callable[[list[Request[Any]]], Awaitable[list[Any]]],
    ) -> None:
        self._requests = requests
        self._perform = perform
        self._queued: list[tuple[Request[Any], Pending[Any]]] = []

    def __len__(self) -> int:
        return len(self._queued)

    async def __aenter__(self) -> AwaitedPipeline:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            await self.execute()

    def _queue(self, request: Request[T]) -> Pending[T]:
        pending: Pending[T] = Pending()
        self._queued.append((request, pending))
        return pending

    async def execute(self) -> list[Any]:
        """Send what was queued and return the results in order.

        Raises the first exception of a command, when all have their result or exception.
        """
        queued, self._queued = self._queued, []
        try:
            outcomes = await self._perform([request for request, _ in queued])
        except ClientError as error:
            for _, pending in queued:
                pending.settle(error)
            raise
        for (_, pending), outcome in zip(queued, outcomes, strict=True):
            pending.settle(outcome)
        return raise_first(outcomes)
