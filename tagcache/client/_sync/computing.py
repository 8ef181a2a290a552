# Generated from tagcache/client/_async/computing.py by tools/unasync.py: do not edit.
"""Computing a missing value: under a lease, so that it is fresh, and computed once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from tagcache.client.arguments import Key, Tag, checked_tag, collected
from tagcache.client.collecting import collecting, is_collecting, note
from tagcache.client.compute_options import ComputeOptions
from tagcache.client.lease_requests import Lookup, fetch, fill, plain_fetch, release
from tagcache.errors import ClientError, NotSupportedByBackend, Refused
from tagcache.model.fetched import MOST_WAIT_MS, Found

T = TypeVar("T")

# How long a producer may take before another one begins.
_LEASE_MS = 60_000
# A look-up waits for this much of the time that a reply may take, and is then repeated.
_SHARE_OF_TIMEOUT = 0.5

_log = logging.getLogger("tagcache.client")


class BlockingComputation(Generic[T]):
    """One look-up of a key, and the computation of its value if there is none.

    ``client`` is a client with ``_run``, ``_requests`` and ``_options``.

    Attributes:
        token: that of the lease, while there is one.
        tags: those of the value, as they are sent; of a value that was found only where a value
            is being computed around this one.
    """

    def __init__(self, client: Any, key: Key, options: ComputeOptions) -> None:
        self._client = client
        self._key = key
        self._options = options
        self._lookup = Lookup(None)
        self.token: bytes | None = None
        self.tags: tuple[bytes, ...] = ()

    def look_up(self) -> bool:
        """Look up the value, or take the lease; return whether there is a ``value`` to use."""
        self._lookup = lookup = self._fetch()
        self.token, self.tags = lookup.token, lookup.tags
        is_there = lookup.found in (Found.HIT, Found.STALE) and lookup.token is None
        if is_there:
            note(lookup.tags)
        return is_there

    @property
    def value(self) -> T:
        """The value that was found."""
        value: T = self._lookup.value
        return value

    def _fetch(self) -> Lookup:
        client = self._client
        if not client._leases:
            return self._plain_fetch()
        left_ms = self._options.wait_ms
        timeout = client._options.timeout
        most_ms = MOST_WAIT_MS if timeout is None else int(timeout * 1000 * _SHARE_OF_TIMEOUT)
        while True:
            waits = left_ms > 0 and client._waiting.acquire(blocking=False)
            wait_ms = min(left_ms, most_ms) if waits else 0
            request = fetch(client._requests, self._key, _LEASE_MS, wait_ms, is_collecting())
            try:
                lookup: Lookup = client._run(request)
            except Refused as error:
                if error.code != NotSupportedByBackend.code:
                    raise
                client._leases = False
                return self._plain_fetch()
            finally:
                if waits:
                    client._waiting.release()
            left_ms -= max(wait_ms, 1)
            if lookup.found is not Found.WAIT or not waits or left_ms <= 0:
                return lookup

    def _plain_fetch(self) -> Lookup:
        lookup: Lookup = self._client._run(plain_fetch(self._client._requests, self._key))
        return lookup

    def produce(self, producer: Callable[[], T], tags: Iterable[Tag] = ()) -> T:
        """Return the result of ``producer``, to be stored; or a stale value if it raises.

        Tags that ``cache_tag`` gives meanwhile are added to ``tags``.
        """
        try:
            given = tuple(map(checked_tag, collected(tags)))
            with collecting() as more:
                found = producer()
        except BaseException as error:
            self.give_up()
            if self._lookup.found is not Found.STALE or not isinstance(error, Exception):
                raise
            _log.warning("a stale value is used, as the new one failed", exc_info=True)
            note(self.tags)
            stale: T = self._lookup.value
            return stale
        self.tags = tuple(dict.fromkeys((*given, *more)))
        note(self.tags)
        value: T = found
        return value

    def store(self, value: T) -> None:
        """Store what ``produce`` returned, if that is to be stored, and is fresh."""
        client, lookup, options = self._client, self._lookup, self._options
        if lookup.found is None:
            # The server has no leases, or was not there.
            client.put(self._key, value, tags=self.tags, ttl=options.ttl)
        elif self.token is not None:
            requests, token = client._requests, self.token
            try:
                client._run(
                    fill(requests, self._key, value, token, self.tags, options.ttl, options.grace)
                )
            except BaseException:
                self.give_up()
                raise

    def give_up(self) -> None:
        """Give the lease back, if there is one and the server can be reached."""
        token, self.token = self.token, None
        if token is not None:
            with suppress(ClientError):
                self._client._run(release(self._client._requests, self._key, token))
