"""Leases in Redis: look-ups that take a lease, and stores under one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from tagcache.model.activity import Activity
from tagcache.model.admission import check_lengths, check_tags
from tagcache.model.fetched import LEASE, STALE, WAIT, Fetched, FreshCounts, hit
from tagcache.model.store_options import StoreOptions
from tagcache.redis import scripts
from tagcache.redis.deferreds import afterwards
from tagcache.redis.drafts import Tally
from tagcache.redis.near import Near
from tagcache.redis.partitions import Partitions

# The most leases in all partitions; beyond that, those that end first are dropped.
_MOST_LEASES = 16_384
# The most keys for which somebody waits. Look-ups of further keys are repeated at once.
_MOST_AWAITED = 16_384
# How long a request waits if this server would not be notified of the end of the lease.
_UNHEARD_MS = 500


class Sampling(Tally, Protocol):
    """Counts look-ups, and needs the tags of some hits."""

    def asks_for_tags(self) -> bool:
        """Return whether a look-up should ask for the tags."""

    def count_hit(self) -> None:
        """Count a hit on an entry whose tags were not asked for."""


class Fresh:
    """The leases of one database, as seen by this server.

    ``new_token`` returns a random number of at most 63 bits that nobody can guess, not 0.
    ``is_heard`` says whether ``ended`` is called for each key for which somebody waits.

    Attributes:
        on_end: called with the key of a lease that ended early, if somebody waits for it.
        out, stale: the numbers of leases and stale entries in the last round of upkeep.
    """

    def __init__(
        self,
        partitions: Partitions,
        tally: Sampling,
        activity: Activity,
        near: Near | None,
        new_token: Callable[[], int],
        is_heard: Callable[[], bool],
    ) -> None:
        self.on_end: Callable[[bytes], None] = lambda key: None
        self.out = self.stale = 0
        self._partitions = partitions
        self._tally = tally
        self._activity = activity
        self._near = near
        self._new_token = new_token
        self._is_heard = is_heard
        # The look-ups in progress by key, and how many leases of these keys have ended meanwhile.
        self._asking: Counter[bytes] = Counter()
        self._ended: Counter[bytes] = Counter()
        # The roots of the partitions by key.
        self._awaited: dict[bytes, str] = {}
        self._granted = self._fills = self._refused = self._released = self._served = 0

    def counts(self) -> FreshCounts:
        """Return the numbers of the last round of upkeep, and the counts of this server."""
        return FreshCounts(
            leases=self.out,
            stale_items=self.stale,
            leases_granted=self._granted,
            fills=self._fills,
            fills_refused=self._refused,
            leases_released=self._released,
            stale_served=self._served,
        )

    def fetch(self, key: bytes, lease_ms: int, pipeline: int | None = None) -> Deferred[Fetched]:
        """Look up a key in Redis, never in the near cache; see ISession.fetch."""
        check_lengths(self._tally.limits, key, b"")
        return self._ask(key, lease_ms, pipeline)

    def _ask(self, key: bytes, lease_ms: int, pipeline: int | None) -> Deferred[Fetched]:
        token = self._new_token()
        self._asking[key] += 1
        ended = self._ended[key]

        def answered(answer: Any) -> Fetched | Deferred[Fetched]:
            fetched = self._read(key, answer, token)
            if fetched.found is not WAIT:
                return fetched
            if self._ended[key] > ended:
                # The end was reported on another connection before this answer was read.
                return self._ask(key, lease_ms, pipeline)
            return self._await(key, fetched)

        def done(result: Any) -> Any:
            self._asking[key] -= 1
            if not self._asking[key]:
                del self._asking[key], self._ended[key]
            return result

        more = b"1" if self._tally.asks_for_tags() else b""
        most = max(_MOST_LEASES // len(self._partitions), 1)
        arguments = (more, token, lease_ms, most)
        asked = self._partitions.call_for(key, pipeline, scripts.FETCH, *arguments)
        return asked.addCallback(answered).addBoth(done)

    def _read(self, key: bytes, answer: Any, token: int) -> Fetched:
        if isinstance(answer, bytes):
            self._tally.count_hit()
            return hit(answer)
        if len(answer) == 2:
            value, tags = answer
            self._tally.count_look_up(key, tags)
            return hit(value)
        left_ms, value, tags = answer
        self._tally.count_look_up(key, None)
        self._granted += not left_ms
        granted = None if left_ms else token
        if value is None:
            return Fetched(WAIT if left_ms else LEASE, None, granted, left_ms)
        self._served += 1
        self._activity.served_stale(tags)
        return Fetched(STALE, value, granted, left_ms, tuple(tags))

    def _await(self, key: bytes, fetched: Fetched) -> Fetched:
        if not self._is_heard():
            return fetched._replace(left_ms=min(fetched.left_ms, _UNHEARD_MS))
        self._awaited[key] = self._partitions.root(key)
        if len(self._awaited) > _MOST_AWAITED:
            first = next(iter(self._awaited))
            del self._awaited[first]
            self.on_end(first)
        return fetched

    def ended(self, key: bytes) -> None:
        """Note that the lease of a key has ended early, at any server."""
        if key in self._asking:
            self._ended[key] += 1
        self._awaited.pop(key, None)
        self.on_end(key)

    def ended_in(self, root: str) -> None:
        """Note that all leases of a partition have ended, at whatever server."""
        asking = [key for key in self._asking if self._partitions.root(key) == root]
        awaited = [key for key, there in self._awaited.items() if there == root]
        for key in asking + awaited:
            self.ended(key)

    def all_ended(self) -> None:
        """Repeat all waiting look-ups: reports of ended leases may have been missed."""
        for key in [*self._asking, *self._awaited]:
            self.ended(key)

    def fill(
        self,
        token: int,
        key: bytes,
        value: bytes,
        options: StoreOptions,
        pipeline: int | None = None,
    ) -> Deferred[bool]:
        """Store a value computed under a lease, if it is still fresh; see ISession.fill."""
        limits = self._tally.limits
        check_lengths(limits, key, value)
        tags = check_tags(limits, options.tags) or limits.tags_of(key)
        options.ttl_ms = limits.effective_ttl_ms(options.asked_ms)
        arguments = (token, value, options.ttl_ms or b"", options.grace_ms, *tags)

        def conclude(stored: int) -> bool:
            if stored:
                self._fills += 1
                self._tally.count_changes([key], 0)
            else:
                self._refused += 1
                self._activity.refused(tags)
            return bool(stored)

        near = self._near
        if near is not None:
            near.hold(key)
        filled = self._partitions.call_for(key, pipeline, scripts.FILL, *arguments)
        if near is not None:
            filled.addBoth(afterwards, near.release, key)
        return filled.addCallback(conclude)

    def release(self, token: int, key: bytes, pipeline: int | None = None) -> Deferred[bool]:
        """End a lease without a value; return whether it still existed."""

        def conclude(there: int) -> bool:
            self._released += there
            return bool(there)

        released = self._partitions.call_for(key, pipeline, scripts.RELEASE, token)
        return released.addCallback(conclude)
