"""The network of the asyncio client: connections of event loops, and a pool for each loop."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar, cast

from zope.interface import implementer

from tagcache.client.awaited_pool import (
    AwaitedConnection,
    AwaitedPool,
    ICarrier,
    INetwork,
    IPromise,
)
from tagcache.client.breaker import Breaker
from tagcache.client.options import Options, address_for_people
from tagcache.client.single_flight import AwaitedFlights
from tagcache.client.unread import watch
from tagcache.errors import ConnectionFailed, TimedOut
from tagcache.sockopts import AppliedOption, SocketOptions

T = TypeVar("T")

# The reason of a connection error that gives none.
_LATE = "timed out"


@implementer(IPromise)
class _Future:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.awaited: asyncio.Future[Any] = loop.create_future()

    def resolve(self, result: Any) -> None:
        if not self.awaited.done():
            self.awaited.set_result(result)

    def reject(self, error: Exception) -> None:
        if not self.awaited.done():
            self.awaited.set_exception(error)


@implementer(ICarrier)
class _Carrier(asyncio.Protocol):
    def __init__(self, connection: AwaitedConnection, asked: SocketOptions) -> None:
        self._connection = connection
        self._asked = asked
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Transports of other event loops do not inherit from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        # Apply them again, because event loops set TCP_NODELAY themselves.
        self._asked.apply(sock)
        self._unread = watch(sock.fileno())
        self._connection.connected(self)

    def data_received(self, data: bytes) -> None:
        self._connection.received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._connection.lost(str(error or "the connection was closed"))

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def unread(self) -> bool:
        transport = self._transport
        return transport is None or transport.is_closing() or bool(self._unread(0))

    def applied_options(self) -> tuple[AppliedOption, ...]:
        transport = self._transport
        return () if transport is None else self._asked.read(transport.get_extra_info("socket"))


@implementer(INetwork)
class AsyncioNetwork:
    """Waits in the running event loop."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def here(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def promise(self) -> IPromise:
        promise: IPromise = _Future(self._loop)
        return promise

    def call_later(self, seconds: float, call: Callable[[], object]) -> Callable[[], object]:
        return self._loop.call_later(seconds, call).cancel

    def monotonic(self) -> float:
        return self._loop.time()

    async def connect(self, connection: AwaitedConnection) -> None:
        options = self._options
        loop = self._loop
        asked = options.socket_options

        def carrier() -> _Carrier:
            return _Carrier(connection, asked)

        sock = await self._connected_socket()
        mark = os.fstat(sock.fileno())
        try:
            async with asyncio.timeout(options.connect_timeout):
                if options.path is not None:
                    await loop.create_unix_connection(carrier, sock=sock)
                elif options.tls:
                    name = options.tls_server_name or options.host
                    context = options.tls_context()
                    await loop.create_connection(
                        carrier, sock=sock, ssl=context, server_hostname=name
                    )
                else:
                    await loop.create_connection(carrier, sock=sock)
        except TimeoutError:
            _end(sock, mark)
            raise TimedOut(f"{options.address} did not answer the TLS handshake") from None
        except OSError as error:
            _end(sock, mark)
            raise ConnectionFailed(f"{options.address}: {error}") from error
        except BaseException:
            _end(sock, mark)
            raise

    async def _connected_socket(self) -> socket.socket:
        """Try all addresses of the server in turn, with the socket options set first."""
        options = self._options
        loop = self._loop
        addresses: list[Any] = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", options.path)]
        if options.path is None:
            try:
                addresses = await loop.getaddrinfo(
                    options.host, options.port, type=socket.SOCK_STREAM
                )
            except (OSError, UnicodeError) as error:
                raise ConnectionFailed(f"{options.host} is not known: {error}") from error
        faults = []
        late = True
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                options.socket_options.apply(sock)
                async with asyncio.timeout(options.connect_timeout):
                    await _connect(loop, sock, address)
                return sock
            except OSError as error:
                if isinstance(error, TimeoutError) and _is_connected(sock):
                    # The event loop was late, not the server.
                    return sock
                sock.close()
                late = late and isinstance(error, TimeoutError)
                faults.append(f"{address_for_people(address)}: {error.strerror or _LATE}")
            except BaseException:
                sock.close()
                raise
        raise (TimedOut if late else ConnectionFailed)("; ".join(faults))


async def _connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, address: Any) -> None:
    """Connect, and always remove the socket from the loop.

    The loops' own sock_connect does so only in their next turn, when the descriptor's number may
    belong to another socket; and uvloop's resolves the address again.
    """
    try:
        sock.connect(address)
    except BlockingIOError as error:
        if error.errno != errno.EINPROGRESS:
            raise
    else:
        return
    connected = _Future(loop)
    loop.add_writer(sock, connected.resolve, None)
    try:
        await connected.awaited
    finally:
        loop.remove_writer(sock)
    fault = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if fault:
        raise OSError(fault, os.strerror(fault))


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _end(sock: socket.socket, mark: os.stat_result) -> None:
    """Close a socket that was passed to an event loop, if the loop has not closed it.

    When it is interrupted, uvloop (before 0.23) closes the descriptor, but the socket object
    keeps its number, which may soon belong to another connection.
    """
    descriptor = sock.fileno()
    try:
        ours = descriptor >= 0 and os.path.samestat(os.fstat(descriptor), mark)
    except OSError:
        ours = False
    if ours:
        sock.close()
    else:
        sock.detach()


async def gather(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently; return their results when all have ended."""
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results


class PoolPerLoop:
    """A pool of connections for each event loop. Safe for threads and forks."""

    def __init__(self, options: Options, breaker: Breaker) -> None:
        self._options = options
        self._breaker = breaker
        self._closed = False
        self.flights = AwaitedFlights(AsyncioNetwork(options))
        self.forked()
        _all.add(self)

    def here(self) -> AwaitedPool:
        """Return the pool of the running event loop. Raises ConnectionFailed after ``close``."""
        loop = asyncio.get_running_loop()
        pool = self._by_loop.get(loop)
        if pool is None:
            if self._closed:
                raise ConnectionFailed("the client is closed")
            # Connections refer to their loop, so its weak key alone would never be dropped.
            with self._lock:
                for ended in [each for each in self._by_loop if each.is_closed()]:
                    del self._by_loop[ended]
            pool = AwaitedPool(AsyncioNetwork(self._options), self._options, self._breaker)
            with self._lock:
                self._by_loop[loop] = pool
        return pool

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for loop, pool in list(self._by_loop.items()):
            if loop is asyncio.get_running_loop():
                pool.close()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(pool.close)
        # The transports close in the loop's next turn.
        await asyncio.sleep(0)

    def forked(self) -> None:
        """Start without connections in a child process; they belong to the parent."""
        self._lock = threading.Lock()
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AwaitedPool] = (
            weakref.WeakKeyDictionary()
        )


_all: weakref.WeakSet[PoolPerLoop] = weakref.WeakSet()


def _forked() -> None:
    for pools in list(_all):
        pools.forked()


os.register_at_fork(after_in_child=_forked)
