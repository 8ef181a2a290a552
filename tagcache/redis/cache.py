"""The entries in Redis: the operations of clients, and their counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from random import Random, SystemRandom
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.python.failure import Failure

from tagcache.errors import IntegerOverflow, NotAnInteger
from tagcache.model.activity import Activity, TagActivity
from tagcache.model.admission import check_integer, check_lengths, check_tags, value_too_large
from tagcache.model.limits import Limits
from tagcache.model.statistics import Counters, EngineTotals
from tagcache.redis import scripts
from tagcache.redis.deferreds import afterwards, as_deferred, to_the_end, together
from tagcache.redis.drafts import Drafts
from tagcache.redis.fresh import Fresh
from tagcache.redis.invalidation import Invalidations, has_work
from tagcache.redis.listing import Listing
from tagcache.redis.near import Near
from tagcache.redis.partitions import Partitions, chunks
from tagcache.redis.scripts import Script

_TAGS_AT_ONCE = 4000
_FLUSH_ROUNDS = 1000
# After this many hits, the tags of a hit are asked for again if no answer has brought any.
_ASK_AGAIN = 64
# In the order of the fields of Counters.
_COUNTED = (b"hits", b"misses", b"puts", b"invalidations", b"expirations", b"evictions")


class RedisCache:
    """The entries in ``partitions``, with the near cache ``near``.

    Arguments are those of ISession and IEngine, results are Deferreds. Calls with the same number
    ``pipeline`` are executed in their order; without one, calls for the same key are. A call that
    fails with BackendUnavailable may have been executed.

    ``seen`` are the totals of the last round of upkeep.
    """

    def __init__(
        self,
        partitions: Partitions,
        limits: Limits,
        activity: Activity,
        monotonic: Callable[[], float],
        near: Near | None = None,
        new_token: Callable[[], int] = lambda: SystemRandom().getrandbits(63) or 1,
        is_heard: Callable[[], bool] = lambda: False,
        random: Random | None = None,
    ) -> None:
        self.limits = limits
        self._partitions = partitions
        self._invalidations = Invalidations(partitions)
        random = random or Random()  # noqa: S311 - it only picks partitions
        self.listing = Listing(partitions, random)
        self.drafts = Drafts(partitions, near, self)
        self.fresh = Fresh(partitions, self, activity, near, new_token, is_heard)
        self._near = near
        self._activity = activity
        self._monotonic = monotonic
        # The numbers of hits at which to sample one, and to ask for its tags again.
        self._next_sample = self._next_question = 0
        self.hits = 0
        self.misses = 0
        self.puts = 0
        self.invalidations = 0
        # The hits, misses and puts that have been sent to Redis.
        self._sent = (0, 0, 0)
        self._sending = DeferredLock()
        self._tags_seen = 0
        # The totals of each partition when the upkeep last listed the tags.
        self._listed: list[Any] = []
        self.seen = EngineTotals(0, 0, 0, 0, 0, 0, Counters(0, 0, 0, 0, 0, 0))

    def get_near(self, key: bytes) -> bytes | None:
        """Return a value from the near cache and count a hit; None if there is none."""
        value = None if self._near is None else self._near.get(key)
        if value is not None:
            self.hits += 1
        return value

    def asks_for_tags(self) -> bool:
        """Return whether a look-up should ask for tags, to sample a hit. They cost time in Redis.

        Few of the look-ups that are sent before the first of them is answered do so.
        """
        asks = self.hits >= max(self._next_sample, self._next_question)
        if asks:
            self._next_question = self.hits + _ASK_AGAIN
        return asks

    def get(self, key: bytes, pipeline: int | None = None) -> Deferred[bytes | None]:
        """Return the value or None, and count it."""
        near = self._near
        if near is not None and near.is_fresh:
            begun = near.begin(key)
            found = self._partitions.call_for(key, pipeline, scripts.GET, b"1")
            return found.addCallbacks(
                self._kept, self._not_kept, (near, key, begun), errbackArgs=(near, key)
            )
        more = b"1" if self.asks_for_tags() else b""
        found = self._partitions.call_for(key, pipeline, scripts.GET, more)
        return found.addCallback(self._looked_up, key)

    def _kept(self, found: Any, near: Near, key: bytes, begun: tuple[int, float]) -> bytes | None:
        if found is None:
            near.end(key)
        else:
            value, left, tags = found
            near.keep(key, begun, value, tags, int(left) if left else None)
        return self._looked_up(found, key)

    @staticmethod
    def _not_kept(reason: Failure, near: Near, key: bytes) -> Failure:
        near.end(key)
        return reason

    def put(
        self,
        key: bytes,
        value: bytes,
        tags: Collection[bytes] = (),
        ttl_ms: int | None = None,
        grace_ms: int = 0,
        pipeline: int | None = None,
    ) -> Deferred[int | None]:
        tags = self._check(key, value, tags) or self.limits.tags_of(key)
        ttl_ms = self.limits.effective_ttl_ms(ttl_ms)
        stored = self._change(key, pipeline, scripts.PUT, value, _ttl(ttl_ms), grace_ms, *tags)

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
        pipeline: int | None = None,
    ) -> Deferred[bool]:
        tags = self._check(key, value, tags) or self.limits.tags_of(key)
        ttl_ms = self.limits.effective_ttl_ms(ttl_ms)
        added = self._change(key, pipeline, scripts.ADD, value, _ttl(ttl_ms), *tags)

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
        pipeline: int | None = None,
    ) -> Deferred[int]:
        check_integer(by)
        limits = self.limits
        given = self._check(key, b"", tags)
        # Without given tags, an existing entry keeps its own; the tag rules apply to a new one.
        created, tags = (b"", given) if given else (b"1", limits.tags_of(key))
        ttls = _ttl(ttl_ms or None), _ttl(limits.effective_ttl_ms(None))
        counted = self._change(
            key, pipeline, scripts.INCR, b"%d" % by, *ttls, limits.max_value_length, created, *tags
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
        self, key: bytes, ttl_ms: int | None = None, pipeline: int | None = None
    ) -> Deferred[bool]:
        ttl = _ttl(self.limits.effective_ttl_ms(ttl_ms))
        return self._change(key, pipeline, scripts.TOUCH, ttl).addCallback(bool)

    def delete(self, key: bytes, pipeline: int | None = None) -> Deferred[bool]:
        return (
            self._change(key, pipeline, scripts.DELETE)
            .addCallback(self._count_removed)
            .addCallback(bool)
        )

    @as_deferred
    async def invalidate_any(self, tags: Collection[bytes], soft: bool = False) -> int:
        names = list(dict.fromkeys(tags))
        removed = 0
        for some in chunks(names, _TAGS_AT_ONCE):
            removed += await self._invalidate(b"any", some, soft)
        return removed

    @as_deferred
    async def invalidate_all(self, tags: Collection[bytes], soft: bool = False) -> int:
        names = list(dict.fromkeys(tags))
        if not names:
            return 0
        # A single tag needs no search for combinations.
        return await self._invalidate(b"any" if len(names) == 1 else b"all", names, soft)

    def _invalidate(self, kind: bytes, tags: Sequence[bytes], soft: bool) -> Deferred[int]:
        near = self._near
        if near is None:
            return to_the_end(self._invalidate_there(kind, tags, soft))
        # With "all", each entry has all of the tags, so holding one of them is enough.
        some = tags if kind == b"any" else tags[:1]
        near.hold_tags(some)
        work = self._invalidate_there(kind, tags, soft).addBoth(afterwards, near.release_tags, some)
        return to_the_end(work)

    @as_deferred
    async def _invalidate_there(self, kind: bytes, tags: Sequence[bytes], soft: bool) -> int:
        removed, keys = await self._invalidations.invalidate(kind, tags, soft)
        self.invalidations += removed
        if len(tags) == 1 and removed:
            self._activity.invalidated(tags[0], keys, removed, self._monotonic())
        return removed

    def invalidate_keys(self, keys: Collection[bytes], soft: bool = False) -> Deferred[int]:
        script = scripts.SOFTEN if soft else scripts.DELETE
        by_root: dict[str, list[bytes]] = {}
        for key in dict.fromkeys(keys):
            by_root.setdefault(self._partitions.root(key), []).append(key)
        return together(
            [
                self._remove_some(root, script, some)
                for root, there in by_root.items()
                for some in chunks(there, self._partitions.keys_at_once)
            ]
        ).addCallback(lambda counts: self._count_removed(sum(counts)))

    def _remove_some(self, root: str, script: Script, keys: Sequence[bytes]) -> Deferred[int]:
        near = self._near
        if near is None:
            return self._partitions.call(root, script, *keys)
        for key in keys:
            near.hold(key)

        def release(keys: Sequence[bytes]) -> None:
            for key in keys:
                near.release(key)

        return self._partitions.call(root, script, *keys).addBoth(afterwards, release, keys)

    def _count_removed(self, number: int) -> int:
        self.invalidations += number
        return number

    def flush(self) -> Deferred[int]:
        near = self._near
        if near is None:
            return self._flush_there()
        near.hold_all()
        return self._flush_there().addBoth(afterwards, lambda _: near.release_all(), None)

    @as_deferred
    async def _flush_there(self) -> int:
        removed = await together(self._flush(root) for root in self._partitions.roots)
        return self._count_removed(sum(removed))

    @as_deferred
    async def _flush(self, root: str) -> int:
        removed: int
        for _ in range(_FLUSH_ROUNDS):
            removed = await self._partitions.call(root, scripts.FLUSH, b"")
            if removed >= 0:
                return removed
            await self._invalidations.count_in(root)
        removed = await self._partitions.call(root, scripts.FLUSH, b"now")
        return removed

    def settle(self) -> Deferred[Any]:
        return self._invalidations.settle()

    def check_layout(self) -> Deferred[None]:
        return self._partitions.check_layout()

    def elect(self, token: int, milliseconds: int, report: bytes) -> Deferred[Any]:
        """Call ELECT, in the first partition."""
        first = self._partitions.roots[0]
        return self._partitions.call_later(first, scripts.ELECT, token, milliseconds, report)

    @as_deferred
    async def reclaim(self) -> None:
        """Free the memory of flushed entries."""
        partitions = self._partitions
        for root in partitions.roots:
            while await partitions.call_later(root, scripts.RECLAIM, partitions.at_once):
                pass

    @as_deferred
    async def totals(self) -> EngineTotals:
        await self._invalidations.count_all()
        await self.send_counts()
        return await self._sum(await self._partitions.call_everywhere(scripts.TOTALS), True)

    @as_deferred
    async def keep_up(self, list_tags: bool) -> EngineTotals:
        """Remove all that is expired, invalidated or flushed, and return the totals.

        In a cluster, the number of tags is that of the last call with ``list_tags``.
        """
        each = await self._invalidations.settle()
        if any(map(has_work, each)):
            await self.reclaim()
        # An idle cluster has the same tags as before.
        list_tags = list_tags and each != self._listed
        if list_tags:
            self._listed = each
        return await self._sum(each, list_tags)

    async def _sum(self, each: list[Any], list_tags: bool) -> EngineTotals:
        if len(each) == 1:
            self._tags_seen = each[0][1]
        elif list_tags:
            # A tag may be in many partitions, so count distinct names.
            self._tags_seen = len(await self.listing.tags(b""))
        items, _, size, backlog = (sum(answer[n] for answer in each) for n in range(4))
        self.fresh.out, self.fresh.stale = (sum(answer[n] for answer in each) for n in (6, 7))
        counters = _counters(answer[4] for answer in each)
        return EngineTotals(items, self._tags_seen, size, backlog, 0, 0, counters)

    @as_deferred
    async def counters(self) -> Counters:
        await self.send_counts()
        each = await self._partitions.call_everywhere(scripts.COUNTS, 0, 0, 0)
        return _counters(each)

    def send_counts(self) -> Deferred[Any]:
        """Add the counts of this server to those of all servers in Redis.

        They are there afterwards, whoever sends them.
        """
        return self._sending.run(self._send_counts)

    def _send_counts(self) -> Deferred[Any]:
        now, before = (self.hits, self.misses, self.puts), self._sent
        if now == before:
            return succeed(None)
        new = [a - b for a, b in zip(now, before, strict=True)]
        self._sent = now

        def take_back(reason: Failure) -> Failure:
            hits, misses, puts = self._sent
            self._sent = (hits - new[0], misses - new[1], puts - new[2])
            return reason

        first = self._partitions.roots[0]
        return self._partitions.call(first, scripts.COUNTS, *new).addErrback(take_back)

    def count_look_up(self, key: bytes, tags: Sequence[bytes] | None) -> None:
        """Count a hit on an entry with these tags, or a miss (None)."""
        if tags is None:
            self.misses += 1
            self._next_question = 0
            self._activity.missed(key)
            return
        self.hits += 1
        if self.hits >= self._next_sample:
            self._next_sample = self._activity.sample(self.hits, tags)

    def count_hit(self) -> None:
        """Count a hit on an entry whose tags were not asked for."""
        self.hits += 1

    def count_changes(self, stored: Collection[bytes], removed: int) -> None:
        """Count the keys that were stored, and the entries that were removed."""
        self.puts += len(stored)
        for key in stored:
            self._activity.stored(key)
        self._count_removed(removed)

    def activity(self, tag: bytes) -> TagActivity:
        return self._activity.of(tag)

    def _looked_up(self, found: Any, key: bytes) -> bytes | None:
        if isinstance(found, bytes):
            self.hits += 1
            return found
        if found is None:
            self.count_look_up(key, None)
            return None
        value, _, tags = found
        self.count_look_up(key, tags)
        return bytes(value)

    def _change(
        self, key: bytes, pipeline: int | None, script: Script, *arguments: Any
    ) -> Deferred[Any]:
        """Call a script that changes an entry, and keep the near cache coherent."""
        near = self._near
        if near is None:
            return self._partitions.call_for(key, pipeline, script, *arguments)
        near.hold(key)
        changed = self._partitions.call_for(key, pipeline, script, *arguments)
        return changed.addBoth(afterwards, near.release, key)

    def _check(self, key: bytes, value: bytes, tags: Collection[bytes]) -> tuple[bytes, ...]:
        check_lengths(self.limits, key, value)
        return check_tags(self.limits, tags)


def _ttl(ttl_ms: int | None) -> bytes:
    return b"" if ttl_ms is None else b"%d" % ttl_ms


def _counters(each: Iterable[list[bytes]]) -> Counters:
    """Add up the counts of partitions; each is a list of alternating names and numbers."""
    counts: dict[bytes, int] = {}
    for pairs in each:
        for name, number in zip(pairs[::2], pairs[1::2], strict=True):
            counts[name] = counts.get(name, 0) + int(number)
    return Counters(*(counts.get(kind, 0) for kind in _COUNTED))
