"""The commands as methods of a client."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from tagcache.client.requests import Batch, Request, Requests
from tagcache.client.signatures import describe

T = TypeVar("T")
P = ParamSpec("P")


def _awaited(
    make: Callable[Concatenate[Requests, P], Request[T] | Batch[T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    @wraps(make)
    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, await self._run(make(self._requests, *args, **kwargs)))

    describe(method, make)
    return method


class AwaitedCommands:
    """Every command; see tagcache.client.requests."""

    get = _awaited(Requests.get)
    put = _awaited(Requests.put)
    add = _awaited(Requests.add)
    get_many = _awaited(Requests.get_many)
    put_many = _awaited(Requests.put_many)
    delete = _awaited(Requests.delete)
    delete_many = _awaited(Requests.delete_many)
    increment = _awaited(Requests.increment)
    decrement = _awaited(Requests.decrement)
    touch = _awaited(Requests.touch)
    invalidate_tag = _awaited(Requests.invalidate_tag)
    invalidate_tags = _awaited(Requests.invalidate_tags)
    invalidate_keys = _awaited(Requests.invalidate_keys)
    keys_by_tag = _awaited(Requests.keys_by_tag)
    search = _awaited(Requests.search)
    flush = _awaited(Requests.flush)
    stats = _awaited(Requests.stats)
    info = _awaited(Requests.info)
    ping = _awaited(Requests.ping)
    clients = _awaited(Requests.clients)
