"""The client for Twisted: every method returns a Deferred."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tagcache.client._async.client import AwaitedPipeline, PooledClient
from tagcache.client.arguments import Duration, Key, Tag
from tagcache.client.awaited_pool import (
    AwaitedConnection,
    AwaitedPool,
    ICarrier,
    INetwork,
    IPromise,
)
from tagcache.client.breaker import Breaker, State, breaker_for
from tagcache.client.early import Early
from tagcache.client.options import LONGEST_SECONDS, OptionFields, Options
from tagcache.client.queued import QueuedCommands
from tagcache.client.signatures import describe
from tagcache.client.single_flight import AwaitedFlights
from tagcache.client.unread import watch
from tagcache.errors import BadArgument, ClientError, ConnectionFailed, TimedOut
from tagcache.sockopts import AppliedOption, SocketOptions, socket_of

T = TypeVar("T")
P = ParamSpec("P")


@implementer(IPromise)
class _Promise:
    def __init__(self) -> None:
        self.awaited: Deferred[Any] = Deferred()

    def resolve(self, result: Any) -> None:
        if not self.awaited.called:
            self.awaited.callback(result)

    def reject(self, error: Exception) -> None:
        if not self.awaited.called:
            self.awaited.errback(error)


@implementer(ICarrier)
class _Carrier(Protocol):
    def __init__(
        self, connection: AwaitedConnection, asked: SocketOptions, carriers: set[_Carrier]
    ) -> None:
        self._connection = connection
        self._asked = asked
        self._carriers = carriers
        # A transport without a socket delivers everything at once.
        self._unread: Callable[[int], list[tuple[int, int]]] = lambda timeout: []
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        with socket_of(self.transport) as sock:
            if sock is not None:
                self._asked.apply(sock)
                self._unread = watch(sock.fileno())
        self._carriers.add(self)
        self._connection.connected(self)

    def dataReceived(self, data: bytes) -> None:
        self._connection.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._carriers.discard(self)
        self._connection.lost(reason.getErrorMessage())
        self.closed.callback(None)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def abort(self) -> None:
        abort = getattr(self.transport, "abortConnection", None)
        if abort is not None:
            abort()

    def unread(self) -> bool:
        return bool(self._unread(0))

    def applied_options(self) -> tuple[AppliedOption, ...]:
        with socket_of(self.transport) as sock:
            return () if sock is None else self._asked.read(sock)


class _CarrierFactory(Factory):
    noisy = False

    def __init__(self, build: Callable[[], _Carrier]) -> None:
        self._build = build

    def buildProtocol(self, address: IAddress | None) -> Protocol:
        return self._build()


@implementer(INetwork)
class TwistedNetwork:
    """Waits for a reactor, and connects to an endpoint."""

    def __init__(self, reactor: Any, endpoint: IStreamClientEndpoint, options: Options) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._options = options
        self._carriers: set[_Carrier] = set()

    def here(self) -> None:
        return None

    def promise(self) -> IPromise:
        promise: IPromise = _Promise()
        return promise

    def call_later(self, seconds: float, call: Callable[[], object]) -> Callable[[], object]:
        delayed = self._reactor.callLater(seconds, call)

        def cancel() -> None:
            if delayed.active():
                delayed.cancel()

        return cancel

    def monotonic(self) -> float:
        seconds: float = self._reactor.seconds()
        return seconds

    async def connect(self, connection: AwaitedConnection) -> None:
        asked = self._options.socket_options
        factory = _CarrierFactory(lambda: _Carrier(connection, asked, self._carriers))
        connecting = self._endpoint.connect(factory)
        late = []
        seconds = self._options.connect_timeout
        if seconds is not None:

            def timed_out(reason: Any, timeout: float) -> Any:
                late.append(timeout)
                return reason

            connecting.addTimeout(seconds, self._reactor, timed_out)
        try:
            await connecting
        except ClientError:
            raise
        except CancelledError:
            if late:
                raise TimedOut(f"{self._options.address} did not accept in {seconds} s") from None
            raise
        except Exception as error:
            # An endpoint may fail with any exception.
            raise ConnectionFailed(f"{self._options.address}: {error}") from error

    async def until_closed(self) -> None:
        """Wait for connections that are being closed."""
        for carrier in list(self._carriers):
            await carrier.closed


def _deferred(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], Deferred[T]]:
    @wraps(method)
    def returning(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return Deferred.fromCoroutine(method(self._client, *args, **kwargs))

    describe(returning, method, "Deferred[{}]")
    return returning


class DeferredClient:
    """A client of one server, over an endpoint of Twisted.

    Options come as an Options object, as keywords, or both; the endpoint says where the server is.
    Nothing is connected before the first command. Pass ``breaker`` to share one among several
    clients of a server; see breaker_for. Raises BadArgument.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        options: Options | None = None,
        *,
        breaker: Breaker | None = None,
        **changes: Unpack[OptionFields],
    ) -> None:
        self.options = (options or Options()).changed(changes)
        if self.options.tls:
            raise BadArgument("tls is up to the endpoint: see from_options")
        breaker = breaker or breaker_for(self.options, reactor.seconds)
        self._network = TwistedNetwork(reactor, endpoint, self.options)
        self._pool = AwaitedPool(self._network, self.options, breaker)
        flights = AwaitedFlights(self._network)
        self._client = PooledClient(self.options, breaker, lambda: self._pool, flights)

    @classmethod
    def from_options(cls, reactor: Any, options: Options) -> DeferredClient:
        """Connect to the server that the options name."""
        endpoint = _endpoint(reactor, options)
        plain: OptionFields = {"tls": False, "tls_verify": True}
        plain |= {"tls_ca_file": None, "tls_server_name": None}
        client = cls(reactor, endpoint, options.changed(plain))
        client.options = options
        return client

    @classmethod
    def from_url(cls, reactor: Any, url: str, **changes: Unpack[OptionFields]) -> DeferredClient:
        """Read the options from a URL; see Options.from_url."""
        return cls.from_options(reactor, Options.from_url(url, **changes))

    @classmethod
    def from_config(
        cls,
        reactor: Any,
        file: str | Path,
        section: str = "client",
        **changes: Unpack[OptionFields],
    ) -> DeferredClient:
        """Read the options from an INI file; see Options.from_config."""
        return cls.from_options(reactor, Options.from_config(file, section, **changes))

    @property
    def state(self) -> State:
        """Whether the server is available, considered unavailable, or being tried again."""
        return self._client.state

    def __repr__(self) -> str:
        return f"<DeferredClient of {self.options.address}>"

    get = _deferred(PooledClient.get)
    put = _deferred(PooledClient.put)
    add = _deferred(PooledClient.add)
    get_many = _deferred(PooledClient.get_many)
    put_many = _deferred(PooledClient.put_many)
    delete = _deferred(PooledClient.delete)
    delete_many = _deferred(PooledClient.delete_many)
    increment = _deferred(PooledClient.increment)
    decrement = _deferred(PooledClient.decrement)
    touch = _deferred(PooledClient.touch)
    invalidate_tag = _deferred(PooledClient.invalidate_tag)
    invalidate_tags = _deferred(PooledClient.invalidate_tags)
    invalidate_keys = _deferred(PooledClient.invalidate_keys)
    keys_by_tag = _deferred(PooledClient.keys_by_tag)
    search = _deferred(PooledClient.search)
    flush = _deferred(PooledClient.flush)
    stats = _deferred(PooledClient.stats)
    info = _deferred(PooledClient.info)
    ping = _deferred(PooledClient.ping)
    clients = _deferred(PooledClient.clients)
    socket_options = _deferred(PooledClient.socket_options)

    def get_or_set(
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
    ) -> Deferred[T]:
        """Return the stored value, or the result of ``producer``, which is then stored.

        A Deferred or a coroutine that it returns is awaited. See PooledClient.get_or_set.
        """
        return Deferred.fromCoroutine(
            self._client.get_or_set(
                key,
                cast(Any, producer),
                tags=tags,
                ttl=ttl,
                grace=grace,
                wait=wait,
                early=early,
                type=type,
            )
        )

    def pipeline(self) -> DeferredPipeline:
        """Return a pipeline, which sends commands together."""
        return DeferredPipeline(self._client.pipeline())

    def close(self) -> Deferred[None]:
        """Close every connection; commands then fail with ConnectionFailed.

        Fires when the idle connections are closed; those in use are closed after their command.
        """
        self._pool.close()
        return Deferred.fromCoroutine(self._network.until_closed())


