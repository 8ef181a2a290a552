"""Several servers: each key belongs to one of them, a tag may be on all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Generic, TypeVar, Unpack

from tagcache.client._async.client import AsyncClient
from tagcache.client._sync.client import Client
from tagcache.client.arguments import Key
from tagcache.client.breaker import Breaker, State
from tagcache.client.making import requests_for
from tagcache.client.options import OptionFields, Options
from tagcache.client.requests import Groups, Request
from tagcache.errors import (
    BadArgument,
    CircuitOpen,
    ClientError,
    ConnectionFailed,
    Unavailable,
)

C = TypeVar("C", bound=Client | AsyncClient)

# Seconds from the first failure of a node to the next attempt.
_FIRST_PAUSE = 0.5


# Options that must be the same for all nodes: they apply before a node is chosen, or after
# several nodes have answered.
_OF_ALL = ("serde", "serde_secret", "compress_over", "key_prefix", "ignore_exc", "on_error")


class Node(Generic[C]):
    """One server, and whether it is in use.

    A node that failed is not used for a while. It is flushed before it is used again, because it
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
        """Return the node's score for a key (8 bytes): the key belongs to the highest."""
        return blake2b(key, digest_size=8, key=self._seed).digest()

    def failed(self, error: Unavailable) -> None:
        """Note that the node did not answer."""
        self.breaker.failed(error)

    def is_due(self) -> bool:
        """Return whether to try the node again now; only one caller gets True."""
        try:
            self.breaker.begin()
        except CircuitOpen:
            return False
        return True

    def returned(self) -> None:
        """Note that the node answers again, and holds nothing stale."""
        self.breaker.answered()


class Ring(Generic[C]):
    """The nodes, and which key belongs to which: rendezvous hashing.

    When a node is added or removed, only the keys of that node move.
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

    def group(self, keys: list[Key], names: list[bytes]) -> Groups:
        """Return the keys of each node, and their full names."""
        groups: dict[Node[C], tuple[list[Key], list[bytes]]] = {}
        for key, name in zip(keys, names, strict=True):
            of_node = groups.setdefault(self.node_of(name), ([], []))
            of_node[0].append(key)
            of_node[1].append(name)
        return groups.values()

    def spread(self, requests: list[Request[Any]]) -> dict[Node[C], list[int]]:
        """Return the requests that go to each node, by their index."""
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
        """Return one outcome for each request, from the answers of the nodes.

        ``answers`` are pairs: the indexes of the requests that went to a node, and their outcomes;
        None if the node is down.
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
        return BadArgument("only one node can answer this: see nodes")
    return request.merge(outcomes) if outcomes else ConnectionFailed("no node answers")


class OverNodes(Generic[C]):
    """What clients over several servers share: the nodes, with one client each."""

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
        self._flush_on_return = flush_on_return
        # This client has a circuit breaker for each node, so it must see their errors.
        alone: OptionFields = {"ignore_exc": False, "on_error": None, "breaker_seconds": 0}
        self._ring = Ring(
            [Node(type(self)._client_of(options.changed(alone)), monotonic) for options in each]
        )
        self._requests = requests_for(self._options, self._ring.group)
        # Single flight works by key, so that of one node serves the keys of all.
        self._flights: Any = self._ring.nodes[0].client._flights

    @property
    def nodes(self) -> dict[str, C]:
        """The client of each node, by its address."""
        return {node.name: node.client for node in self._ring.nodes}

    @property
    def down(self) -> list[str]:
        """The addresses of the nodes that are considered unavailable."""
        return [node.name for node in self._ring.nodes if not node.is_up]
