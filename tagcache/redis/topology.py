"""Find the server of each partition: one server, a cluster, or the primary that Sentinels name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from redis.crc import key_slot
from redis.exceptions import ConnectionError, RedisError
from zope.interface import Attribute, Interface, implementer


class Address(NamedTuple):
    """The address of a server; without a port, ``host`` is the path of a socket."""

    host: str
    port: int | None

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"


class Ask(Protocol):
    """Sends a command to a server. Raises RedisError, OSError, TimeoutError."""

    def __call__(self, address: Address, *words: str) -> Awaitable[Any]:
        """Send a command outside any pipeline, and return the answer."""


class ITopology(Interface):
    """Knows the servers. It sends nothing on its own connections."""

    may_change = Attribute("Whether another server may take over: bool.")
    primaries = Attribute("The servers that have partitions: list[Address].")
    nodes = Attribute("Primaries and replicas: list[Address].")

    def place(root: str) -> Address | None:
        """Return the server that has a partition; None if that is not known."""

    def moved(slot: int, address: Address) -> None:
        """Note that a server has reported which server has a slot now."""

    def look(ask: Ask, suspects: Collection[Address]) -> Awaitable[None]:
        """Ask where the partitions are, suspects last. Raises RedisError, OSError."""


@implementer(ITopology)
class OneServer:
    """A single server, at ``address``."""

    may_change = False

    def __init__(self, address: Address) -> None:
        self.primaries = self.nodes = [address]

    def place(self, root: str) -> Address | None:
        return self.nodes[0]

    def moved(self, slot: int, address: Address) -> None:
        pass

    async def look(self, ask: Ask, suspects: Collection[Address]) -> None:
        pass


@implementer(ITopology)
class Sentinels:
    """The primary that Sentinels at ``addresses`` name for ``service``."""

    may_change = True

    def __init__(self, addresses: Sequence[Address], service: str) -> None:
        self.primaries: list[Address] = []
        self.nodes: list[Address] = []
        self._addresses = addresses
        self._service = service

    def place(self, root: str) -> Address | None:
        return self.primaries[0] if self.primaries else None

    def moved(self, slot: int, address: Address) -> None:
        pass

    async def look(self, ask: Ask, suspects: Collection[Address]) -> None:
        def has_answered(answer: Any) -> bool:
            return isinstance(answer, list)

        words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        try:
            _, (host, port) = await _first(ask, self._addresses, words, has_answered)
        except (RedisError, OSError) as error:
            raise ConnectionError(f"no Sentinel names a primary: {error}") from error
        self.primaries = self.nodes = [Address(_text(host), int(port))]


@implementer(ITopology)
class Cluster:
    """A cluster with some nodes at ``addresses``."""

    may_change = True

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.primaries: list[Address] = []
        self.nodes: list[Address] = []
        self._addresses = addresses
        # The first and the last slot of each range, and its server.
        self._ranges: list[tuple[int, int, Address]] = []
        # The servers of slots that nodes have reported since.
        self._moved: dict[int, Address] = {}

    def place(self, root: str) -> Address | None:
        slot = key_slot(root.encode())
        if slot in self._moved:
            return self._moved[slot]
        return next((owner for first, last, owner in self._ranges if first <= slot <= last), None)

    def moved(self, slot: int, address: Address) -> None:
        self._moved[slot] = address
        if address not in self.nodes:
            self.nodes.append(address)
        if address not in self.primaries:
            self.primaries.append(address)

    async def look(self, ask: Ask, suspects: Collection[Address]) -> None:
        known = list(dict.fromkeys([*self.nodes, *self._addresses]))
        trusted = [address for address in known if address not in suspects]
        # A node that has left its cluster answers with an empty list.
        first = partial(_first, ask, words=("CLUSTER", "SLOTS"), is_answer=bool)
        try:
            try:
                told_by, rows = await first(trusted)
            except (RedisError, OSError):
                if len(trusted) == len(known):
                    raise
                told_by, rows = await first(known)
        except (RedisError, OSError) as error:
            raise ConnectionError(f"Redis Cluster cannot be connected: {error}") from error
        self._take(told_by, rows)

    def _take(self, told_by: Address, rows: Sequence[Any]) -> None:
        """Store a reply to CLUSTER SLOTS: rows of first slot, last slot, primary, replicas.

        An address is a host and a port; an empty or null host is that of the answering node.
        """

        def address_of(node: Sequence[Any]) -> Address:
            return Address(_text(node[0]) or told_by.host, int(node[1]))

        self._ranges = [(int(row[0]), int(row[1]), address_of(row[2])) for row in rows]
        self._moved = {}
        self.primaries = list(dict.fromkeys(owner for _, _, owner in self._ranges))
        every = (address_of(node) for row in rows for node in row[2:])
        self.nodes = list(dict.fromkeys(every))


async def _first(
    ask: Ask,
    addresses: Sequence[Address],
    words: Sequence[str],
    is_answer: Callable[[Any], bool] = lambda answer: True,
) -> tuple[Address, Any]:
    """Ask all servers at once; return the first to answer, and its answer.

    Raises RedisError, OSError.
    """
    tasks = {asyncio.ensure_future(ask(address, *words)): address for address in addresses}
    waiting = set(tasks)
    error: BaseException = ConnectionError("no server knows")
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            failed = {task: task.exception() for task in done}
            for task, why in failed.items():
                if why is not None:
                    error = why
                elif is_answer(task.result()):
                    return tasks[task], task.result()
    finally:
        for task in waiting:
            task.cancel()
    raise error


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else word or ""
