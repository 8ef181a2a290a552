# Generated from tagcache/client/_async/computing.py by tools/unasync.py: do not edit.
"""Computing a missing value: under a lease, so that it is fresh, and computed once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
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

# A look-up waits for this much of the time that a reply may take, and is then repeated.
_SHARE_OF_TIMEOUT = 0.5

_log = logging.getLogger("tagcache.client")


class BlockingComputation(Generic[T]):
    """One look-up of a key, and the computation of its value if there is none.

    ``client`` is a client with ``_run``, ``_requests``, ``_options`` and ``_flights``. ``requests``
    are those for values of one type. ``refused`` is called with the error of the server if it
    refuses to store the value; None: that is raised.

    Attributes:
        token: that of the lease, while there is one.
        tags: those of the value, as they are sent; of a value that was found only where a value
            is being computed around this one.
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
        # Whether the value is made of a stale one: then it is not stored.
        self._has_stale = False
        self.token: bytes | None = None
        self.tags: tuple[bytes, ...] = ()

    def result(self, producer: Callable[[], T], tags: Tags[T] = ()) -> T:
        """Return the stored value, or the result of ``producer``, which is then stored."""
        try:
            if self.begin():
                return self.value
            try:
                value = self.produce(producer, tags)
                self.end(value)
            except Exception as error:
                self._call.outcome = Outcome(error=error)
                raise
            return value
        finally:
            self.leave()

    def begin(self) -> bool:
        """Return whether there is a ``value`` to use; if not, the caller computes it.

        Then ``end`` stores it. In any case the caller calls ``leave``. Of all callers in this
        process that find no value, one waits on the server, and computes if need be; the others
        get its value, unless that may have been invalidated before they came.
        """
        flights, name = self._client._flights, self._name
        if flights.is_inside(name):
            # The lease that this caller would wait for is its own.
            return self.look_up(waits=False)
        ends = flights.monotonic() + self._options.join_seconds
        while True:
            call = self._call = Call()
            other = flights.enter(name, call)
            is_there = self.look_up(waits=other is call)
            if is_there and not (other is call and self._begins_early()):
                if self.found is Found.STALE:
                    note_stale()
                return True
            if call.successor is not None:
                # It was given the lease, after this caller had asked.
                other = call.successor
                if other.outcome is not None:
                    self.give_up()
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
            outcome = flights.outcome(name, other, left)
            if outcome is not None:
                return self._shares(outcome)

    @contextmanager
    def inside(self) -> Iterator[Collected]:
        """Collect the tags that ``cache_tag`` gives while the caller computes the value."""
        with self._client._flights.inside(self._name), collecting() as tags:
            yield tags
        self._has_stale = tags.has_stale

    def end(self, value: T) -> None:
        """Store what was computed, and let the others have it."""
        self._call.phase = Phase.STORING
        is_fresh = self._store_unless_stale(self._call, value)
        self._call.outcome = Outcome(value, self.tags, is_fresh, self._has_stale)

    def leave(self) -> None:
        """Let those who wait for this caller go on."""
        self._client._flights.leave(self._name, self._call)

    def _begins_early(self) -> bool:
        """Return whether this caller is to compute the value anew, though it is there."""
        early, times = self._options.early, self._lookup.timing
        if early is None or times is None or not early.is_due(*times):
            return False
        # The others get it as a stale value meanwhile.
        self._client._run(soften(self._requests, self._key))
        return not self.look_up(waits=False)

    def _shares(self, outcome: Outcome) -> bool:
        """Take, or raise, what another caller computed."""
        if outcome.error is not None:
            raise outcome.error
        note(outcome.tags)
        if outcome.has_stale:
            note_stale()
        self._lookup = Lookup(Found.HIT, outcome.value)
        return True

    def _store_unless_stale(self, call: Call, value: T) -> bool:
        if call.is_stale():
            self.give_up()
            return False
        stored = False
        try:
            stored = self.store(value)
        except Refused as error:
            if self._refused is None:
                raise
            self._refused(error)
        if call.is_stale():
            self._client.delete(self._key)
        return stored and not call.is_stale()

    def look_up(self, waits: bool = True) -> bool:
        """Look up the value, or take the lease; return whether there is a ``value`` to use.

        ``waits``: while somebody else computes it, as the options say.
        """
        wait_ms = self._options.wait_ms if waits else 0
        lookup = self._fetch(wait_ms)
        if not lookup.fits:
            # Most likely, another version of the program has stored it.
            self.token = lookup.token
            self.give_up()
            self._client.delete(self._key)
            lookup = self._fetch(wait_ms)
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
        """What the look-up found; None: the server has no leases, or was not there."""
        return self._lookup.found

    @property
    def value(self) -> T:
        """The value that was found."""
        value: T = self._lookup.value
        return value

    def _fetch(self, left_ms: int) -> Lookup:
        client = self._client
        if not client._leases:
            return self._plain_fetch()
        timeout = client._options.timeout
        most_ms = MOST_WAIT_MS if timeout is None else int(timeout * 1000 * _SHARE_OF_TIMEOUT)
        while True:
            waits = left_ms > 0 and client._waiting.acquire(blocking=False)
            wait_ms = min(left_ms, most_ms) if waits else 0
            request = fetch(self._requests, self._key, LEASE_MS, wait_ms, is_collecting())
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
        lookup: Lookup = self._client._run(plain_fetch(self._requests, self._key))
        return lookup

    def produce(self, producer: Callable[[], T], tags: Tags[T] = ()) -> T:
        """Return the result of ``producer``, to be stored; or a stale value if it raises.

        Tags that ``cache_tag`` gives meanwhile are added to ``tags``, which may be a function of
        the result.
        """
        try:
            given = () if callable(tags) else tuple(map(checked_tag, collected(tags)))
            early = self._options.early
            began = 0.0 if early is None else early.now()
            with self.inside() as more:
                found = producer()
            self._cost = 0.0 if early is None else max(early.now() - began, 0.0)
            if callable(tags):
                given = tuple(map(checked_tag, collected(tags(found))))
        except BaseException as error:
            self.give_up()
            if self._lookup.found is not Found.STALE or not isinstance(error, Exception):
                raise
            _log.warning("a stale value is used, as the new one failed", exc_info=True)
            note(self.tags)
            note_stale()
            self._has_stale = True
            stale: T = self._lookup.value
            return stale
        self.tag(given, more)
        value: T = found
        return value

    def tag(self, *tags: Iterable[bytes]) -> None:
        """Give tags to the computed value, and to all that is computed around it."""
        self.tags = tuple(dict.fromkeys(chain.from_iterable(tags)))
        note(self.tags)
        if self._has_stale:
            note_stale()

    def store(self, value: T) -> bool:
        """Store what ``produce`` returned, if that is to be stored.

        Returns whether it is fresh, as far as is known.
        """
        if self._has_stale:
            self.give_up()
            return False
        client, requests, token = self._client, self._requests, self.token
        if self._lookup.found is not None and token is None:
            return False
        try:
            ttl = self._options.ttl_of(value)
            if token is None:
                # The server has no leases, or was not there.
                client._run(requests.put(self._key, value, tags=self.tags, ttl=ttl))
                return True
            grace = self._options.grace_seconds
            times = self._options.times(ttl, self._cost)
            work = fill(requests, self._key, value, token, self.tags, ttl, grace, times)
            stored: bool = client._run(work)
            self.token = None
        except BaseException:
            self.give_up()
            raise
        return stored

    def give_up(self) -> None:
        """Give the lease back, if there is one and the server can be reached."""
        token, self.token = self.token, None
        if token is not None:
            with suppress(ClientError):
                self._client._run(release(self._requests, self._key, token))
