"""The client for threads: every method returns its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack

from tagcache.client.binding import BlockingCommands, Pending, QueuedCommands
from tagcache.client.breaker import Breaker, State, breaker_for
from tagcache.client.connection import Connection
from tagcache.client.making import requests_for
from tagcache.client.options import OptionFields, Options
from tagcache.client.outcomes import (
    overlook_each,
    overlooked,
    raise_first,
    read_all,
    windows,
)
from tagcache.client.pool import Pool
from tagcache.client.requests import Batch, Key, Request, Requests, Tag, Ttl
from tagcache.errors import ClientError, ConnectionFailed, Unavailable
from tagcache.wire import line as wire

T = TypeVar("T")
_ABSENT = object()


class BlockingClient(BlockingCommands):
    """What all blocking clients share, be there one server or several."""

    _requests: Requests
    _options: Options

    def _run(self, work: Request[T] | Batch[T]) -> T:
        if isinstance(work, Batch):
            return work.conclude(raise_first(self._outcomes(work.requests)))
        try:
            return self._perform(work)
        except ClientError as error:
            result: T = overlooked(self._options, work, error)
            return result

    def _outcomes(self, requests: list[Request[Any]]) -> list[Any]:
        """Carry requests out; a result for each, or the exception that took its place."""
        try:
            outcomes = self._perform_all(requests)
        except Unavailable as error:
            if not self._options.ignore_exc:
                raise
            self._options.ignored(error)
            return [request.absent for request in requests]
        return overlook_each(self._options, requests, outcomes)

    def _perform(self, request: Request[T]) -> T:
        raise NotImplementedError

    def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        raise NotImplementedError

    def get_or_set(
        self,
        key: str | bytes,
        producer: Callable[[], T],
        *,
        tags: Iterable[Tag] = (),
        ttl: Ttl | None = None,
    ) -> T:
        """Return what is stored, or what ``producer`` returns, which is stored then.

        Several callers may produce at the same time; tagcache.contrib.cached avoids that within
        one process. What is invalidated while it is produced may be stored nevertheless.
        """
        found = self.get(key, _ABSENT)
        if found is _ABSENT:
            found = producer()
            self.put(key, found, tags=tags, ttl=ttl)
        value: T = found
        return value

    def pipeline(self) -> Pipeline:
        """Return commands to be sent together; see Pipeline."""
        return Pipeline(self._requests, self._outcomes)


class Client(BlockingClient):
    """A client of one server, for any number of threads.

    Options come as an Options object, as keywords, or both: ``Client(host="cache", timeout=0.2)``.
    Nothing is connected before the first command. ``breaker`` is given where several clients of a
    server share one, or to choose its clock; see breaker_for. Raises BadArgument.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        breaker: Breaker | None = None,
        **changes: Unpack[OptionFields],
    ) -> None:
        self._options = options = (options or Options()).changed(changes)
        self._requests = requests_for(options)
        self._breaker = breaker or breaker_for(options)
        self._pool = Pool(
            lambda: Connection(options),
            options.pool_size,
            options.pool_timeout,
            self._breaker,
        )

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
        """What the client was told."""
        return self._options

    @property
    def state(self) -> State:
        """Whether the server is available, considered unavailable, or being tried again."""
        return self._breaker.state

    def __repr__(self) -> str:
        return f"<Client of {self._options.address}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; commands raise ConnectionFailed from now on."""
        self._pool.close()

    def socket_options(self) -> dict[str, dict[str, Any]]:
        """Return for each socket option what is ``asked``, and what is ``effective``.

        That is read from the socket of a connection of the pool. Raises Unavailable.
        """
        connection, _ = self._pool.take()
        try:
            return {each.name: each.describe() for each in connection.applied_options()}
        finally:
            self._pool.give_back(connection)

    def get(self, key: Key, default: Any = None) -> Any:
        # The most frequent command by far: without the objects that the others are made of.
        payload = self._requests.look_up(key)
        try:
            content = wire.read_value(self._answers(payload, 1, True)[0])
            return default if content is None else self._requests.load(content)
        except ClientError as error:
            return overlooked(self._options, self._requests.get(key, default), error)

    get.__doc__ = Requests.get.__doc__

    def _perform(self, request: Request[T]) -> T:
        return request.read(self._answers(request.payload, 1, request.safe)[0])

    def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        lines: list[bytes] = []
        safe = all(request.safe for request in requests)
        for payload, count in windows(requests):
            lines += self._answers(payload, count, safe)
        return read_all(requests, lines)

    def _answers(self, payload: bytes, count: int, safe: bool) -> list[bytes]:
        """Send requests and return their replies, unless the server is considered unavailable."""
        began = self._breaker.begin()
        new = False
        while True:
            used = False
            try:
                connection, used = self._pool.take(new, began)
                try:
                    lines = connection.exchange(payload, count)
                except BaseException as error:
                    # Before a waiting caller takes its place.
                    self._breaker.failed(error, began, used)
                    self._pool.discard(connection)
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
            self._pool.discard(connection)
        else:
            self._pool.give_back(connection)
        return lines


class Pipeline(QueuedCommands):
    """Commands that are sent together and answered together, in one or few round trips.

    They are not one transaction: other clients' commands may come in between.

        with client.pipeline() as pipe:
            name = pipe.get("name")
            pipe.increment("views")
        print(name.result())
    """

    def __init__(
        self, requests: Requests, perform: Callable[[list[Request[Any]]], list[Any]]
    ) -> None:
        self._requests = requests
        self._perform = perform
        self._queued: list[tuple[Request[Any], Pending[Any]]] = []

    def __len__(self) -> int:
        return len(self._queued)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.execute()

    def _queue(self, request: Request[T]) -> Pending[T]:
        pending: Pending[T] = Pending()
        self._queued.append((request, pending))
        return pending

    def execute(self) -> list[Any]:
        """Send what was queued and return the results in order.

        Raises the first exception of a command, when all have their result or exception.
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
