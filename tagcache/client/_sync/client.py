# Generated from tagcache/client/_async/client.py by tools/unasync.py: do not edit.
"""The base class of all clients, and the client of one server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, TypeVar, Unpack

from tagcache.client._sync.commands import BlockingCommands
from tagcache.client._sync.computing import BlockingComputation
from tagcache.client.arguments import Duration, Key, Tag
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
from tagcache.client.pool import Pool
from tagcache.client.queued import Pending, QueuedCommands
from tagcache.client.replies import closes, read_value
from tagcache.client.requests import Batch, Request, Requests
from tagcache.client.single_flight import Flights
from tagcache.errors import ClientError, ConnectionFailed, Unavailable
from tagcache.wire.resp_replies import ErrorReply

T = TypeVar("T")


class BlockingClient(BlockingCommands):
    """What the clients of one server and of several share."""

    _requests: Requests
    _options: Options
    _flights: Flights
    # False once the server has answered that it has no leases.
    _leases = True

    @cached_property
    def _waiting(self) -> BoundedSemaphore:
        # A waiting look-up holds a connection. Filling a lease needs one too, so look-ups must not
        # take all of them.
        return BoundedSemaphore(self._options.pool_size // 2)

    def _run(self, work: Request[T] | Batch[T]) -> T:
        if isinstance(work, Batch):
            return self._run_batch(work)
        try:
            return self._perform(work)
        except ClientError as error:
            result: T = ignored_result(self._options, work, error)
            return result

    def _run_batch(self, batch: Batch[T]) -> T:
        outcomes = self._outcomes(batch.requests)
        for place, request in enumerate(batch.requests):
            if request.singly is not None and is_too_large(outcomes[place]):
                outcomes[place] = self._run_batch(request.singly())
        return batch.conclude(raise_first(outcomes))

    def _outcomes(self, requests: list[Request[Any]]) -> list[Any]:
        """Perform requests; return a result for each, or the exception that replaces it."""
        try:
            outcomes = self._perform_all(requests)
        except Unavailable as error:
            if not self._options.ignore_exc:
                raise
            self._options.ignored(error)
            return [request.absent for request in requests]
        return ignore_errors(self._options, requests, outcomes)

    def _perform(self, request: Request[T]) -> T:
        raise NotImplementedError

    def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        raise NotImplementedError

    def get_or_set(
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

        >>> client.get_or_set("page:1", lambda: "<p>", tags=["post:1"], ttl="5m")
        '<p>'
        >>> client.keys_by_tag("post:1")
        ['page:1']
        """
        options = ComputeOptions(ttl, grace, wait, early_of(early))
        requests = None if type is None else self._requests.typed(type)
        return BlockingComputation[T](self, key, options, requests).result(producer, tags)

    def pipeline(self) -> Pipeline:
        """Return a pipeline, which sends commands together."""
        return Pipeline(self._requests, self._outcomes)


class PooledClient(BlockingClient):
    """A client of one server, over a pool of connections."""

    def __init__(
        self,
        options: Options,
        breaker: Breaker,
        pool_here: Callable[[], Pool],
        flights: Flights,
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

    def socket_options(self) -> dict[str, dict[str, Any]]:
        """Return the ``asked`` and the ``effective`` value of each socket option.

        They are read from the socket of a connection of the pool. Raises Unavailable.
        """
        pool = self._pool_here()
        connection, _ = pool.take()
        try:
            return {each.name: each.describe() for each in connection.applied_options()}
        finally:
            pool.give_back(connection)

    def get(self, key: Key, default: Any = None) -> Any:
        # GET is by far the most frequent command, so it does without a Request.
        payload = self._requests.look_up(key)
        try:
            replies = self._exchange(payload, 1, True)
            content = replies[0]
            if type(content) is not bytes and read_value(content) is None:
                return default
            return self._requests.load(content)
        except ClientError as error:
            return ignored_result(self._options, self._requests.get(key, default), error)

    get.__doc__ = Requests.get.__doc__

    def _perform(self, request: Request[T]) -> T:
        replies = self._exchange(request.payload, 1, request.safe)
        return request.read(replies[0])

    def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        replies: list[Any] = []
        safe = all(request.safe for request in requests)
        for payload, count in windows(requests):
            replies += self._exchange(payload, count, safe)
        return read_all(requests, replies)

    def _exchange(self, payload: bytes, count: int, safe: bool) -> list[Any]:
        """Send requests and return their replies, unless the circuit breaker is open."""
        began = self._breaker.begin()
        pool = self._pool_here()
        new = False
        while True:
            used = False
            try:
                connection, used = pool.take(new, began)
                try:
                    replies = connection.exchange(payload, count)
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


class Client(PooledClient):
    """A client of one server, for any number of threads.

    Options come as an Options object, as keywords, or both: ``Client(host="cache")``.
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
        self._pool = Pool(options, breaker)
        super().__init__(options, breaker, self._pool.here, self._pool.flights)

    @classmethod
    def from_url(cls, url: str, **changes: Unpack[OptionFields]) -> Client:
        """Read the options from a URL; see Options.from_url."""
        return cls(Options.from_url(url, **changes))

    @classmethod
    def from_config(
        cls, file: str | Path, section: str = "client", **changes: Unpack[OptionFields]
    ) -> Client:
        """Read the options from an INI file; see Options.from_config."""
        return cls(Options.from_config(file, section, **changes))

    @property
    def options(self) -> Options:
        """The options of the client."""
        return self._options

    def __repr__(self) -> str:
        return f"<Client of {self._options.address}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; commands then raise ConnectionFailed."""
        self._pool.close()


class Pipeline(QueuedCommands):
    """Commands that are sent together and answered together, in one or a few round trips.

    They are not a transaction: commands of other clients may run in between. ::

        with client.pipeline() as pipe:
            name = pipe.get("name")
            pipe.increment("views")
        print(name.result())
    """

    def __init__(
        self,
        requests: Requests,
        perform: Callable[[list[Request[Any]]], list[Any]],
    ) -> None:
        self._requests = requests
        self._perform = perform
        self._queued: list[tuple[Request[Any], Pending[Any]]] = []

    def __len__(self) -> int:
        return len(self._queued)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            self.execute()

    def _queue(self, request: Request[T]) -> Pending[T]:
        pending: Pending[T] = Pending()
        self._queued.append((request, pending))
        return pending

    def execute(self) -> list[Any]:
        """Send the queued commands and return their results in order.

        When every command has its result or exception, raises the first exception.
        """
        queued, self._queued = self._queued, []
        try:
            outcomes = self._perform([request for request, _ in queued])
        except ClientError as error:
            for _, pending in queued:
                pending.settle(error)
            raise
        for (_, pending), outcome in zip(queued, outcomes, strict=True):
            pending.settle(outcome)
        return raise_first(outcomes)
