"""The cache in Redis: one partition on a single server, many in a cluster.

All names of a partition share a hash tag, and so a slot: whatever concerns one key, its value,
the record of it and what became of its tags, is done by one script in one round trip. What
concerns a tag goes to every partition.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from itertools import count
from typing import Any
from uuid import uuid4
from zlib import crc32

from twisted.internet.defer import (
    Deferred,
    DeferredList,
    DeferredSemaphore,
    FirstError,
    fail,
    gatherResults,
    inlineCallbacks,
    succeed,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tagcache.engine import int64
from tagcache.engine.activity import Activity, TagActivity
from tagcache.engine.consistency import MOST_FAULTS, Consistency
from tagcache.engine.limits import Limits
from tagcache.engine.statistics import Counters
from tagcache.errors import (
    BackendUnavailable,
    CommandError,
    IntegerOverflow,
    KeyTooLong,
    NotAnInteger,
    TagTooLong,
    TooManyTags,
    ValueTooLarge,
)
from tagcache.interfaces import IRemoteCache, RemoteTotals
from tagcache.remote import scripts
from tagcache.remote.entry import Miss, RemoteEntry
from tagcache.remote.lanes import Lane
from tagcache.remote.near import Near
from tagcache.remote.scripts import Script

# What a script does in one go: Redis serves nobody else meanwhile.
AT_ONCE = 100
_PAGE = 500
_TAGS_AT_ONCE = 4000
_KEYS_AT_ONCE = 200
# Generations that are kept of tags and of keys, in all partitions together.
_GENERATIONS = 200_000
_SETTLE_ROUNDS = 1000
# Which invalidations have to be gone through for numbers to be exact.
_UNCOUNTED = b"uncounted"
# Invalidations of a server that a cluster may have to note at the same time: each makes look-ups
# a little slower.
_INVALIDATIONS_AT_ONCE = 8
# One that was begun this long ago has lost its server.
_STUCK_MS = 5000
# How long the word that an invalidation has happened is kept, if its server can not take it back.
_COMMIT_KEPT_MS = 3_600_000

_Work = Generator[Deferred[Any], Any, Any]


@implementer(IRemoteCache)
class RedisCache:
    """An IRemoteCache; ``prefix`` begins all names, ``partitions`` is how many there are."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        prefix: str,
        partitions: int,
        limits: Limits,
        activity: Activity,
        monotonic: Callable[[], float],
        near: Near | None = None,
        background: Lane | None = None,
        new_id: Callable[[], bytes] = lambda: uuid4().hex.encode(),
    ) -> None:
        self.limits = limits
        self._near = near
        # What nobody waits for must not be in the way of what somebody does.
        self._background = background or lanes[0]
        self._lanes = lanes
        self._roots = [f"{prefix}{{{number}}}:" for number in range(partitions)]
        if partitions == 1:
            self._roots = [f"{prefix}{{all}}:"]
        self._activity = activity
        self._monotonic = monotonic
        self._new_id = new_id
        self._turns = count()
        self._turns_to_invalidate = DeferredSemaphore(_INVALIDATIONS_AT_ONCE)
        # Counts those that failed.
        self._failed_to_invalidate = 0
        self._next_sample = 0
        self.hits = 0
        self.misses = 0
        self.puts = 0
        self.invalidations = 0
        # What of these the engine knows.
        self._told = (0, 0, 0)
        self._tags_seen = 0

    def get_near(self, key: bytes) -> bytes | None:
        value = None if self._near is None else self._near.get(key)
        if value is not None:
            self.hits += 1
        return value

    def get(self, key: bytes, lane: int | None = None) -> Deferred[bytes | Miss]:
        near = self._near
        if near is not None and near.is_fresh:
            begun = near.begin(key)
            found = self._of(key, lane, scripts.GET, key, b"1")
            return found.addCallbacks(
                self._kept, self._not_kept, (near, key, begun), errbackArgs=(near, key)
            )
        # To tell more costs more.
        more = () if self.hits < self._next_sample else (b"1",)
        found = self._of(key, lane, scripts.GET, key, *more)
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

    def get_many(self, keys: Collection[bytes]) -> Deferred[list[bytes | Miss]]:
        return gatherResults([self.get(key) for key in keys], consumeErrors=True).addErrback(_first)

    def peek_many(self, keys: Sequence[bytes]) -> Deferred[list[RemoteEntry | None]]:
        by_root: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            by_root.setdefault(self._root(key), []).append(number)
        found: list[RemoteEntry | None] = [None] * len(keys)
        calls = []
        for root, numbers in by_root.items():
            for some in _chunks(numbers, _KEYS_AT_ONCE):
                call = self._call(root, scripts.PEEK, *(keys[number] for number in some))
                calls.append(call.addCallback(self._place, found, some))
        return _all(calls).addCallback(lambda _: found)

    @inlineCallbacks
    def _place(
        self, rows: list[Any], found: list[RemoteEntry | None], numbers: Sequence[int]
    ) -> _Work:
        for number, row in zip(numbers, rows, strict=True):
            if row and not (row[2] and (yield self._has_happened(row[2]))):
                found[number] = _entry(*row[:2])

    def peek(self, key: bytes) -> Deferred[RemoteEntry | None]:
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
            self.puts += stored
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
        if not int64.MIN <= by <= int64.MAX:
            raise IntegerOverflow
        tags = self._check(key, b"%d" % by, tags)
        default = _ttl(self.limits.default_ttl_ms or None)
        counted = self._change(
            key, lane, scripts.INCR, b"%d" % by, _ttl(ttl_ms or None), default, *tags
        )

        def conclude(result: bytes | list[bytes]) -> int:
            if isinstance(result, list):
                self.puts += 1
                return int(result[0])
            raise IntegerOverflow if result == b"overflow" else NotAnInteger

        return counted.addCallback(conclude)

    def decrement(
        self,
        key: bytes,
        by: int = 1,
        tags: Collection[bytes] = (),
        ttl_ms: int | None = None,
        lane: int | None = None,
    ) -> Deferred[int]:
        return self.increment(key, -by, tags, ttl_ms, lane)

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

    def invalidate_tag(self, tag: bytes) -> Deferred[int]:
        return self.invalidate_any([tag])

    @inlineCallbacks
    def invalidate_any(self, tags: Collection[bytes]) -> _Work:
        names = list(dict.fromkeys(tags))
        removed = 0
        for some in _chunks(names, _TAGS_AT_ONCE):
            removed += yield self._invalidate(b"any", some)
        return removed

    @inlineCallbacks
    def invalidate_all(self, tags: Collection[bytes]) -> _Work:
        names = list(dict.fromkeys(tags))
        if not names:
            return 0
        # One tag needs no note of a combination.
        removed = yield self._invalidate(b"any" if len(names) == 1 else b"all", names)
        return removed

    def _invalidate(self, kind: bytes, tags: Sequence[bytes]) -> Deferred[int]:
        near = self._near
        if near is None:
            return _to_the_end(self._invalidate_there(kind, tags))
        # Of a combination of tags, each of which an entry has, any one will do.
        some = tags if kind == b"any" else tags[:1]
        near.hold_tags(some)
        work = self._invalidate_there(kind, tags).addBoth(_after, near.release_tags, some)
        return _to_the_end(work)

    @inlineCallbacks
    def _invalidate_there(self, kind: bytes, tags: Sequence[bytes]) -> _Work:
        if len(self._roots) == 1:
            answer = yield self._call(self._roots[0], scripts.INVALIDATE, AT_ONCE, kind, *tags)
            removed = yield self._carried_out({self._roots[0]: answer})
            keys = answer[3]
        else:
            removed, keys = yield self._turns_to_invalidate.run(
                self._in_turn, kind, tags, self._failed_to_invalidate
            )
        self.invalidations += removed
        if len(tags) == 1 and removed:
            self._activity.invalidated(tags[0], keys, removed, self._monotonic())
        return removed

    def _in_turn(
        self, kind: bytes, tags: Sequence[bytes], failed: int
    ) -> Deferred[tuple[int, list[bytes]]]:
        # Where one has just failed in vain, those behind it would only wait as long, each.
        if self._failed_to_invalidate != failed:
            return fail(BackendUnavailable("an invalidation before this failed"))
        return self._at_one_moment(kind, tags)

    @inlineCallbacks
    def _at_one_moment(
        self, kind: bytes, tags: Sequence[bytes], id: bytes | None = None
    ) -> Generator[Deferred[Any], Any, tuple[int, list[bytes]]]:
        """Invalidate in all partitions, so that look-ups see it happen at one moment.

        First every partition takes note of it; then the one that ``id`` belongs to notes that it
        has happened: look-ups that meet the first note ask there. Then each removes what it has.
        An ``id`` that is given is of an invalidation that somebody began.
        """
        try:
            happened = False
            if id is None:
                id = self._new_id()
            else:
                happened = yield self._call(self._root(id), scripts.COMMITTED, id)
            carried = [1] * len(self._roots)
            if not happened:
                noted = [self._call(root, scripts.PREPARE, id, kind, *tags) for root in self._roots]
                # Also where one has failed: what comes next must not overtake the others.
                yield DeferredList(noted)
                carried = yield _all(noted)
            roots = [root for root, some in zip(self._roots, carried, strict=True) if some]
            # In one partition alone, it happens when it is removed.
            if len(roots) > 1:
                yield self._call(self._root(id), scripts.COMMIT, id, _COMMIT_KEPT_MS)
        except CommandError:
            self._failed_to_invalidate += 1
            # Whoever asked is told at once that it may have been carried out in part.
            for root in self._roots:
                finished = self._call(root, scripts.FINISH, AT_ONCE, id)
                finished.addErrback(Failure.trap, CommandError)
            raise
        answers = yield _all([self._call(root, scripts.FINISH, AT_ONCE, id) for root in roots])
        if len(roots) > 1:
            forgotten = self._call(self._root(id), scripts.COMMIT, id, self._forget_after_ms())
            forgotten.addErrback(lambda _: None)
        removed = yield self._carried_out(dict(zip(roots, answers, strict=True)))
        return removed, [key for answer in answers for key in answer[3]]

    def _forget_after_ms(self) -> int:
        """How long somebody may still ask whether an invalidation has happened."""
        return int(2000 * max(lane.timeout for lane in self._lanes)) + 1000

    @inlineCallbacks
    def _carried_out(self, answers: Mapping[str, Any]) -> _Work:
        """Remove what an invalidation left to be removed; returns how many entries it had."""
        works = []
        removed = 0
        for root, (some, at, names, _) in answers.items():
            removed += some
            if names:
                for name in names:
                    buried = self._bury(root, name)
                    if name.endswith(b":c"):
                        # They are counted; should this fail, the upkeep goes on with it.
                        buried.addErrback(Failure.trap, CommandError)
                    else:
                        works.append(buried)
            elif at:
                works.append(self._bury_all(root, b"%d" % at))
        return removed + sum((yield _all(works)))

    @inlineCallbacks
    def _bury(self, root: str, name: bytes) -> _Work:
        """Remove what ceased to exist with this set; returns how many entries that were."""
        removed, left = 0, 1
        while left:
            some, left = yield self._later(root, scripts.BURY, AT_ONCE, name)
            removed += some
        return removed

    @inlineCallbacks
    def _bury_all(self, root: str, number: bytes) -> _Work:
        removed, cursor = 0, b"0"
        while True:
            some, cursor, number = yield self._later(
                root, scripts.BURY_ALL, AT_ONCE, number, cursor
            )
            removed += some
            if cursor == b"0":
                return removed

    def invalidate_keys(self, keys: Collection[bytes]) -> Deferred[int]:
        by_root: dict[str, list[bytes]] = {}
        for key in dict.fromkeys(keys):
            by_root.setdefault(self._root(key), []).append(key)
        return _all(
            [
                self._delete_some(root, some)
                for root, there in by_root.items()
                for some in _chunks(there, _KEYS_AT_ONCE)
            ]
        ).addCallback(lambda counts: self._count_removed(sum(counts)))

    def _delete_some(self, root: str, keys: Sequence[bytes]) -> Deferred[int]:
        near = self._near
        if near is None:
            return self._call(root, scripts.DELETE, *keys)
        for key in keys:
            near.hold(key)

        def release(keys: Sequence[bytes]) -> None:
            for key in keys:
                near.release(key)

        return self._call(root, scripts.DELETE, *keys).addBoth(_after, release, keys)

    def _count_removed(self, number: int) -> int:
        self.invalidations += number
        return number

    @inlineCallbacks
    def keys_by_tag(self, tag: bytes) -> _Work:
        found = yield self.search([tag])
        return [entry.key for entry in found]

    @inlineCallbacks
    def search(
        self, tags: Sequence[bytes], every: bool = False, offset: int = 0, limit: int | None = None
    ) -> _Work:
        found: dict[bytes, RemoteEntry] = {}
        most = None if limit is None else offset + limit
        queries = [list(tags)] if every and tags else [[tag] for tag in dict.fromkeys(tags)]
        for query in queries:
            for rows in (yield _all([self._members(root, query, most) for root in self._roots])):
                for row in rows:
                    found.setdefault(row[0], _entry(row))
            if most is not None and len(found) >= most:
                break
        return list(found.values())[offset:most]

    @inlineCallbacks
    def count(self, tags: Sequence[bytes], every: bool = False) -> _Work:
        names = list(dict.fromkeys(tags))
        if len(names) == 1:
            counts = yield self._everywhere(scripts.COUNT, names[0])
            if -1 not in counts:
                return sum(counts)
        found = yield self.search(names, every)
        return len(found)

    @inlineCallbacks
    def _members(self, root: str, query: list[bytes], most: int | None) -> _Work:
        """Return rows of what carries all tags of the query, each once, and little more than
        ``most``."""
        found: dict[bytes, Any] = {}
        cursor = b"0"
        while most is None or len(found) < most:
            cursor, rows = yield self._call(root, scripts.MEMBERS, _PAGE, cursor, *query)
            for row in rows:
                found.setdefault(row[0], row)
            if cursor == b"0":
                break
        return list(found.values())

    @inlineCallbacks
    def newest(self, prefix: bytes, offset: int, limit: int) -> _Work:
        each = yield _all([self._newest(root, prefix, offset + limit) for root in self._roots])
        merged = heapq.merge(*each, key=lambda entry: -entry.stored_us)
        return list(merged)[offset : offset + limit]

    @inlineCallbacks
    def _newest(self, root: str, prefix: bytes, most: int) -> _Work:
        found: list[RemoteEntry] = []
        before = b"+inf"
        while before and len(found) < most:
            before, rows = yield self._call(root, scripts.NEWEST, _PAGE, before, prefix)
            found += map(_entry, rows)
        return found[:most]

    @inlineCallbacks
    def tags(self, prefix: bytes) -> _Work:
        yield self.settle()
        each = yield _all([self._tags(root, prefix) for root in self._roots])
        sizes: dict[bytes, tuple[int, int]] = {}
        for found in each:
            for tag, (keys, size) in found.items():
                before = sizes.get(tag, (0, 0))
                sizes[tag] = (before[0] + keys, before[1] + size)
        return [(tag, keys, size) for tag, (keys, size) in sizes.items()]

    @inlineCallbacks
    def _tags(self, root: str, prefix: bytes) -> _Work:
        found: dict[bytes, tuple[int, int]] = {}
        cursor = b"0"
        while True:
            cursor, rows = yield self._call(root, scripts.TAGS, _PAGE, cursor, prefix)
            for tag, keys, size in rows:
                found[tag] = (keys, size)
            if cursor == b"0":
                return found

    @inlineCallbacks
    def top_tags(self, count: int = 20) -> _Work:
        found = yield self.tags(b"")
        largest = heapq.nlargest(count, ((keys, tag) for tag, keys, _ in found))
        return [(tag, keys) for keys, tag in largest]

    def flush(self) -> Deferred[int]:
        near = self._near
        if near is None:
            return self._flush_there()
        near.hold_all()
        return self._flush_there().addBoth(_after, lambda _: near.release_all(), None)

    @inlineCallbacks
    def _flush_there(self) -> _Work:
        removed = yield _all([self._flush(root) for root in self._roots])
        return self._count_removed(sum(removed))

    @inlineCallbacks
    def _flush(self, root: str) -> _Work:
        for _ in range(_SETTLE_ROUNDS):
            removed = yield self._call(root, scripts.FLUSH, b"")
            if removed >= 0:
                return removed
            yield self._settle(root, _UNCOUNTED)
        removed = yield self._call(root, scripts.FLUSH, b"now")
        return removed

    @inlineCallbacks
    def settle(self) -> _Work:
        """Remove what has expired or was invalidated up to now."""
        each = yield _all([self._settle(root) for root in self._roots])
        stuck = {id: (kind, tags) for found in each for id, kind, tags in found}
        for id, (kind, tags) in stuck.items():
            yield self._at_one_moment(kind, tags, id)

    @inlineCallbacks
    def _settle(self, root: str, which: bytes = b"any") -> _Work:
        stuck: list[Any] = []
        kept = _GENERATIONS // len(self._roots)
        stuck_ms = max(_STUCK_MS, self._forget_after_ms())
        for _ in range(_SETTLE_ROUNDS):
            swept, stuck, more = yield self._later(root, scripts.SWEEP, AT_ONCE, kept, stuck_ms)
            if swept < AT_ONCE and not more:
                break
        for _ in range(_SETTLE_ROUNDS):
            _, left = yield self._later(root, scripts.BURY, AT_ONCE, b"", which)
            if not left:
                break
        number, cursor = b"", b"0"
        while True:
            _, cursor, number = yield self._later(
                root, scripts.BURY_ALL, AT_ONCE, number, cursor, b"help"
            )
            if cursor == b"0":
                break
        return stuck

    @inlineCallbacks
    def reclaim(self) -> _Work:
        """Give back the memory of what was flushed."""
        for root in self._roots:
            while (yield self._later(root, scripts.RECLAIM, AT_ONCE)):
                pass

    @inlineCallbacks
    def totals(self) -> _Work:
        yield _all([self._settle(root, _UNCOUNTED) for root in self._roots])
        yield self.tell_counts()
        totals = yield self.held(True)
        return totals

    @inlineCallbacks
    def held(self, name_tags: bool) -> _Work:
        each = yield self._everywhere(scripts.TOTALS)
        if len(self._roots) == 1:
            self._tags_seen = each[0][1]
        elif name_tags:
            # One tag may be in many partitions.
            named = yield _all([self._tags(root, b"") for root in self._roots])
            self._tags_seen = len(set().union(*named))
        items, _, size, backlog = (sum(answer[n] for answer in each) for n in range(4))
        counts: dict[bytes, int] = {}
        for answer in each:
            names = iter(answer[4])
            for name in names:
                counts[name] = counts.get(name, 0) + int(next(names))
        kinds = ("hits", "misses", "puts", "invalidations", "expirations", "evictions")
        counters = Counters(*(counts.get(kind.encode(), 0) for kind in kinds))
        return RemoteTotals(items, self._tags_seen, size, backlog, counters)

    @inlineCallbacks
    def counters(self) -> _Work:
        yield self.tell_counts()
        each = yield self._everywhere(scripts.COUNTS, 0, 0, 0)
        counts: dict[bytes, int] = {}
        for answer in each:
            names = iter(answer)
            for name in names:
                counts[name] = counts.get(name, 0) + int(next(names))
        kinds = ("hits", "misses", "puts", "invalidations", "expirations", "evictions")
        return Counters(*(counts.get(kind.encode(), 0) for kind in kinds))

    @inlineCallbacks
    def check(self) -> _Work:
        faults: list[str] = []
        entries = 0
        tags: set[bytes] = set()
        for root in self._roots:
            there = yield self._tags(root, b"")
            tags |= set(there)
            for what, tag in ((b"entries", b""), *((b"tags", tag) for tag in there)):
                cursor = None
                while cursor != b"0":
                    cursor, looked, found = yield self._call(
                        root, scripts.CHECK, _PAGE, what, tag, cursor or b"0"
                    )
                    entries += looked
                    pairs = zip(found[::2], found[1::2], strict=True)
                    faults += [f"{key!r}: {word.decode()}" for key, word in pairs]
        return Consistency(entries, len(tags), tuple(faults[:MOST_FAULTS]), len(faults))

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

        return self._call(self._roots[0], scripts.COUNTS, *new).addErrback(take_back)

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
            return self._has_happened(pending).addCallback(
                lambda gone: self._looked_up(number if gone else value, key)
            )
        self.hits += 1
        if self.hits >= self._next_sample:
            self._next_sample = self._activity.sample(self.hits, tags)
        return bytes(value)

    def _has_happened(self, ids: Sequence[bytes]) -> Deferred[bool]:
        """Say whether one of these invalidations, which wait in a partition, has happened."""
        asked = [self._call(self._root(id), scripts.COMMITTED, id) for id in ids]
        return _all(asked).addCallback(any)

    def _root(self, key: bytes) -> str:
        roots = self._roots
        return roots[0] if len(roots) == 1 else roots[crc32(key) % len(roots)]

    def _of(self, key: bytes, lane: int | None, script: Script, *arguments: Any) -> Deferred[Any]:
        number = crc32(key) if lane is None else lane
        return self._lanes[number % len(self._lanes)].call(script, self._root(key), *arguments)

    def _change(
        self, key: bytes, lane: int | None, script: Script, *arguments: Any
    ) -> Deferred[Any]:
        """Do as ``_of`` for what changes the entry, so that nothing near contradicts it."""
        near = self._near
        if near is None:
            return self._of(key, lane, script, key, *arguments)
        near.hold(key)
        return self._of(key, lane, script, key, *arguments).addBoth(_after, near.release, key)

    def _call(self, root: str, script: Script, *arguments: Any) -> Deferred[Any]:
        lane = self._lanes[next(self._turns) % len(self._lanes)]
        return lane.call(script, root, *arguments)

    def _later(self, root: str, script: Script, *arguments: Any) -> Deferred[Any]:
        """Call for what nobody, or nobody in a hurry, waits for."""
        return self._background.call(script, root, *arguments)

    def _everywhere(self, script: Script, *arguments: Any) -> Deferred[list[Any]]:
        return _all([self._call(root, script, *arguments) for root in self._roots])

    def _check(self, key: bytes, value: bytes, tags: Collection[bytes]) -> list[bytes]:
        limits = self.limits
        if len(key) > limits.max_key_length:
            raise KeyTooLong(f"the key has {len(key)} bytes, the limit is {limits.max_key_length}")
        if len(value) > limits.max_value_length:
            raise ValueTooLarge(
                f"the value has {len(value)} bytes, the limit is {limits.max_value_length}"
            )
        checked = list(dict.fromkeys(tags))
        if len(checked) > limits.max_tags_per_entry:
            raise TooManyTags(f"{len(checked)} tags, the limit is {limits.max_tags_per_entry}")
        for tag in checked:
            if len(tag) > limits.max_tag_length:
                raise TagTooLong(
                    f"a tag has {len(tag)} bytes, the limit is {limits.max_tag_length}"
                )
        return checked


def _after(result: Any, release: Callable[[Any], None], held: Any) -> Any:
    release(held)
    return result


def _to_the_end(work: Deferred[Any]) -> Deferred[Any]:
    """Return a Deferred of the same result that can be cancelled without stopping the work."""
    told: Deferred[Any] = Deferred()

    def tell(result: Any) -> None:
        if not told.called:
            told.callback(result)

    work.addBoth(tell)
    return told


def _ttl(ttl_ms: int | None) -> bytes:
    return b"" if ttl_ms is None else b"%d" % ttl_ms


def _entry(row: list[Any], value: bytes | None = None) -> RemoteEntry:
    key, stored_us, left, ttl, size, tags = row
    return RemoteEntry(
        key,
        value,
        tuple(tags),
        size,
        int(stored_us),
        int(left) if left else None,
        int(ttl) if ttl else None,
    )


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _all(calls: list[Deferred[Any]]) -> Deferred[list[Any]]:
    return gatherResults(calls, consumeErrors=True).addErrback(_first)


def _first(reason: Failure) -> Failure:
    """Return the failure itself of those that were waited for together."""
    error = reason.value
    return error.subFailure if isinstance(error, FirstError) else reason
