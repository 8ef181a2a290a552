"""The step that generates blocking code from asynchronous code."""

from __future__ import annotations

from tools.unasync import blocking

SOURCE = '''\
from tagcache.client._async.client import AsyncClient
from tagcache.client.asyncio_network import gather  # async only


class AwaitedThing:
    """A thing for the tasks of any number of event loops."""

    async def __aenter__(self) -> Coroutine[Any, Any, T]:
        async with AsyncClient() as client:
            return await gather(await each async for each in self._make(client))

    @overload
    # A comment between them.
    async def make(self, make: Callable[[], Awaitable[T]]) -> T: ...  # async only

    async def make(self, make: Callable[[], Awaitable[list[T]] | list[T]]) -> list[T]:
        made = make()
        if isinstance(made, Awaitable):  # async only
            made = await made
        return made
'''
RESULT = '''\
# Generated from thing.py by tools/unasync.py: do not edit.
from tagcache.client._sync.client import Client


class AwaitedThing:
    """A thing for any number of threads."""

    def __enter__(self) -> T:
        with Client() as client:
            return list(each for each in self._make(client))


    def make(self, make: Callable[[], list[T]]) -> list[T]:
        made = make()
        return made
'''


def test_what_awaits_becomes_what_blocks() -> None:
    assert blocking(SOURCE, "thing.py") == RESULT
