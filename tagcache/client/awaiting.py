"""What the asyncio and the Twisted client share: everything but the waiting itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, overload

from tagcache.client.awaited_pool import (
    AwaitedConnection,
    AwaitedPool,
    ICarrier,
    INetwork,
    IPromise,
)
from tagcache.client.binding import AwaitedCommands, Pending, QueuedCommands
from tagcache.client.breaker import Breaker, State
from tagcache.client.options import Options
from tagcache.client.outcomes import (
    overlook_each,
    overlooked,
    raise_first,
    read_all,
    windows,
)
from tagcache.client.requests import Batch, Request, Requests, Tag, Ttl
from tagcache.errors import (
    ClientError,
    ConnectionFailed,
    Unavailable,
)
from tagcache.wire import line as wire

__all__ = [
    "AwaitedClient",
    "AwaitedConnection",
    "AwaitedPipeline",
    "AwaitedPool",
    "ICarrier",
    "INetwork",
    "IPromise",
    "PooledClient",
]

T = TypeVar("T")
_ABSENT = object()


class AwaitedClient(AwaitedCommands):
    """A client whose methods are coroutines, be there one server or several."""

    _requests: Requests
    _options: Options

    async def _run(self, work: Request[T] | Batch[T]) -> T:
        if isinstance(work, Batch):
            return work.conclude(raise_first(await self._outcomes(work.requests)))
        try:
            return await self._perform(work)
        except ClientError as error:
            result: T = overlooked(self._options, work, error)
            return result

    async def _outcomes(self, requests: list[Request[Any]]) -> list[Any]:
        """Carry requests out; a result for each, or the exception that took its place."""
        try:
            outcomes = await self._perform_all(requests)
        except Unavailable as error:
            if not self._options.ignore_exc:
                raise
            self._options.ignored(error)
            return [request.absent for request in requests]
        return overlook_each(self._options, requests, outcomes)

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

    _breaker: Breaker

    @property
    def state(self) -> State:
        """Whether the server is available, considered unavailable, or being tried again."""
        return self._breaker.state

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
        return request.read((await self._answers(request.payload, 1, request.safe))[0])

    async def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        lines: list[bytes] = []
        safe = all(request.safe for request in requests)
        for payload, count in windows(requests):
            lines += await self._answers(payload, count, safe)
        return read_all(requests, lines)

    async def _answers(self, payload: bytes, count: int, safe: bool) -> list[bytes]:
        """Send requests and return their replies, unless the server is considered unavailable."""
        began = self._breaker.begin()
        pool = self._pool_here()
        new = False
        while True:
            used = False
            try:
                connection, used = await pool.take(new, began)
                try:
                    lines = await connection.exchange(payload, count)
                except BaseException as error:
                    self._breaker.failed(error, began, used)
                    pool.discard(connection)
                    raise
            except ClientError as error:
                if not isinstance(error, Unavailable):
                    self._breaker.answered()
                if not (used and safe and isinstance(error, ConnectionFailed)):
                    raise
                # It had gone stale: once more, over a new one.
                new = True
            else:
                break
        self._breaker.answered()
        if lines[-1] in wire.LAST_WORDS:
            pool.discard(connection)
        else:
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
