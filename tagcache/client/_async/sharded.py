"""The client over several servers."""

from __future__ import annotations

from typing import Any, TypeVar

from tagcache.client._async.client import AsyncClient, AwaitedClient
from tagcache.client.asyncio_network import gather  # async only
from tagcache.client.nodes import Node, OverNodes
from tagcache.client.outcomes import raise_first
from tagcache.client.requests import Request
from tagcache.errors import ClientError, PoolExhausted, Unavailable

T = TypeVar("T")


class AsyncShardedClient(OverNodes[AsyncClient], AwaitedClient):
    """A client over several servers, for the tasks of any number of event loops.

    ``nodes`` are URLs or Options; keywords apply to all of them. A key belongs to one node; tags
    are invalidated on all. While a node is down, its keys are misses, and values for it are
    dropped; ``on_error`` is called. A node that is back is flushed before it is used, as it may
    have missed invalidations; with ``flush_on_return=False`` it is not. Raises BadArgument.
    """

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
        result: T = raise_first(await self._perform_all([request]))[0]
        return result

    async def _perform_all(self, requests: list[Request[Any]]) -> list[Any]:
        spread = self._ring.spread(requests)
        answers = await gather(
            self._ask(node, [requests[place] for place in places])
            for node, places in spread.items()
        )
        return self._ring.merged(requests, zip(spread.values(), raise_first(answers), strict=True))

    async def _ask(
        self, node: Node[AsyncClient], requests: list[Request[Any]]
    ) -> list[Any] | ClientError | None:
        """Return the outcomes of the requests; None if the node is down.

        An error of this node is returned, not raised, so that the other nodes are still asked.
        """
        if not node.is_up and not node.is_due():
            return None
        client = node.client
        try:
            if not node.is_up:
                if self._flush_on_return:
                    await client.flush()
                else:
                    await client.ping()
                node.returned()
            return await client._perform_all(requests)
        except PoolExhausted as error:
            # The node is not at fault. But it misses these writes, so it must be flushed before
            # it answers again.
            if not self._options.ignore_exc:
                return error
            if not all(request.safe for request in requests):
                node.failed(error)
            self._options.ignored(error)
            return None
        except Unavailable as error:
            node.failed(error)
            self._options.ignored(error)
            return None
        except ClientError as error:
            return error
