"""The cache in Redis: what its clients ask of it, and what is counted."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.python.failure import Failure

from tagcache.errors import IntegerOverflow, NotAnInteger
from tagcache.model.activity import Activity, TagActivity
from tagcache.model.admission import check_integer, check_lengths, check_tags, value_too_large
from tagcache.model.limits import Limits
from tagcache.model.statistics import Counters, EngineTotals
from tagcache.model.views import Consistency, EntryView, TagMeasure, TagSize
from tagcache.redis import scripts
from tagcache.redis.deferreds import Work, to_the_end, together
from tagcache.redis.invalidation import Invalidations
from tagcache.redis.listing import Listing
from tagcache.redis.near import Near
from tagcache.redis.partitions import Partitions, chunks
from tagcache.redis.scripts import Script

_TAGS_AT_ONCE = 4000
_FLUSH_ROUNDS = 1000
# As the fields of Counters.
_COUNTED = (b"hits", b"misses", b"puts", b"invalidations", b"expirations", b"evictions")


@dataclass(frozen=True, slots=True)
class Miss:
    """A look-up that found nothing; ``lease`` says before which invalidations that was."""

    lease: int


class RedisCache:
    """The entries in ``partitions``; ``near`` keeps what was looked up.

    Arguments are those of ISession and IEngine, results are Deferreds. Commands with the same
    ``lane`` are carried out in the order of the calls; without one, those for the same key are.
    A command that fails with BackendUnavailable may have been carried out.
    """

    def __init__(
        self,
        partitions: Partitions,
        limits: Limits,
        activity: Activity,
        monotonic: Callable[[], float],
        near: Near | None = None,
        new_id: Callable[[], bytes] = lambda: uuid4().hex.encode(),
    ) -> None:
        self.limits = limits
        self._partitions = partitions
        self._invalidations = Invalidations(partitions, new_id)
        self._listing = Listing(partitions, self._invalidations)
        self._near = near
        self._activity = activity
        self._monotonic = monotonic
        self._next_sample = 0
        self.hits = 0
        self.misses = 0
        self.puts = 0
        self.invalidations = 0
        # What of these the engine knows.
        self._told = (0, 0, 0)
        self._tags_seen = 0

    def get_near(self, key: bytes) -> bytes | None:
        """Return a value that is kept near, counting a hit; None if there is none."""
        value = None if self._near is None else self._near.get(key)
        if value is not None:
            self.hits += 1
        return value

    def get(self, key: bytes, lane: int | None = None) -> Deferred[bytes | Miss]:
        """Look up, counting a hit or a miss; what is computed after a miss needs its lease."""
        near = self._near
        if near is not None and near.is_fresh:
            begun = near.begin(key)
            found = self._partitions.call_for(key, lane, scripts.GET, b"1")
            return found.addCallbacks(
                self._kept, self._not_kept, (near, key, begun), errbackArgs=(near, key)
            )
        # To tell more costs more.
        more = b"" if self.hits < self._next_sample else b"1"
        found = self._partitions.call_for(key, lane, scripts.GET, more)
        return found.addCallback(self._looked_up, key)

    def _kept(
        self, found: Any, near: Near, key: bytes, begun: tuple[int, float]
    ) -> bytes | Miss | Deferred[bytes | Miss]:
        if isinstance(found, int) or found[4]:
            near.end(key)
        else:
            value, _, left, tags, _ = found
            near.keep(key, begun, value, tags, int(left) if left else None)
        return self._looked_up(found, key)

    @staticmethod
    def _not_kept(reason: Failure, near: Near, key: bytes) -> Failure:
        near.end(key)
        return reason

    def peek_many(self, keys: Sequence[bytes]) -> Deferred[list[EntryView | None]]:
        return self._listing.peek_many(keys)

    def peek(self, key: bytes) -> Deferred[EntryView | None]:
        return self.peek_many([key]).addCallback(lambda found: found[0])

    def put(
        self,
        key: bytes,
        value: bytes,
        tags: Collection[bytes] = (),
        ttl_ms: int | None = None,
        lease: int | None = None,
        lane: int | None = None,
    ) -> Deferred[int | None]:
        """Store, but not where one of the tags was invalidated since the lease."""
        tags = self._check(key, value, tags)
        ttl_ms = ttl_ms or self.limits.default_ttl_ms or None
        number = b"" if lease is None else b"%d" % lease
        stored = self._change(key, lane, scripts.PUT, value, _ttl(ttl_ms), number, *tags)

        def conclude(_: int) -> int | None:
            self.puts += 1
            self._activity.stored(key)
            return ttl_ms

        return stored.addCallback(conclude)

    def add(
        self,
        key: bytes,
        value: bytes,
        tags: Collection[bytes] = (),
        ttl_ms: int | None = None,
        lane: int | None = None,
    ) -> Deferred[bool]:
        tags = self._check(key, value, tags)
        ttl_ms = ttl_ms or self.limits.default_ttl_ms or None
        added = self._change(key, lane, scripts.ADD, value, _ttl(ttl_ms), *tags)

        def conclude(stored: int) -> bool:
            if stored:
                self.puts += 1
                self._activity.stored(key)
            return bool(stored)

        return added.addCallback(conclude)

    def increment(
        self,
        key: bytes,
        by: int = 1,
        tags: Collection[bytes] = (),
        ttl_ms: int | None = None,
        lane: int | None = None,
    ) -> Deferred[int]:
        check_integer(by)
        tags = self._check(key, b"", tags)
        limits = self.limits
        ttls = _ttl(ttl_ms or None), _ttl(limits.default_ttl_ms or None)
        counted = self._change(
            key, lane, scripts.INCR, b"%d" % by, *ttls, limits.max_value_length, *tags
        )

        def conclude(result: bytes | list[bytes]) -> int:
            if isinstance(result, list):
                self.puts += 1
                self._activity.stored(key)
                return int(result[0])
            if result.isdigit():
                raise value_too_large(limits, int(result))
            raise IntegerOverflow if result == b"overflow" else NotAnInteger

        return counted.addCallback(conclude)

    def touch(
        self, key: bytes, ttl_ms: int | None = None, lane: int | None = None
    ) -> Deferred[bool]:
        ttl = _ttl(ttl_ms or self.limits.default_ttl_ms or None)
        return self._change(key, lane, scripts.TOUCH, ttl).addCallback(bool)

    def delete(self, key: bytes, lane: int | None = None) -> Deferred[bool]:
        return (
            self._change(key, lane, scripts.DELETE)
            .addCallback(self._count_removed)
            .addCallback(bool)
        )

    @inlineCallbacks
    def invalidate_any(self, tags: Collection[bytes]) -> Work:
        names = list(dict.fromkeys(tags))
        removed = 0
        for some in chunks(names, _TAGS_AT_ONCE):
            removed += yield self._invalidate(b"any", some)
        return removed

    @inlineCallbacks
    def invalidate_all(self, tags: Collection[bytes]) -> Work:
        names = list(dict.fromkeys(tags))
        if not names:
            return 0
        # One tag needs no note of a combination.
        removed = yield self._invalidate(b"any" if len(names) == 1 else b"all", names)
        return removed

    def _invalidate(self, kind: bytes, tags: Sequence[bytes]) -> Deferred[int]:
        near = self._near
        if near is None:
            return to_the_end(self._invalidate_there(kind, tags))
        # Of a combination of tags, each of which an entry has, any one will do.
        some = tags if kind == b"any" else tags[:1]
        near.hold_tags(some)
        work = self._invalidate_there(kind, tags).addBoth(_after, near.release_tags, some)
        return to_the_end(work)

    @inlineCallbacks
    def _invalidate_there(self, kind: bytes, tags: Sequence[bytes]) -> Work:
        removed, keys = yield self._invalidations.invalidate(kind, tags)
        self.invalidations += removed
        if len(tags) == 1 and removed:
            self._activity.invalidated(tags[0], keys, removed, self._monotonic())
        return removed

    def invalidate_keys(self, keys: Collection[bytes]) -> Deferred[int]:
        by_root: dict[str, list[bytes]] = {}
        for key in dict.fromkeys(keys):
            by_root.setdefault(self._partitions.root(key), []).append(key)
        return together(
            [
                self._delete_some(root, some)
                for root, there in by_root.items()
                for some in chunks(there, self._partitions.keys_at_once)
            ]
        ).addCallback(lambda counts: self._count_removed(sum(counts)))

    def _delete_some(self, root: str, keys: Sequence[bytes]) -> Deferred[int]:
        near = self._near
        if near is None:
            return self._partitions.call(root, scripts.DELETE, *keys)
        for key in keys:
            near.hold(key)

        def release(keys: Sequence[bytes]) -> None:
            for key in keys:
                near.release(key)

        return self._partitions.call(root, scripts.DELETE, *keys).addBoth(_after, release, keys)

    def _count_removed(self, number: int) -> int:
        self.invalidations += number
        return number

    @inlineCallbacks
    def keys_by_tag(self, tag: bytes) -> Work:
        found = yield self.search([tag])
        return [entry.key for entry in found]

    def search(
        self, tags: Sequence[bytes], every: bool = False, offset: int = 0, limit: int | None = None
    ) -> Deferred[list[EntryView]]:
        return self._listing.search(tags, every, offset, limit)

    def count(self, tags: Sequence[bytes], every: bool = False) -> Deferred[int]:
        return self._listing.count(tags, every)

    def newest(self, prefix: bytes, offset: int, limit: int) -> Deferred[list[EntryView]]:
        return self._listing.newest(prefix, offset, limit)

    @inlineCallbacks
    def tags(self, prefix: bytes) -> Work:
        yield self.settle()
        found = yield self._listing.tags(prefix)
        return found

    @inlineCallbacks
    def largest_tags(self, prefix: bytes, most: int, measure: TagMeasure) -> Work:
        found = yield self.tags(prefix)

        def rank(row: tuple[bytes, int, int]) -> tuple[int, bytes]:
            tag, keys, size = row
            hits = self.activity(tag).hits if measure == "hits" else 0
            return {"keys": keys, "bytes": size, "hits": hits}[measure], tag

        return [TagSize(*row) for row in heapq.nlargest(most, found, key=rank)]

    def flush(self) -> Deferred[int]:
        near = self._near
        if near is None:
            return self._flush_there()
        near.hold_all()
        return self._flush_there().addBoth(_after, lambda _: near.release_all(), None)

    @inlineCallbacks
    def _flush_there(self) -> Work:
        removed = yield together(self._flush(root) for root in self._partitions.roots)
        return self._count_removed(sum(removed))

    @inlineCallbacks
    def _flush(self, root: str) -> Work:
        for _ in range(_FLUSH_ROUNDS):
            removed = yield self._partitions.call(root, scripts.FLUSH, b"")
            if removed >= 0:
                return removed
            yield self._invalidations.count_in(root)
        removed = yield self._partitions.call(root, scripts.FLUSH, b"now")
        return removed

    def settle(self) -> Deferred[None]:
        return self._invalidations.settle()

    @inlineCallbacks
    def reclaim(self) -> Work:
        """Give back the memory of what was flushed."""
        partitions = self._partitions
        for root in partitions.roots:
            while (yield partitions.call_later(root, scripts.RECLAIM, partitions.at_once)):
                pass

    @inlineCallbacks
    def totals(self) -> Work:
        yield self._invalidations.count_all()
        yield self.tell_counts()
        totals = yield self.held(True)
        return totals

    @inlineCallbacks
    def held(self, name_tags: bool) -> Work:
        each = yield self._partitions.call_everywhere(scripts.TOTALS)
        if len(each) == 1:
            self._tags_seen = each[0][1]
        elif name_tags:
            # One tag may be in many partitions.
            self._tags_seen = len((yield self._listing.tags(b"")))
        items, _, size, backlog = (sum(answer[n] for answer in each) for n in range(4))
        counters = _counters(answer[4] for answer in each)
        return EngineTotals(items, self._tags_seen, size, backlog, 0, 0, counters)

    @inlineCallbacks
    def counters(self) -> Work:
        yield self.tell_counts()
        each = yield self._partitions.call_everywhere(scripts.COUNTS, 0, 0, 0)
        return _counters(each)

    def check(self) -> Deferred[Consistency]:
        return self._listing.check()

    def tell_counts(self) -> Deferred[Any]:
        """Add what was counted here to what all servers count together."""
        now, before = (self.hits, self.misses, self.puts), self._told
        if now == before:
            return succeed(None)
        new = [a - b for a, b in zip(now, before, strict=True)]
        self._told = now

        def take_back(reason: Failure) -> Failure:
            hits, misses, puts = self._told
            self._told = (hits - new[0], misses - new[1], puts - new[2])
            return reason

        first = self._partitions.roots[0]
        return self._partitions.call(first, scripts.COUNTS, *new).addErrback(take_back)

    def activity(self, tag: bytes) -> TagActivity:
        return self._activity.of(tag)

    def _looked_up(self, found: Any, key: bytes) -> bytes | Miss | Deferred[bytes | Miss]:
        if isinstance(found, bytes):
            self.hits += 1
            return found
        if isinstance(found, int):
            self.misses += 1
            self._activity.missed(key)
            return Miss(found)
        value, number, _, tags, pending = found
        if pending:
            return self._invalidations.has_happened(pending).addCallback(
                lambda gone: self._looked_up(number if gone else value, key)
            )
        self.hits += 1
        if self.hits >= self._next_sample:
            self._next_sample = self._activity.sample(self.hits, tags)
        return bytes(value)

    def _change(
        self, key: bytes, lane: int | None, script: Script, *arguments: Any
    ) -> Deferred[Any]:
        """Call for what changes the entry, so that nothing near contradicts it."""
        near = self._near
        if near is None:
            return self._partitions.call_for(key, lane, script, *arguments)
        near.hold(key)
        changed = self._partitions.call_for(key, lane, script, *arguments)
        return changed.addBoth(_after, near.release, key)

    def _check(self, key: bytes, value: bytes, tags: Collection[bytes]) -> tuple[bytes, ...]:
        check_lengths(self.limits, key, value)
        return check_tags(self.limits, tags)


def _after(result: Any, release: Callable[[Any], None], held: Any) -> Any:
    release(held)
    return result


def _ttl(ttl_ms: int | None) -> bytes:
    return b"" if ttl_ms is None else b"%d" % ttl_ms


def _counters(each: Iterable[list[bytes]]) -> Counters:
    """Add up what partitions counted: names and numbers in turn."""
    counts: dict[bytes, int] = {}
    for pairs in each:
        for name, number in zip(pairs[::2], pairs[1::2], strict=True):
            counts[name] = counts.get(name, 0) + int(number)
    return Counters(*(counts.get(kind, 0) for kind in _COUNTED))
