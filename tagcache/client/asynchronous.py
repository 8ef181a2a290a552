"""The client for asyncio: every method is a coroutine."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Unpack, cast

from zope.interface import implementer

from tagcache.client.awaiting import (
    AwaitedConnection,
    AwaitedPool,
    ICarrier,
    INetwork,
    IPromise,
    PooledClient,
)
from tagcache.client.breaker import Breaker, breaker_for
from tagcache.client.making import requests_for
from tagcache.client.options import OptionFields, Options, address_for_people
from tagcache.client.unread import watch
from tagcache.errors import ConnectionFailed, TimedOut
from tagcache.sockopts import AppliedOption, SocketOptions

# What to say of an error that says nothing.
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
        # Transports of other event loops have what asyncio.Transport has, and are none.
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        # Once more: event loops set TCP_NODELAY themselves.
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

    def options(self) -> tuple[AppliedOption, ...]:
        transport = self._transport
        return () if transport is None else self._asked.read(transport.get_extra_info("socket"))


@implementer(INetwork)
class AsyncioNetwork:
    """Waiting in the event loop that runs."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @property
    def _here(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def promise(self) -> IPromise:
        promise: IPromise = _Future(self._here)
        return promise

    def call_later(self, seconds: float, call: Callable[[], object]) -> Callable[[], object]:
        return self._here.call_later(seconds, call).cancel

    def monotonic(self) -> float:
        return self._here.time()

    async def connect(self, connection: AwaitedConnection) -> None:
        options = self._options
        loop = self._here
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
        """Try all addresses of the server in turn, with the socket options set before."""
        options = self._options
        loop = self._here
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
                    # It was the loop that was late.
                    return sock
                sock.close()
                late = late and isinstance(error, TimeoutError)
                faults.append(f"{address_for_people(address)}: {error.strerror or _LATE}")
            except BaseException:
                sock.close()
                raise
        raise (TimedOut if late else ConnectionFailed)("; ".join(faults))

    async def gather(self, work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
        return await asyncio.gather(*work, return_exceptions=True)


async def _connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, address: Any) -> None:
    """Connect, and leave nothing of the socket with the loop, however that ends.

    The loops' own sock_connect does so in their next turn only, when the descriptor's number may
    be another socket's; and uvloop's resolves the address once more.
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
    """Close a socket that was offered to an event loop, if the loop has not done so.

    uvloop (before 0.23) closes the descriptor when it is interrupted, and leaves the socket
    object with its number, which may be another connection's by the time that is closed.
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


class AsyncClient(PooledClient):
    """A client of one server, for the tasks of any number of event loops.

    Options come as an Options object, as keywords, or both. Each event loop has its own
    connections, ``pool_size`` at most. Nothing is connected before the first command.
    ``breaker`` is given where several clients of a server share one, or to choose its clock; see
    breaker_for. Raises BadArgument.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        breaker: Breaker | None = None,
        **changes: Unpack[OptionFields],
    ) -> None:
        self._options = (options or Options()).changed(changes)
        self._requests = requests_for(self._options)
        self._breaker = breaker or breaker_for(self._options)
        self._closed = False
        self._forget_pools()
        _clients.add(self)

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
        """What the client was told."""
        return self._options

    def __repr__(self) -> str:
        return f"<AsyncClient of {self._options.address}>"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; commands raise ConnectionFailed from now on."""
        self._closed = True
        for loop, pool in list(self._pools.items()):
            if loop is asyncio.get_running_loop():
                pool.close()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(pool.close)
        # Connections are closed in the loop's next turn.
        await asyncio.sleep(0)

    def _pool_here(self) -> AwaitedPool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            if self._closed:
                raise ConnectionFailed("the client is closed")
            # Connections know their loop, so that weak references alone would keep both for ever.
            with self._lock:
                for ended in [each for each in self._pools if each.is_closed()]:
                    del self._pools[ended]
            pool = AwaitedPool(AsyncioNetwork(self._options), self._options, self._breaker)
            with self._lock:
                self._pools[loop] = pool
        return pool

    def _forget_pools(self) -> None:
        """Begin anew, with no connections: in a child process they are the parent's."""
        self._lock = threading.Lock()
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AwaitedPool] = (
            weakref.WeakKeyDictionary()
        )


_clients: weakref.WeakSet[AsyncClient] = weakref.WeakSet()


def _forked() -> None:
    for client in list(_clients):
        client._forget_pools()


os.register_at_fork(after_in_child=_forked)
