"""Create clients from the settings of frameworks; for asyncio, one for each event loop."""

from __future__ import annotations

import asyncio
import pickle
import re
import weakref
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from zope.interface import implementer

from tagcache.client import AsyncClient, AsyncShardedClient, Client, ShardedClient
from tagcache.client.breaker import State, breaker_for
from tagcache.client.options import Options, split_url
from tagcache.client.serde import PickleSerde
from tagcache.errors import BadArgument
from tagcache.model import int64
from tagcache.model.interfaces import ISerde

AnyClient: TypeAlias = Client | ShardedClient
AnyAsyncClient: TypeAlias = AsyncClient | AsyncShardedClient

_SEPARATORS = re.compile(r"[;,\s]+")
_KNOWN = {field.name for field in fields(Options)} | {"flush_on_return", "serializer"}


class CountablePickle(PickleSerde):
    """Pickles any Python object, but writes an int in decimal, so that the server can increment it.

    An int may have up to 64 bits. The frameworks' own caches pickle too, because their users store
    any object. Anyone who can write to the cache can run code in its readers.
    """

    def dump(self, value: Any) -> bytes:
        if type(value) is int and int64.MIN <= value <= int64.MAX:
            return b"%d" % value
        # An object that cannot be pickled raises the same error as in the frameworks' own caches.
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def load(self, data: bytes) -> Any:
        # A pickle never begins with a digit.
        number = int64.parse(data)
        return super().load(data) if number is None else number


# A single object, so that equal settings compare equal.
COUNTABLE_PICKLE = CountablePickle()


@implementer(ISerde)
class Serialized:
    """The serde for a serializer, an object with ``dumps`` and ``loads``, or a callable for one.

    ``dumps`` returns bytes, str or int, ``loads`` gets bytes. Two are equal if their serializers
    are the same object. Raises BadArgument.
    """

    def __init__(self, serializer: Any) -> None:
        self.given = serializer
        made = serializer() if callable(serializer) else serializer
        if not hasattr(made, "dumps") or not hasattr(made, "loads"):
            raise BadArgument(f"a serializer must have dumps and loads: {made!r}")
        self._dumps, self._loads = made.dumps, made.loads
        self.name = getattr(made, "__name__", type(made).__qualname__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Serialized) and other.given is self.given

    def __hash__(self) -> int:
        return id(self.given)

    def dump(self, value: Any) -> bytes:
        data = self._dumps(value)
        if isinstance(data, bytes):
            return data
        if isinstance(data, (str, int)):
            return str(data).encode()
        # The serializers of cachelib log an error, and return None.
        raise TypeError(f"{type(value).__name__} cannot be serialized")

    def load(self, data: bytes) -> Any:
        try:
            return self._loads(data)
        except Exception as error:
            # The serializer may raise any exception for data that another program has written.
            raise ValueError(f"{type(error).__name__}: {error}") from error


class Connecting:
    """The servers and the options of clients, from the settings of a framework.

    ``location`` is a URL, or several, as a list or separated by commas, semicolons or blanks; see
    Options.from_url. ``options`` are fields of Options, ``flush_on_return`` for several servers,
    and ``serializer`` in place of ``serde``; see Serialized. Without either, or with "pickle", the
    serde is CountablePickle. Raises BadArgument.
    """

    def __init__(self, location: str | Iterable[str], options: Mapping[str, Any]) -> None:
        urls = _SEPARATORS.split(location) if isinstance(location, str) else location
        self.urls = tuple(url for url in urls if url)
        if not self.urls:
            raise BadArgument("no server is given; the usual one is tagcache://127.0.0.1:1984")
        unknown = sorted(options.keys() - _KNOWN)
        if unknown:
            raise BadArgument(
                f"{', '.join(unknown)} is not an option of a client; the options are"
                f" {', '.join(sorted(_KNOWN))}"
            )
        self.options = dict(options)
        self.options["serde"] = _serde(
            self.options.pop("serde", None) or _named_in(self.urls),
            self.options.pop("serializer", None),
        )
        self._alone: Options | None = None
        if len(self.urls) == 1:
            if "flush_on_return" in self.options:
                raise BadArgument("flush_on_return is for several servers, not for one")
            self._alone = Options.from_url(self.urls[0], **self.options)
            # Threads and event loops share one circuit breaker.
            self._breaker = breaker_for(self._alone)

    @property
    def identity(self) -> tuple[Any, ...]:
        """A value that is equal for equal clients."""
        return (self.urls, tuple(sorted(self.options.items(), key=lambda item: item[0])))

    def client(self) -> AnyClient:
        """Return a new blocking client. Raises BadArgument."""
        if self._alone is not None:
            return Client(self._alone, breaker=self._breaker)
        return ShardedClient(self.urls, **self.options)

    def async_client(self) -> AnyAsyncClient:
        """Return a new client for asyncio. Raises BadArgument."""
        if self._alone is not None:
            return AsyncClient(self._alone, breaker=self._breaker)
        return AsyncShardedClient(self.urls, **self.options)


def is_unavailable(client: AnyClient | AnyAsyncClient) -> bool:
    """Return whether the server, or each of several servers, is considered unavailable."""
    if isinstance(client, (ShardedClient, AsyncShardedClient)):
        return len(client.down) == len(client.nodes)
    return client.state is not State.CLOSED


def _named_in(urls: Iterable[str]) -> str | None:
    """Return the serde that the URLs name. Raises BadArgument."""
    named = {dict(parse_qsl(split_url(url).query)).get("serde") for url in urls}
    if len(named) > 1:
        raise BadArgument("the URLs must name the same serde")
    return named.pop()


def _serde(serde: str | ISerde | None, serializer: Any) -> str | ISerde:
    if serializer is not None:
        if serde is not None:
            raise BadArgument("serde and serializer cannot be given together")
        return Serialized(serializer)
    return COUNTABLE_PICKLE if serde in (None, "pickle") else serde


class ClientPerLoop:
    """A client for each event loop, which is closed when its loop ends.

    Frameworks run coroutines in short-lived loops, whose connections would otherwise stay open
    until they are garbage collected.
    """

    def __init__(self, make: Callable[[], AnyAsyncClient]) -> None:
        self._make = make
        self._clients: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[AnyAsyncClient, AsyncGenerator[None, None]]
        ] = weakref.WeakKeyDictionary()

    async def here(self) -> AnyAsyncClient:
        """Return the client of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._clients.get(loop)
        if found is None:
            client = self._make()
            found = self._clients[loop] = client, self._until_the_end(loop, client)
            # asyncio.run() finalizes generators that have been started when it ends the loop.
            await anext(found[1])
        return found[0]

    async def close(self) -> None:
        """Close the client of the running loop."""
        found = self._clients.get(asyncio.get_running_loop())
        if found is not None:
            await found[1].aclose()

    async def _until_the_end(
        self, loop: asyncio.AbstractEventLoop, client: AnyAsyncClient
    ) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            # The weak key alone would never be dropped, because the generator refers to its loop.
            self._clients.pop(loop, None)
            await client.close()
