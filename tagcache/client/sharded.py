"""Clients over several servers: each key on one of them, each tag on all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Generic, TypeVar, Unpack

from tagcache.client.asynchronous import AsyncClient, AsyncioNetwork
from tagcache.client.awaiting import AwaitedClient
from tagcache.client.blocking import BlockingClient, Client
from tagcache.client.breaker import Breaker, State
from tagcache.client.making import requests_for
from tagcache.client.options import OptionFields, Options
from tagcache.client.requests import Request
from tagcache.errors import (
    BadArgument,
    CircuitOpen,
    ClientError,
    ConnectionFailed,
    PoolExhausted,
    Unavailable,
)

T = TypeVar("T")
C = TypeVar("C", bound=Client | AsyncClient)

# After its first failure a node is tried again after so many seconds.
_FIRST_PAUSE = 0.5


# What is done before a node is chosen, or after several have answered.
_OF_ALL = ("serde", "compress_over", "key_prefix", "ignore_exc", "on_error")


class Node(Generic[C]):
    """One server, and whether it is in use.

    A node that failed is not asked for a while; before it is used again it is emptied, as it
    may have missed invalidations.
    """

    def __init__(self, client: C, monotonic: Callable[[], float]) -> None:
        self.client = client
        self.name = client.options.address
        self._seed = blake2b(self.name.encode(), digest_size=16).digest()
        self.breaker = Breaker(self.name, _FIRST_PAUSE, monotonic, lambda: 0.0)

    @property
    def is_up(self) -> bool:
        """Whether the node is used."""
        return self.breaker.state is State.CLOSED

    def score(self, key: bytes) -> bytes:
        """Return how much the node wants a key: it goes to the one that wants it most."""
        return blake2b(key, digest_size=8, key=self._seed).digest()

    def failed(self, error: Unavailable) -> None:
        """Note that the node did not answer."""
        self.breaker.failed(error)

    def is_due(self) -> bool:
        """Say whether it is time to try the node again; only one caller is told so."""
        try:
            self.breaker.begin()
        except CircuitOpen:
            return False
        return True

    def returned(self) -> None:
        """Note that the node answers again, and holds nothing stale."""
        self.breaker.answered()


class Ring(Generic[C]):
    """The nodes, and which key belongs to which: by rendezvous hashing.

    When a node is added or leaves the list, only the keys that it has or had move.
    """

    def __init__(self, nodes: list[Node[C]]) -> None:
        if not nodes:
            raise BadArgument("no nodes are given")
        if len({node.name for node in nodes}) < len(nodes):
            raise BadArgument("a node is given twice")
        self.nodes = nodes

    def node_of(self, key: bytes) -> Node[C]:
        """Return the node that a key belongs to."""
        return max(self.nodes, key=lambda node: node.score(key))

    def spread(self, requests: list[Request[Any]]) -> dict[Node[C], list[int]]:
        """Return for each node which requests, by their place, go to it."""
        places: dict[Node[C], list[int]] = {}
        for place, request in enumerate(requests):
            nodes = self.nodes if request.key is None else [self.node_of(request.key)]
            for node in nodes:
                places.setdefault(node, []).append(place)
        return places

    def merged(
        self,
        requests: list[Request[Any]],
        answers: Iterable[tuple[list[int], list[Any] | None]],
    ) -> list[Any]:
        """Make one outcome for each request of what the nodes answered.

        ``answers`` are pairs: the places of the requests that went to a node, and what became
        of them; None if the node is down.
        """
        found: list[list[Any]] = [[] for _ in requests]
        for places, outcomes in answers:
            for place, outcome in zip(places, outcomes or (), strict=False):
                found[place].append(outcome)
        return [_merged(*pair) for pair in zip(requests, found, strict=True)]


def _merged(request: Request[Any], outcomes: list[Any]) -> Any:
    error = next((each for each in outcomes if isinstance(each, ClientError)), None)
    if error is not None:
        return error
    if request.key is not None:
        return outcomes[0] if outcomes else request.absent
    if request.merge is None:
        return BadArgument("this can only be asked of one node: see nodes")
    return request.merge(outcomes) if outcomes else ConnectionFailed("no node answers")


class OverNodes(Generic[C]):
    """What clients over several servers have in common: the nodes, one client each."""

    _client_of: Callable[[Options], C]

    def __init__(
        self,
        nodes: Iterable[str | Options],
        *,
        flush_on_return: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
        **changes: Unpack[OptionFields],
    ) -> None:
        common = Options().changed(changes)
        each = [
            Options.from_url(node, **changes) if isinstance(node, str) else node.changed(changes)
            for node in nodes
        ]
        for options in each:
            for name in _OF_ALL:
                if getattr(options, name) != getattr(common, name):
                    raise BadArgument(f"{name} is given for all nodes, not for {options.address}")
        self._options = common
        self._requests = requests_for(self._options)
        self._flush_on_return = flush_on_return
        # What a node does not do is never to be overlooked here, nor kept from it there.
        alone: OptionFields = {"ignore_exc": False, "on_error": None, "breaker_seconds": 0}
        self._ring = Ring(
            [Node(type(self)._client_of(options.changed(alone)), monotonic) for options in each]
        )

    @property
    def nodes(self) -> dict[str, C]:
        """The client of each node, by its address."""
        return {node.name: node.client for node in self._ring.nodes}

    @property
    def down(self) -> list[str]:
        """The addresses of the nodes that are not used at the moment."""
        return [node.name for node in self._ring.nodes if not node.is_up]


class ShardedClient(OverNodes[Client], BlockingClient):
    """A client over several servers, for any number of threads.

    ``nodes`` are URLs or Options; keywords hold for all of them. A key belongs to one node; tags
    are invalidated on all. Keys of a node that is down are misses, and what is stored there is
    dropped; ``on_error`` is told. When it is back it is flushed before it is used, as it may have
    missed invalidations; not so with ``flush_on_return=False``. Raises BadArgument.
    """

    _client_of = Client

    def close(self) -> None:
        """Close every connection."""
        for client in self.nodes.values():
            client.close()

    def __enter__(self) -> ShardedClient:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _perform(self, request: Request[T]) -> T:
        (outcome,) = self._perform_all([request])
        if isinstance(outcome, ClientError):
            raise outcome
        result: T = outcome
        return result

    def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        answers = []
        failed: ClientError | None = None
        for node, places in self._ring.spread(requests).items():
            try:
                answers.append((places, self._ask(node, [requests[place] for place in places])))
            except ClientError as error:
                # The others are asked nevertheless.
                failed = failed or error
        if failed is not None:
            raise failed
        return self._ring.merged(requests, answers)

    def _ask(self, node: Node[Client], requests: list[Request[Any]]) -> list[Any] | None:
        """Return what becomes of the requests; None if the node is down."""
        if not node.is_up and not node.is_due():
            return None
        client = node.client
        try:
            if not node.is_up:
                _ = client.flush() if self._flush_on_return else client.ping()
                node.returned()
            return client._perform_all(requests)
        except PoolExhausted as error:
            # That is no fault of the node; but what it missed it must not answer with.
            if not self._options.ignore_exc:
                raise
            if not all(request.safe for request in requests):
                node.failed(error)
            self._options.ignored(error)
            return None
        except Unavailable as error:
            node.failed(error)
            self._options.ignored(error)
            return None


class AsyncShardedClient(OverNodes[AsyncClient], AwaitedClient):
    """A client over several servers, for asyncio; see ShardedClient."""

    _client_of = AsyncClient

    async def close(self) -> None:
        """Close every connection."""
        for client in self.nodes.values():
            await client.close()

    async def __aenter__(self) -> AsyncShardedClient:
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.close()

    async def _perform(self, request: Request[T]) -> T:
        (outcome,) = await self._perform_all([request])
        if isinstance(outcome, ClientError):
            raise outcome
        result: T = outcome
        return result

    async def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        spread = self._ring.spread(requests)
        answers = await AsyncioNetwork(self._options).gather(
            [
                self._ask(node, [requests[place] for place in places])
                for node, places in spread.items()
            ]
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return self._ring.merged(requests, zip(spread.values(), answers, strict=True))

    async def _ask(self, node: Node[AsyncClient], requests: list[Request[Any]]) -> list[Any] | None:
        """Return what becomes of the requests; None if the node is down."""
        if not node.is_up and not node.is_due():
            return None
        client = node.client
        try:
            if not node.is_up:
                _ = await (client.flush() if self._flush_on_return else client.ping())
                node.returned()
            return await client._perform_all(requests)
        except PoolExhausted as error:
            # That is no fault of the node; but what it missed it must not answer with.
            if not self._options.ignore_exc:
                raise
            if not all(request.safe for request in requests):
                node.failed(error)
            self._options.ignored(error)
            return None
        except Unavailable as error:
            node.failed(error)
            self._options.ignored(error)
            return None
