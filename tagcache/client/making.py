"""Make from options the Requests of a client, and the requests that begin a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tagcache.client.arguments import Key
from tagcache.client.options import Options
from tagcache.client.requests import Groups, Request, Requests, log_in, select, together
from tagcache.client.serde import named
from tagcache.client.values import Values


def requests_for(
    options: Options, group: Callable[[list[Key], list[bytes]], Groups] = together
) -> Requests:
    """Return the Requests of a client with these options; see Requests. Raises BadArgument."""
    if options.tls:
        # Report unreadable files now, not at the first command.
        options.tls_context()
    serde = options.serde
    if isinstance(serde, str):
        serde = named(serde, options.serde_secret)
    values = Values(serde, options.compress_over, options.max_value_bytes)
    unreadable = options.ignored if options.ignore_exc else None
    return Requests(values, options.key_prefix, unreadable, group)


def greeting(options: Options) -> list[Request[Any]]:
    """Return the requests that begin every connection."""
    requests = []
    if options.username is not None and options.password is not None:
        requests.append(log_in(options.username, options.password))
    if options.db:
        requests.append(select(options.db))
    return requests
