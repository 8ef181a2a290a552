"""Computing a missing value: under a lease, so that it is fresh, and computed once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tagcache.client.arguments import Key, Tag, Ttl, checked_tag, collected, ttl_ms
from tagcache.client.collecting import collecting, is_collecting, note
from tagcache.client.lease_requests import Lookup, fetch, fill, plain_fetch, release
from tagcache.errors import ClientError, NotSupportedByBackend, Refused
from tagcache.model.fetched import MOST_LEASE_MS, MOST_WAIT_MS, Found

T = TypeVar("T")

# How long a producer may take before another one begins; and how long others wait for it.
LEASE_SECONDS = 60.0
WAIT_SECONDS = 5.0
# A look-up waits for this much of the time that a reply may take, and is then repeated.
_SHARE_OF_TIMEOUT = 0.5

_log = logging.getLogger("tagcache.client")


@dataclass(frozen=True, slots=True)
class StoreTerms:
    """How a computed value is stored, and how long others wait for it.

    ``ttl``, ``grace`` and ``wait`` are seconds or timedeltas; a ``wait`` of None is the default.
    """

    ttl: Ttl | None = None
    grace: Ttl | None = None
    wait: Ttl | None = None

    def __post_init__(self) -> None:
        ttl_ms(self.ttl)
        ttl_ms(self.grace)

    @property
    def wait_ms(self) -> int:
        """How long to wait, in milliseconds. Raises BadArgument."""
        if self.wait == 0:
            return 0
        return min(ttl_ms(WAIT_SECONDS if self.wait is None else self.wait) or 0, MOST_WAIT_MS)


class AwaitedComputation(Generic[T]):
    """One look-up of a key, and the computation of its value if there is none.

    ``client`` is a client with ``_run``, ``_requests`` and ``_options``.
    """

    def __init__(self, client: Any, key: Key, terms: StoreTerms) -> None:
        self._client = client
        self._key = key
        self._terms = terms
        self._lookup = Lookup(None)

    async def look_up(self) -> bool:
        """Look up the value, or take the lease; return whether there is a ``value`` to use."""
        self._lookup = lookup = await self._fetch()
        is_there = lookup.found in (Found.HIT, Found.STALE) and lookup.token is None
        if is_there:
            note(lookup.tags)
        return is_there

    @property
    def value(self) -> Any:
        """The value that was found."""
        return self._lookup.value

    async def _fetch(self) -> Lookup:
        client = self._client
        if not client._leases:
            return await self._plain_fetch()
        left_ms = self._terms.wait_ms
        timeout = client._options.timeout
        most_ms = MOST_WAIT_MS if timeout is None else int(timeout * 1000 * _SHARE_OF_TIMEOUT)
        lease_ms = min(int(LEASE_SECONDS * 1000), MOST_LEASE_MS)
        while True:
            wait_ms = min(left_ms, most_ms)
            request = fetch(client._requests, self._key, lease_ms, wait_ms, is_collecting())
            try:
                lookup: Lookup = await client._run(request)
            except Refused as error:
                if error.code != NotSupportedByBackend.code:
                    raise
                client._leases = False
                return await self._plain_fetch()
            left_ms -= max(wait_ms, 1)
            if lookup.found is not Found.WAIT or left_ms <= 0:
                return lookup

    async def _plain_fetch(self) -> Lookup:
        lookup: Lookup = await self._client._run(plain_fetch(self._client._requests, self._key))
        return lookup

    async def compute(
        self, producer: Callable[[], Awaitable[T] | T], tags: Iterable[Tag] = ()
    ) -> T:
        """Return the result of ``producer``, and store it; a stale value if it raises.

        Tags that ``cache_tag`` gives meanwhile are added to ``tags``.
        """
        given = tuple(map(checked_tag, collected(tags)))
        try:
            with collecting() as more:
                found = producer()
                if isinstance(found, Awaitable):  # async only
                    found = await found
        except BaseException as error:
            await self.give_up()
            if self._lookup.found is not Found.STALE or not isinstance(error, Exception):
                raise
            _log.warning("a stale value is used, as the new one failed", exc_info=True)
            note(self._lookup.tags)
            stale: T = self._lookup.value
            return stale
        every = tuple(dict.fromkeys((*given, *more)))
        note(every)
        await self._store(found, every)
        value: T = found
        return value

    async def _store(self, value: Any, tags: tuple[bytes, ...]) -> None:
        client, lookup, terms = self._client, self._lookup, self._terms
        if lookup.token is not None:
            try:
                await client._run(
                    fill(
                        client._requests,
                        self._key,
                        value,
                        lookup.token,
                        tags,
                        terms.ttl,
                        terms.grace,
                    )
                )
            except BaseException:
                await self.give_up()
                raise
        elif lookup.found is None:
            # The server has no leases, or was not there.
            await client.put(self._key, value, tags=tags, ttl=terms.ttl)

    async def give_up(self) -> None:
        """Give the lease back, if there is one and the server can be reached."""
        token = self._lookup.token
        if token is not None:
            with suppress(ClientError):
                await self._client._run(release(self._client._requests, self._key, token))
