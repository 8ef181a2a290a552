"""The base class of all clients, and the client of one server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, TypeVar, Unpack, overload

from tagcache.client._async.commands import AwaitedCommands
from tagcache.client._async.computing import AwaitedComputation
from tagcache.client.arguments import Duration, Key, Tag
from tagcache.client.asyncio_network import PoolPerLoop
from tagcache.client.awaited_pool import AwaitedPool
from tagcache.client.breaker import Breaker, State, breaker_for
from tagcache.client.compute_options import ComputeOptions
from tagcache.client.early import Early, early_of
from tagcache.client.making import requests_for
from tagcache.client.options import OptionFields, Options
from tagcache.client.outcomes import (
    ignore_errors,
    ignored_result,
    is_too_large,
    raise_first,
    read_all,
    windows,
)
from tagcache.client.queued import Pending, QueuedCommands
from tagcache.client.replies import closes, read_value
from tagcache.client.requests import Batch, Request, Requests
from tagcache.client.single_flight import AwaitedFlights
from tagcache.errors import ClientError, ConnectionFailed, Unavailable
from tagcache.wire.resp_replies import ErrorReply

T = TypeVar("T")


class AwaitedClient(AwaitedCommands):
    """What the clients of one server and of several share."""

    _requests: Requests
    _options: Options
    _flights: AwaitedFlights
    # False once the server has answered that it has no leases.
    _leases = True

    @cached_property
    def _waiting(self) -> BoundedSemaphore:
        # A waiting look-up holds a connection. Filling a lease needs one too, so look-ups must not
        # take all of them.
        return BoundedSemaphore(self._options.pool_size // 2)

    async def _run(self, work: Request[T] | Batch[T]) -> T:
        if isinstance(work, Batch):
            return await self._run_batch(work)
        try:
            return await self._perform(work)
        except ClientError as error:
            result: T = ignored_result(self._options, work, error)
            return result

    async def _run_batch(self, batch: Batch[T]) -> T:
        outcomes = await self._outcomes(batch.requests)
        for place, request in enumerate(batch.requests):
            if request.singly is not None and is_too_large(outcomes[place]):
                outcomes[place] = await self._run_batch(request.singly())
        return batch.conclude(raise_first(outcomes))

    async def _outcomes(self, requests: list[Request[Any]]) -> list[Any]:
        """Perform requests; return a result for each, or the exception that replaces it."""
        try:
            outcomes = await self._perform_all(requests)
        except Unavailable as error:
            if not self._options.ignore_exc:
                raise
            self._options.ignored(error)
            return [request.absent for request in requests]
        return ignore_errors(self._options, requests, outcomes)

    async def _perform(self, request: Request[T]) -> T:
        raise NotImplementedError

    async def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        raise NotImplementedError

    @overload
    async def get_or_set(  # async only
        self,
        key: Key,
        producer: Callable[[], Awaitable[T]],
        *,
        tags: Iterable[Tag] | Callable[[T], Iterable[Tag]] = (),
        ttl: Duration | Callable[[T], Duration | None] | None = None,
        grace: Duration | None = None,
        wait: Duration | None = None,
        early: Early | float | None = None,
        type: Any = None,
    ) -> T: ...

    @overload
    async def get_or_set(  # async only
        self,
        key: Key,
        producer: Callable[[], T],
        *,
        tags: Iterable[Tag] | Callable[[T], Iterable[Tag]] = (),
        ttl: Duration | Callable[[T], Duration | None] | None = None,
        grace: Duration | None = None,
        wait: Duration | None = None,
        early: Early | float | None = None,
        type: Any = None,
    ) -> T: ...

    async def get_or_set(
        self,
        key: Key,
        producer: Callable[[], Awaitable[T] | T],
        *,
        tags: Iterable[Tag] | Callable[[T], Iterable[Tag]] = (),
        ttl: Duration | Callable[[T], Duration | None] | None = None,
        grace: Duration | None = None,
        wait: Duration | None = None,
        early: Early | float | None = None,
        type: Any = None,
    ) -> T:
        """Return the stored value, or the result of ``producer``, which is then stored.

        A client for asyncio or Twisted awaits that result if it is awaitable. Only one caller calls
        ``producer``. The others wait for up to ``wait`` seconds (None: 5 for another process, 60 in
        this one), and then call their own ``producer``; so do callers when half of ``pool_size``
        connections already wait for other keys. In one process, the others get the same object, or
        the exception of the producer. The result is returned, but not stored, if one of its tags
        was invalidated meanwhile. For ``grace`` seconds after its ``ttl``, or after a soft
        invalidation, the others get the old value while one caller computes a new one; that caller
        gets it too if its producer fails. With ``early`` (1 is usual), one caller computes a new
        value before the end of ``ttl``; see Early. ``tags`` and ``ttl`` may be functions of the
        result. ``type`` is the type of the value, for a serde that knows types
        (``serde=msgspec``); a stored value of another type is removed, and is a miss.

        Durations are seconds, timedeltas or text like "5m". Raises BadArgument for what cannot be
        sent or stored, Refused, Unavailable, and what ``producer`` raises.

        >>> await client.get_or_set("page:1", lambda: "<p>", tags=["post:1"], ttl="5m")
        '<p>'
        >>> await client.keys_by_tag("post:1")
        ['page:1']
        """
        options = ComputeOptions(ttl, grace, wait, early_of(early))
        requests = None if type is None else self._requests.typed(type)
        return await AwaitedComputation[T](self, key, options, requests).result(producer, tags)

    def pipeline(self) -> AwaitedPipeline:
        """Return a pipeline, which sends commands together."""
        return AwaitedPipeline(self._requests, self._outcomes)


class PooledClient(AwaitedClient):
    """A client of one server, over a pool of connections."""

    def __init__(
        self,
        options: Options,
        breaker: Breaker,
        pool_here: Callable[[], AwaitedPool],
        flights: AwaitedFlights,
    ) -> None:
        self._options = options
        self._flights = flights
        self._requests = requests_for(options)
        self._breaker = breaker
        self._pool_here = pool_here

    @property
    def state(self) -> State:
        """Whether the server is available, considered unavailable, or being tried again."""
        return self._breaker.state

    async def socket_options(self) -> dict[str, dict[str, Any]]:
        """Return the ``asked`` and the ``effective`` value of each socket option.

        They are read from the socket of a connection of the pool. Raises Unavailable.
        """
        pool = self._pool_here()
        connection, _ = await pool.take()
        try:
            return {each.name: each.describe() for each in connection.applied_options()}
        finally:
            pool.give_back(connection)

    async def get(self, key: Key, default: Any = None) -> Any:
        # GET is by far the most frequent command, so it does without a Request.
        payload = self._requests.look_up(key)
        try:
            replies = await self._exchange(payload, 1, True)
            content = replies[0]
            if type(content) is not bytes and read_value(content) is None:
                return default
            return self._requests.load(content)
        except ClientError as error:
            return ignored_result(self._options, self._requests.get(key, default), error)

    get.__doc__ = Requests.get.__doc__

    async def _perform(self, request: Request[T]) -> T:
        replies = await self._exchange(request.payload, 1, request.safe)
        return request.read(replies[0])

    async def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        replies: list[Any] = []
        safe = all(request.safe for request in requests)
        for payload, count in windows(requests):
            replies += await self._exchange(payload, count, safe)
        return read_all(requests, replies)

    async def _exchange(self, payload: bytes, count: int, safe: bool) -> list[Any]:
        """Send requests and return their replies, unless the circuit breaker is open."""
        began = self._breaker.begin()
        pool = self._pool_here()
        new = False
        while True:
            used = False
            try:
                connection, used = await pool.take(new, began)
                try:
                    replies = await connection.exchange(payload, count)
                except BaseException as error:
                    # The breaker must know before the pool wakes a waiting caller.
                    self._breaker.failed(error, began, used)
                    pool.discard(connection)
                    raise
            except ClientError as error:
                if not isinstance(error, Unavailable):
                    self._breaker.answered()
                if not (used and safe and isinstance(error, ConnectionFailed)):
                    raise
                # The connection had gone stale. Try once more, over a new one.
                new = True
            else:
                break
        self._breaker.answered()
        if type(replies[-1]) is ErrorReply and closes(replies[-1]):
            pool.discard(connection)
        else:
            pool.give_back(connection)
        return replies


class AsyncClient(PooledClient):
    """A client of one server, for the tasks of any number of event loops.

    Options come as an Options object, as keywords, or both: ``AsyncClient(host="cache")``.
    Nothing is connected before the first command. Pass ``breaker`` to share one among several
    clients of a server, or to choose its clock; see breaker_for. Raises BadArgument.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        breaker: Breaker | None = None,
        **changes: Unpack[OptionFields],
    ) -> None:
        options = (options or Options()).changed(changes)
        breaker = breaker or breaker_for(options)
        self._pools = PoolPerLoop(options, breaker)
        super().__init__(options, breaker, self._pools.here, self._pools.flights)

    @classmethod
    def from_url(cls, url: str, **changes: Unpack[OptionFields]) -> AsyncClient:
        """Read the options from a URL; see Options.from_url."""
        return cls(Options.from_url(url, **changes))

    @classmethod
    def from_config(
        cls, file: str | Path, section: str = "client", **changes: Unpack[OptionFields]
    ) -> AsyncClient:
        """Read the options from an INI file; see Options.from_config."""
        return cls(Options.from_config(file, section, **changes))

    @property
    def options(self) -> Options:
        """The options of the client."""
        return self._options

    def __repr__(self) -> str:
        return f"<AsyncClient of {self._options.address}>"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; commands then raise ConnectionFailed."""
        await self._pools.close()


class AwaitedPipeline(QueuedCommands):
    """Commands that are sent together and answered together, in one or a few round trips.

    They are not a transaction: commands of other clients may run in between. ::

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
        """Send the queued commands and return their results in order.

        When every command has its result or exception, raises the first exception.
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
