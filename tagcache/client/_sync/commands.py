# Generated from tagcache/client/_async/commands.py by tools/unasync.py: do not edit.
"""The commands as methods of a client."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from tagcache.client.requests import Batch, Request, Requests
from tagcache.client.signatures import describe

T = TypeVar("T")
P = ParamSpec("P")


def _returned(
    make: Callable[Concatenate[Requests, P], Request[T] | Batch[T]],
) -> Callable[Concatenate[Any, P], T]:
    @wraps(make)
    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, self._run(make(self._requests, *args, **kwargs)))

    describe(method, make)
    return method


class BlockingCommands:
    """Every command; see tagcache.client.requests."""

    get = _returned(Requests.get)
    put = _returned(Requests.put)
    add = _returned(Requests.add)
    get_many = _returned(Requests.get_many)
    put_many = _returned(Requests.put_many)
    delete = _returned(Requests.delete)
    delete_many = _returned(Requests.delete_many)
    increment = _returned(Requests.increment)
    decrement = _returned(Requests.decrement)
    touch = _returned(Requests.touch)
    invalidate_tag = _returned(Requests.invalidate_tag)
    invalidate_tags = _returned(Requests.invalidate_tags)
    invalidate_keys = _returned(Requests.invalidate_keys)
    keys_by_tag = _returned(Requests.keys_by_tag)
    search = _returned(Requests.search)
    flush = _returned(Requests.flush)
    stats = _returned(Requests.stats)
    info = _returned(Requests.info)
    ping = _returned(Requests.ping)
    clients = _returned(Requests.clients)
