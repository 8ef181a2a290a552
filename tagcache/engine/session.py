"""The engine in this process: sessions and the engine interface over the cache."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from zope.interface import implementer

from tagcache.engine.entry import Entry
from tagcache.engine.memory import MemoryCache
from tagcache.model.activity import TagActivity
from tagcache.model.drafts import Draft
from tagcache.model.fetched import FreshCounts
from tagcache.model.int64 import UINT64_MAX
from tagcache.model.interfaces import IEngine, ISession, Versions
from tagcache.model.limits import Limits
from tagcache.model.statistics import Counters, EngineTotals, Totals
from tagcache.model.store_options import NEVER
from tagcache.model.views import Consistency, EntryView, TagMeasure, TagSize
from tagcache.model.work import run_to_end

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

T = TypeVar("T")

# Look-ups in one step, which take well below a millisecond.
_LOOK_UPS_AT_ONCE = 500


class Finish(Protocol):
    """Runs work to its end; returns its result, or a Deferred of it if that takes long."""

    def __call__(self, work: Generator[None, None, T]) -> T | Deferred[T]:
        """Run ``work``."""


@implementer(ISession)
class MemorySession:
    """An ISession of the cache in this process; it has no state, so all clients share it.

    Methods that are always fast are the cache's own, which saves a call.
    """

    def __init__(self, cache: MemoryCache, monotonic: Callable[[], float], finish: Finish) -> None:
        self._cache = cache
        self._monotonic = monotonic
        self._finish = finish
        self.get = cache.get
        self.put = cache.put
        self.put_with = cache.put_with
        self.add = cache.add
        self.increment = cache.increment
        self.decrement = cache.decrement
        self.touch = cache.touch
        self.delete = cache.delete
        self.fetch = cache.fetch
        self.fill = cache.fill
        self.release = cache.release

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None] | Deferred[list[bytes | None]]:
        if len(keys) <= _LOOK_UPS_AT_ONCE:
            return self._cache.get_many(keys)

        def work() -> Generator[None, None, list[bytes | None]]:
            values: list[bytes | None] = []
            for start in range(0, len(keys), _LOOK_UPS_AT_ONCE):
                values += self._cache.get_many(keys[start : start + _LOOK_UPS_AT_ONCE])
                yield
            return values

        return self._finish(work())

    def update(
        self, keys: Collection[bytes], change: Callable[[Draft], T], counts: bool = False
    ) -> T:
        draft = self._cache.draft(keys, counts)
        result = change(draft)
        if draft.changes:
            self._cache.carry_out(draft)
        return result

    def versions(self, keys: Collection[bytes]) -> Versions:
        return {key: self._cache.version(key) for key in keys}

    def transact(
        self, unchanged: Versions, keys: Collection[bytes], run: Callable[[ISession, IEngine], T]
    ) -> T | None:
        if self.versions(unchanged) != unchanged:
            return None
        engine = MemoryEngine(self._cache, self._monotonic)
        return run(engine.session, engine)

    def invalidate_tag(self, tag: bytes, soft: bool = False) -> int | Deferred[int]:
        return self._finish(self._cache.invalidate_tag(tag, soft))

    def invalidate_any(self, tags: Collection[bytes], soft: bool = False) -> int | Deferred[int]:
        return self._finish(self._cache.invalidate_any(tags, soft))

    def invalidate_all(self, tags: Collection[bytes], soft: bool = False) -> int | Deferred[int]:
        return self._finish(self._cache.invalidate_all(tags, soft))

    def invalidate_keys(self, keys: Collection[bytes], soft: bool = False) -> int | Deferred[int]:
        return self._finish(self._cache.invalidate_keys(keys, soft))

    def flush(self) -> int | Deferred[int]:
        return self._finish(self._cache.flush())


@implementer(IEngine)
class MemoryEngine:
    """An IEngine whose entries are in this process; one thread owns it.

    ``monotonic`` is the clock of ``store``, in seconds. ``finish`` runs work over many entries; by
    default without interruption.
    """

    trouble = ""

    def __init__(
        self,
        store: MemoryCache,
        monotonic: Callable[[], float],
        finish: Finish = run_to_end,
    ) -> None:
        self.store = store
        self._monotonic = monotonic
        self._finish = finish
        self.session = MemorySession(store, monotonic, finish)

    @property
    def limits(self) -> Limits:
        """The limits of an entry."""
        return self.store.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.store.limits = limits

    @property
    def memory(self) -> int:
        """The approximate bytes that all entries and their indexes take."""
        return self.store.memory

    @property
    def max_memory(self) -> int:
        """The bytes that they may take; 0: no limit."""
        return self.store.max_memory

    @property
    def backlog(self) -> int:
        """How many entries were removed and still use memory."""
        return self.store.backlog

    @property
    def eviction_policy(self) -> str:
        """What is evicted when memory is full."""
        return self.store.policy

    @property
    def on_lease_end(self) -> Callable[[bytes], None]:
        """Called with the key of a lease that ended early."""
        return self.store.freshness.leases.on_end

    @on_lease_end.setter
    def on_lease_end(self, called: Callable[[bytes], None]) -> None:
        self.store.freshness.leases.on_end = called

    def fresh_counts(self) -> FreshCounts:
        return self.store.freshness.counts()

    def open_session(self) -> MemorySession:
        return self.session

    def counters(self) -> Counters:
        return self.store.counters()

    all_counters = counters

    def held(self) -> Totals:
        return self.store.held()

    def peek(self, key: bytes) -> EntryView | None:
        entry = self.store.peek(key)
        return None if entry is None else self._view(key, entry, entry.value)

    def peek_many(
        self, keys: Sequence[bytes]
    ) -> list[EntryView | None] | Deferred[list[EntryView | None]]:
        def work() -> Generator[None, None, list[EntryView | None]]:
            found = []
            for key in keys:
                found.append(self.peek(key))
                yield
            return found

        return self._finish(work())

    def keys_by_tag(self, tag: bytes) -> list[bytes] | Deferred[list[bytes]]:
        return self._finish(self.store.keys_by_tag(tag))

    def search(
        self, tags: Sequence[bytes], every: bool = False, offset: int = 0, limit: int | None = None
    ) -> list[EntryView] | Deferred[list[EntryView]]:
        return self._finish(self._page(self._scan(tags, every), offset, limit))

    def newest(
        self, prefix: bytes, offset: int, limit: int
    ) -> list[EntryView] | Deferred[list[EntryView]]:
        return self._finish(self._page(self.store.scan(prefix), offset, limit))

    def scan_keys(
        self,
        cursor: int,
        count: int | None = None,
        wanted: Callable[[bytes], bool] | None = None,
    ) -> tuple[int, list[bytes]] | Deferred[tuple[int, list[bytes]]]:
        return self._finish(self.store.scan_keys(cursor, count, wanted))

    def random_key(self) -> bytes | None:
        return self.store.random_key()

    def count(self, tags: Sequence[bytes], every: bool = False) -> int | Deferred[int]:
        def work() -> Generator[None, None, int]:
            count = 0
            for item in self._scan(tags, every):
                count += item is not None
                yield
            return count

        return self._finish(work())

    def count_keys(self, keys: Sequence[bytes]) -> int | Deferred[int]:
        def work() -> Generator[None, None, int]:
            count = 0
            for key in set(keys):
                count += self.store.peek(key) is not None
                yield
            return count

        return self._finish(work())

    def largest_tags(
        self, prefix: bytes, most: int, measure: TagMeasure = "keys"
    ) -> list[TagSize] | Deferred[list[TagSize]]:
        def work() -> Generator[None, None, list[TagSize]]:
            # A heap: the smallest of the kept tags comes first.
            largest: list[tuple[int, TagSize]] = []
            for item in self.store.scan_tags(prefix):
                if item is not None and most:
                    tag = TagSize(*item)
                    rank = tag.rank(measure, self.activity)
                    push = heapq.heappush if len(largest) < most else heapq.heappushpop
                    push(largest, (rank, tag))
                yield
            return [tag for _, tag in sorted(largest, reverse=True)]

        return self._finish(work())

    def activity(self, tag: bytes) -> TagActivity:
        return self.store.activity(tag)

    def totals(self) -> EngineTotals | Deferred[EngineTotals]:
        def work() -> Generator[None, None, EngineTotals]:
            yield from self.store.sweep()
            self.store.totals()  # removes entries that have expired in the meantime
            return EngineTotals.of(self)

        return self._finish(work())

    def check(self) -> Consistency | Deferred[Consistency]:
        return self._finish(self.store.check())

    def describe(self) -> dict[str, Any]:
        return {"backend": "memory"}

    def _scan(self, tags: Sequence[bytes], every: bool) -> Iterator[tuple[bytes, Entry] | None]:
        return self.store.scan_all(tags) if every else self.store.scan_any(tags)

    def _page(
        self, scan: Iterator[tuple[bytes, Entry] | None], offset: int, limit: int | None
    ) -> Generator[None, None, list[EntryView]]:
        """Work that returns one page of the results of a scan, and stops at the end of the page."""
        found: list[tuple[bytes, Entry]] = []
        left = offset
        for item in scan:
            if limit is not None and len(found) >= limit:
                break
            if item is not None:
                if left:
                    left -= 1
                else:
                    found.append(item)
            yield
        views = []
        for key, entry in found:
            views.append(self._view(key, entry, None))
            yield
        return views

    def _view(self, key: bytes, entry: Entry, value: bytes | None) -> EntryView:
        left_ms = None
        if entry.ttl != NEVER:
            left_ms = min(max(int((entry.expires - self._monotonic()) * 1000), 0), UINT64_MAX)
        return EntryView(
            key=key,
            value=value,
            tags=entry.tags,
            size=len(key) + len(entry.value),
            stored_us=self.store.created_ms(entry) * 1000,
            left_ms=left_ms,
            ttl_ms=entry.ttl_ms,
        )
