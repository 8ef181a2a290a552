"""Leases, graces and soft invalidation: values are computed once, and never stored outdated.

The store knows nothing of these. It reports each entry that leaves it here, but only while there
is a lease, a grace or a stale entry.

A lease is granted for a key that is not stored. When it is used, the store shows whether the key
was stored since: either there is an entry, or one has left. So storing an entry need not look for
leases.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import replace
from itertools import islice

from tagcache.engine import consistency
from tagcache.engine.budget import Budget
from tagcache.engine.entry import Entry
from tagcache.engine.graces import Graces
from tagcache.engine.invalidation import Invalidation
from tagcache.engine.leases import Lease, Leases
from tagcache.engine.reclaim import Backlog
from tagcache.engine.stale import Stale
from tagcache.engine.store import Store
from tagcache.model.activity import Activity
from tagcache.model.admission import check_lengths
from tagcache.model.fetched import LEASE, STALE, WAIT, Fetched, FreshCounts, hit
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tagcache.model.views import MOST_FAULTS, Consistency

# Names that are checked in one slice.
_NAMES_AT_ONCE = 256


class Freshness:
    """The leases, graces and stale entries of a cache.

    ``get`` and ``put_with`` are those of the cache; ``limits`` returns the current limits.

    ``leases`` holds the current leases. ``graces`` decides which entries become stale, and
    ``stale`` holds these. ``hard`` performs the invalidations that leave no stale entries.
    """

    def __init__(
        self,
        store: Store,
        backlog: Backlog,
        activity: Activity,
        budget: Budget,
        get: Callable[[bytes], bytes | None],
        put_with: Callable[[bytes, bytes, StoreOptions], int | None],
        limits: Callable[[], Limits],
        new_token: Callable[[], int],
    ) -> None:
        self.leases = Leases(new_token)
        self.stale = Stale(store.monotonic)
        self.graces = Graces(store, self.stale)
        self._store = store
        self._backlog = backlog
        self._activity = activity
        self._budget = budget
        budget.evict_beside = self._evict
        self._get = get
        self._put_with = put_with
        self._limits = limits
        self.hard = Invalidation(store, backlog, activity)
        self._soft = Invalidation(store, backlog, activity, self.graces)
        self._fills = 0
        self._refused = 0
        self._stale_served = 0

    @property
    def invalidated(self) -> int:
        """How many entries were invalidated since the start."""
        return self.hard.count + self._soft.count

    def counts(self) -> FreshCounts:
        """Return the current numbers, and the counts since the start."""
        return FreshCounts(
            leases=len(self.leases),
            stale_items=len(self.stale),
            leases_granted=self.leases.granted,
            fills=self._fills,
            fills_refused=self._refused,
            leases_released=self.leases.released,
            stale_served=self._stale_served,
        )

    # Look-ups and fills

    def fetch(self, key: bytes, lease_ms: int) -> Fetched:
        """Look up a key; see ISession.fetch."""
        value = self._get(key)
        if value is not None:
            return hit(value)
        check_lengths(self._limits(), key, b"")
        now = self._store.monotonic()
        stale = self.stale.get(key, now)
        lease = self._lease(key, now)
        token = None
        if lease is None:
            self._watch()
            token = self.leases.grant(key, lease_ms / 1000, now).token
        self._measure()
        left_ms = 0 if lease is None else int((lease.ends - now) * 1000) + 1
        if stale is not None:
            self._stale_served += 1
            self._activity.served_stale(stale.tags)
            return Fetched(STALE, stale.value, token, left_ms, stale.tags)
        return Fetched(WAIT if token is None else LEASE, None, token, left_ms)

    def fill(self, token: int, key: bytes, value: bytes, options: StoreOptions) -> bool:
        """Store a value computed under a lease, if it is still fresh; see ISession.fill."""
        lease = self._lease(key, self._store.monotonic())
        tags = options.tags or self._limits().tags_of(key)
        if lease is None or lease.token != token:
            self._refuse(tags)
            return False
        fresh = self.leases.is_good(lease, tags) and self._store.find(key) is None
        if fresh:
            # If this raises, nothing has changed, and the lease still exists.
            self._put_with(key, value, options)
            self.stale.discard(key)
            self._fills += 1
        else:
            self._refuse(tags)
        self.leases.end(key)
        self._measure()
        return fresh

    def _lease(self, key: bytes, now: float) -> Lease | None:
        lease = self.leases.of(key, now)
        if lease is None:
            # ``of`` may have removed a lease that has expired.
            self._measure()
        return lease

    def _refuse(self, tags: Collection[bytes]) -> None:
        self._refused += 1
        self._activity.refused(tags)

    def release(self, token: int, key: bytes) -> bool:
        """End a lease without a value; return whether it still existed."""
        lease = self._lease(key, self._store.monotonic())
        if lease is None or lease.token != token:
            return False
        self.leases.released += 1
        self.leases.end(key)
        self._measure()
        return True

    # Entries that become stale

    def give_grace(self, key: bytes, seconds: float) -> None:
        """Give a grace, in seconds, to the entry that was just stored.

        Without enough memory, the entry gets no grace.
        """
        try:
            self._watch()
            self.graces.give(key, seconds)
            self._measure()
        except MemoryError:
            return

    def restore_stale(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], until: float
    ) -> None:
        """Keep a stale entry of a snapshot until a time of the monotonic clock."""
        self._watch()
        self.stale.keep(key, value, tags, until, self._store.monotonic())
        self._measure()

    def _watch(self) -> None:
        self._store.leaving = self._leaving

    def _leaving(self, entry: Entry) -> None:
        self.leases.outdate(entry.key)
        self.graces.leaving(entry)
        self._measure()

    # Invalidations, as work: see ICache

    def any_of(self, tags: Collection[bytes], soft: bool = False) -> Generator[None, None, int]:
        """Invalidate every entry that carries at least one of the tags."""
        removed = yield from (self._soft if soft else self.hard).any_of(tags)
        # Until the next yield, this is atomic with the invalidation.
        self.leases.outdate_tags(tags)
        yield from self._conclude(soft, lambda stale: stale.any_of(tags))
        return removed

    def all_of(self, tags: Collection[bytes], soft: bool = False) -> Generator[None, None, int]:
        """Invalidate every entry that carries all of the tags; none for no tags."""
        # An entry with all tags has the rarest one, and few other entries have it.
        some = islice(tags, _NAMES_AT_ONCE)
        rarest = (min(some, key=self._store.tags.count),) if tags else ()
        removed = yield from (self._soft if soft else self.hard).all_of(tags)
        self.leases.outdate_tags(rarest)
        yield from self._conclude(soft, lambda stale: stale.all_of(tags))
        return removed

    def keys(self, keys: Collection[bytes], soft: bool = False) -> Generator[None, None, int]:
        """Invalidate the entries with these keys."""
        removed = yield from (self._soft if soft else self.hard).keys(keys)
        self.leases.outdate_keys(keys)
        yield from self._conclude(soft, lambda stale: stale.keys(keys))
        return removed

    def delete(self, key: bytes) -> bool:
        """Remove one entry; return whether it was there."""
        removed = self.hard.delete((key,)) == 1
        if self._store.leaving is not None:
            self.leases.outdate(key)
            self.stale.discard(key)
            self._measure()
        return removed

    def flush(self, memory: int) -> int:
        """Remove everything at once; the entries take about ``memory`` bytes."""
        removed = self.hard.flush(memory)
        self.leases.end_all()
        self.graces.clear()
        self.stale.flush()
        self._measure()
        if self.stale.backlog:
            self._backlog.on_garbage()
        return removed

    def _conclude(
        self, soft: bool, choose: Callable[[Invalidation], Generator[None, None, int]]
    ) -> Iterator[None]:
        """Invalidate stale entries, too, before the invalidation is reported as done."""
        if self._store.leaving is None:
            return
        if not soft:
            while self.graces.are_pending():
                # Softened entries that are still stored must not become stale later.
                yield from self._backlog.reclaim()
            if self.stale.store.items:
                yield from self.stale.invalidate(choose)
                if self.stale.backlog:
                    self._backlog.on_garbage()
        self._measure()

    def check(self) -> Generator[None, None, Consistency]:
        """Check the store, and the stale entries as well; see ICache.check."""
        found = yield from consistency.check(self._store)
        stale = yield from consistency.check(self.stale.store)
        faults = (*found.faults, *(f"stale: {fault}" for fault in stale.faults))
        return replace(
            found, faults=faults[:MOST_FAULTS], fault_count=found.fault_count + stale.fault_count
        )

    # Memory

    def _evict(self) -> bool:
        evicted = self.stale.evict()
        self._measure()
        return evicted

    def _measure(self) -> None:
        """Update the memory of all this in the budget."""
        stale = self.stale.memory if self.stale.store.items or self.stale.backlog else 0
        self._budget.beside = stale + self.graces.memory + self.leases.memory

    def sweep(self) -> Iterator[None]:
        """Forget expired leases and stale entries, yielding often."""
        yield from self._measured(self.stale.sweep())
        yield from self._measured(self.stale.reclaim())
        yield from self.leases.sweep(self._store.monotonic())
        self._measure()
        if not (len(self.leases) or len(self.graces) or self.stale.store.items):
            self._store.leaving = None

    def reclaim(self) -> Iterator[None]:
        """Free the memory of dropped stale entries, yielding often."""
        yield from self._measured(self.stale.reclaim())

    def _measured(self, work: Iterator[None]) -> Iterator[None]:
        """Run ``work``, and update the memory in the budget after each step."""
        for _ in work:
            self._measure()
            yield
        self._measure()