class DeferredPipeline(QueuedCommands):
    """Commands that are sent together and answered together, in one or a few round trips.

    They are not a transaction: commands of other clients may run in between.

        pipe = client.pipeline()
        name = pipe.get("name")
        pipe.increment("views")
        yield pipe.execute()
        print(name.result())
    """

    def __init__(self, pipeline: AwaitedPipeline) -> None:
        self._requests = pipeline._requests
        self._queue = pipeline._queue
        self._pipeline = pipeline

    def __len__(self) -> int:
        return len(self._pipeline)

    def execute(self) -> Deferred[list[Any]]:
        """Send the queued commands; fires with their results in order.

        When every command has its result or exception, fails with the first exception.
        """
        return Deferred.fromCoroutine(self._pipeline.execute())


def _endpoint(reactor: Any, options: Options) -> IStreamClientEndpoint:
    seconds = options.connect_timeout or LONGEST_SECONDS
    if options.path is not None:
        return UNIXClientEndpoint(reactor, options.path, timeout=seconds)
    endpoint = HostnameEndpoint(reactor, options.host, options.port, timeout=seconds)
    if options.tls:
        try:
            from tagcache.client.deferred_tls import wrapped
        except ImportError:
            raise BadArgument("tls needs: pip install 'tagcache-server[tls]'") from None

        return wrapped(endpoint, options)
    return cast(IStreamClientEndpoint, endpoint)
