"""Compute a missing value under a lease, so that it is fresh, and computed once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Generic, TypeAlias, TypeVar

from tagcache.client.arguments import Key, Tag, checked_tag, collected
from tagcache.client.collecting import Collected, collecting, is_collecting, note, note_stale
from tagcache.client.compute_options import LEASE_MS, ComputeOptions
from tagcache.client.lease_requests import Lookup, fetch, fill, plain_fetch, release, soften
from tagcache.client.requests import Requests
from tagcache.client.single_flight import Call, Outcome, Phase
from tagcache.errors import ClientError, NotSupportedByBackend, Refused
from tagcache.model.fetched import MOST_WAIT_MS, Found

T = TypeVar("T")
Tags: TypeAlias = Iterable[Tag] | Callable[[T], Iterable[Tag]]

# A look-up waits for at most this share of ``timeout``, and is then repeated.
_SHARE_OF_TIMEOUT = 0.5

_log = logging.getLogger("tagcache.client")


class AwaitedComputation(Generic[T]):
    """One look-up of a key, and the computation of its value if there is none.

    ``client`` is a client with ``_run``, ``_requests``, ``_options`` and ``_flights``. ``requests``
    are those for values of one type. ``refused`` is called with the error if the server refuses
    to store the value; if it is None, the error is raised.

    Attributes:
        token: the token of the lease, while this caller holds one.
        tags: the tags of the value, as they are sent. Those of a stored value are known only if
            it was looked up by the producer of another value.
    """

    def __init__(
        self,
        client: Any,
        key: Key,
        options: ComputeOptions,
        requests: Requests | None = None,
        refused: Callable[[Refused], object] | None = None,
    ) -> None:
        self._client = client
        self._requests: Requests = requests or client._requests
        self._key = key
        self._name = self._requests._key(key)
        self._call = Call()
        self._options = options
        self._refused = refused
        self._lookup = Lookup(None)
        self._cost = 0.0
        # A value that was computed from a stale one is not stored.
        self._has_stale = False
        self.token: bytes | None = None
        self.tags: tuple[bytes, ...] = ()

    async def result(self, producer: Callable[[], Awaitable[T] | T], tags: Tags[T] = ()) -> T:
        """Return the stored value, or the result of ``producer``, which is then stored."""
        try:
            if await self.begin():
                return self.value
            try:
                value = await self.produce(producer, tags)
                await self.end(value)
            except Exception as error:
                self._call.outcome = Outcome(error=error)
                raise
            return value
        finally:
            self.leave()

    async def begin(self) -> bool:
        """Return whether there is a ``value`` to use; if not, the caller computes it.

        The caller then passes the computed value to ``end``, and always calls ``leave`` at last.
        Of all callers in this process that miss the key, one waits for the server, and computes
        the value if it must. The others get its value, unless that may have been invalidated
        before they asked.
        """
        flights, name = self._client._flights, self._name
        if flights.is_inside(name):
            # This call comes from the producer of this key, which already holds the lease.
            return await self.look_up(waits=False)
        ends = flights.monotonic() + self._options.join_seconds
        while True:
            call = self._call = Call()
            other = flights.enter(name, call)
            is_there = await self.look_up(waits=other is call)
            if is_there and not (other is call and await self._begins_early()):
                if self.found is Found.STALE:
                    note_stale()
                return True
            if call.successor is not None:
                # Another caller got the lease after this one had asked for it.
                other = call.successor
                if other.outcome is not None:
                    await self.give_up()
                    call.outcome = other.outcome
                    return self._shares(other.outcome)
            left = ends - flights.monotonic()
            if other is call or self.token is not None or left <= 0:
                if other is not call and self.token is not None:
                    flights.lead(name, call)
                call.lease = self.token
                call.phase = Phase.COMPUTING
                return False
            flights.leave(name, call)
            outcome = await flights.outcome(name, other, left)
            if outcome is not None:
                return self._shares(outcome)

    @contextmanager
    def inside(self) -> Iterator[Collected]:
        """Collect the tags that ``cache_tag`` adds while the caller computes the value."""
        with self._client._flights.inside(self._name), collecting() as tags:
            yield tags
        self._has_stale = tags.has_stale

    async def end(self, value: T) -> None:
        """Store the computed value, and pass it to the waiting callers."""
        self._call.phase = Phase.STORING
        is_fresh = await self._store_unless_stale(self._call, value)
        self._call.outcome = Outcome(value, self.tags, is_fresh, self._has_stale)

    def leave(self) -> None:
        """Wake the callers that wait for this one."""
        self._client._flights.leave(self._name, self._call)

    async def _begins_early(self) -> bool:
        """Return whether this caller must refresh the value before it expires."""
        early, times = self._options.early, self._lookup.timing
        if early is None or times is None or not early.is_due(*times):
            return False
        # Other callers get the stale value meanwhile.
        await self._client._run(soften(self._requests, self._key))
        return not await self.look_up(waits=False)

    def _shares(self, outcome: Outcome) -> bool:
        """Take the value that another caller computed, or raise its error."""
        if outcome.error is not None:
            raise outcome.error
        note(outcome.tags)
        if outcome.has_stale:
            note_stale()
        self._lookup = Lookup(Found.HIT, outcome.value)
        return True

    async def _store_unless_stale(self, call: Call, value: T) -> bool:
        if call.is_stale():
            await self.give_up()
            return False
        stored = False
        try:
            stored = await self.store(value)
        except Refused as error:
            if self._refused is None:
                raise
            self._refused(error)
        if call.is_stale():
            await self._client.delete(self._key)
        return stored and not call.is_stale()

    async def look_up(self, waits: bool = True) -> bool:
        """Look up the value, or take the lease; return whether there is a ``value`` to use.

        ``waits`` says whether to wait, as long as the options allow, while another caller
        computes the value.
        """
        wait_ms = self._options.wait_ms if waits else 0
        lookup = await self._fetch(wait_ms)
        if not lookup.fits:
            # Another version of the program has probably stored it.
            self.token = lookup.token
            await self.give_up()
            await self._client.delete(self._key)
            lookup = await self._fetch(wait_ms)
            if not lookup.fits:
                lookup = Lookup(Found.WAIT, token=lookup.token)
        self._lookup = lookup
        self.token, self.tags = lookup.token, lookup.tags
        is_there = lookup.found in (Found.HIT, Found.STALE) and lookup.token is None
        if is_there:
            note(lookup.tags)
        return is_there

    @property
    def found(self) -> Found | None:
        """What the look-up found; None: the server has no leases, or is unavailable."""
        return self._lookup.found

    @property
    def value(self) -> T:
        """The value that was found."""
        value: T = self._lookup.value
        return value

    async def _fetch(self, left_ms: int) -> Lookup:
        client = self._client
        if not client._leases:
            return await self._plain_fetch()
        timeout = client._options.timeout
        most_ms = MOST_WAIT_MS if timeout is None else int(timeout * 1000 * _SHARE_OF_TIMEOUT)
        while True:
            waits = left_ms > 0 and client._waiting.acquire(blocking=False)
            wait_ms = min(left_ms, most_ms) if waits else 0
            request = fetch(self._requests, self._key, LEASE_MS, wait_ms, is_collecting())
            try:
                lookup: Lookup = await client._run(request)
            except Refused as error:
                if error.code != NotSupportedByBackend.code:
                    raise
                client._leases = False
                return await self._plain_fetch()
            finally:
                if waits:
                    client._waiting.release()
            left_ms -= max(wait_ms, 1)
            if lookup.found is not Found.WAIT or not waits or left_ms <= 0:
                return lookup

    async def _plain_fetch(self) -> Lookup:
        lookup: Lookup = await self._client._run(plain_fetch(self._requests, self._key))
        return lookup

    async def produce(self, producer: Callable[[], Awaitable[T] | T], tags: Tags[T] = ()) -> T:
        """Return the result of ``producer``, or a stale value if it raises.

        ``tags`` may be a function of the result; tags from ``cache_tag`` are added.
        """
        try:
            given = () if callable(tags) else tuple(map(checked_tag, collected(tags)))
            early = self._options.early
            began = 0.0 if early is None else early.now()
            with self.inside() as more:
                found = producer()
                if isinstance(found, Awaitable):  # async only
                    found = await found
            self._cost = 0.0 if early is None else max(early.now() - began, 0.0)
            if callable(tags):
                given = tuple(map(checked_tag, collected(tags(found))))
        except BaseException as error:
            await self.give_up()
            if self._lookup.found is not Found.STALE or not isinstance(error, Exception):
                raise
            _log.warning("using a stale value: computing a new one failed", exc_info=True)
            note(self.tags)
            note_stale()
            self._has_stale = True
            stale: T = self._lookup.value
            return stale
        self.tag(given, more)
        value: T = found
        return value

    def tag(self, *tags: Iterable[bytes]) -> None:
        """Set the tags of the value, and add them to the values computed from it."""
        self.tags = tuple(dict.fromkeys(chain.from_iterable(tags)))
        note(self.tags)
        if self._has_stale:
            note_stale()

    async def store(self, value: T) -> bool:
        """Store what ``produce`` returned, unless it is stale or another caller has the lease.

        Returns whether it was stored.
        """
        if self._has_stale:
            await self.give_up()
            return False
        client, requests, token = self._client, self._requests, self.token
        if self._lookup.found is not None and token is None:
            return False
        try:
            ttl = self._options.ttl_of(value)
            if token is None:
                # The server has no leases, or is unavailable.
                await client._run(requests.put(self._key, value, tags=self.tags, ttl=ttl))
                return True
            grace = self._options.grace_seconds
            times = self._options.times(ttl, self._cost)
            work = fill(requests, self._key, value, token, self.tags, ttl, grace, times)
            stored: bool = await client._run(work)
            self.token = None
        except BaseException:
            await self.give_up()
            raise
        return stored

    async def give_up(self) -> None:
        """Release the lease, if there is one and the server can be reached."""
        token, self.token = self.token, None
        if token is not None:
            with suppress(ClientError):
                await self._client._run(release(self._requests, self._key, token))
