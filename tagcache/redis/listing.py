"""List entries and tags from all partitions."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from tagcache.model.int64 import UINT64_MAX
from tagcache.model.views import MOST_FAULTS, Consistency, EntryView
from tagcache.redis import scripts
from tagcache.redis.deferreds import as_deferred, together
from tagcache.redis.partitions import Partitions, chunks

# The page size is divided by the number of partitions, but at most by this.
_MOST_SHARES = 16
# How many entries to look at for a random live one, in each partition.
_SAMPLE = 100


class _Newest:
    """The entries of a partition in pages of rows, the last stored entry first.

    ``before`` is the cursor of the next page, empty at the end.
    """

    __slots__ = ("before", "root", "rows")

    def __init__(self, root: str) -> None:
        self.root = root
        self.before = b"+inf"
        self.rows: deque[list[Any]] = deque()

    def stored(self) -> int:
        """Return the negated time at which the first row was stored, for a heap."""
        return -int(self.rows[0][1])


class Listing:
    """Reads many entries. IEngine documents the methods with the same names."""

    def __init__(self, partitions: Partitions, random: Random) -> None:
        self._partitions = partitions
        self._random = random

    def peek_many(self, keys: Sequence[bytes]) -> Deferred[list[EntryView | None]]:
        partitions = self._partitions
        by_root: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            by_root.setdefault(partitions.root(key), []).append(number)
        found: list[EntryView | None] = [None] * len(keys)
        calls = []
        for root, numbers in by_root.items():
            for some in chunks(numbers, partitions.keys_at_once):
                call = partitions.call(root, scripts.PEEK, *(keys[number] for number in some))
                calls.append(call.addCallback(self._place, found, some))
        return together(calls).addCallback(lambda _: found)

    @as_deferred
    async def search(
        self, tags: Sequence[bytes], every: bool, offset: int, limit: int | None
    ) -> list[EntryView]:
        names = list(dict.fromkeys(tags))
        if every and names:
            queries = [(names, names[:0])]
        else:
            queries = [([tag], names[:number]) for number, tag in enumerate(names)]
        found: dict[bytes, EntryView] = {}
        skip = offset
        for query, others in queries:
            if offset:
                skip = await self._skip_and_find(query, others, skip, limit, found)
            else:
                each = [self._members(root, query, limit) for root in self._partitions.roots]
                for rows in await together(each):
                    for row in rows:
                        found.setdefault(row[0], _entry(row))
            if limit is not None and len(found) >= limit:
                break
        return list(found.values())[:limit]

    @as_deferred
    async def count(self, tags: Sequence[bytes], every: bool) -> int:
        names = list(dict.fromkeys(tags))
        if len(names) == 1:
            counts = await self._partitions.call_everywhere(scripts.COUNT, names[0])
            if -1 not in counts:
                return sum(counts)
        return len(await self.search(names, every, 0, None))

    @as_deferred
    async def newest(self, prefix: bytes, offset: int, limit: int) -> list[EntryView]:
        each = [_Newest(root) for root in self._partitions.roots]
        page = max(self._partitions.page // min(len(each), _MOST_SHARES), 1)
        found: list[EntryView] = []
        # The partitions that have rows left, by the time of their first row.
        heap: list[tuple[int, int]] = []
        while len(found) < limit:
            if any(not those.rows and those.before for those in each):
                few = [those for those in each if those.before and len(those.rows) <= page // 2]
                # With several partitions, only the merge shows which entries to skip.
                skip = offset if len(each) == 1 else 0
                offset -= sum(await together(self._read_on(it, page, prefix, skip) for it in few))
                heap = [(those.stored(), n) for n, those in enumerate(each) if those.rows]
                heapq.heapify(heap)
                continue
            if not heap:
                break
            number = heap[0][1]
            row = each[number].rows.popleft()
            if each[number].rows:
                heapq.heapreplace(heap, (each[number].stored(), number))
            else:
                heapq.heappop(heap)
            if offset:
                offset -= 1
            else:
                found.append(_entry(row))
        return found

    @as_deferred
    async def scan_keys(
        self, cursor: int, count: int | None, wanted: Callable[[bytes], bool] | None
    ) -> tuple[int, list[bytes]]:
        partitions = self._partitions
        # Redis's cursor within a partition, and the number of the partition.
        within, number = divmod(cursor, len(partitions))
        found: dict[bytes, None] = {}
        left = math.inf if count is None else count
        # Redis never returns such a cursor, and would refuse it: end the scan.
        if within > UINT64_MAX:
            number = len(partitions)
        while number < len(partitions) and left > 0:
            most = int(min(left, partitions.page))
            following, looked, keys = await partitions.call(
                partitions.roots[number], scripts.KEYS, most, within
            )
            found.update(dict.fromkeys(filter(wanted, keys) if wanted else keys))
            left -= looked
            within = int(following)
            number += not within
        at_end = number == len(partitions)
        return (0 if at_end else within * len(partitions) + number), list(found)

    @as_deferred
    async def random_key(self) -> bytes | None:
        roots = self._partitions.roots
        for root in self._random.sample(roots, len(roots)):
            key: bytes | None = await self._partitions.call(root, scripts.RANDOM_KEY, _SAMPLE)
            if key is not None:
                return key
        return None

    @as_deferred
    async def tags(self, prefix: bytes) -> list[tuple[bytes, int, int]]:
        each = await together(self._tags(root, prefix) for root in self._partitions.roots)
        sizes: dict[bytes, tuple[int, int]] = {}
        for found in each:
            for tag, (keys, size) in found.items():
                before = sizes.get(tag, (0, 0))
                sizes[tag] = (before[0] + keys, before[1] + size)
        return [(tag, keys, size) for tag, (keys, size) in sizes.items()]

    @as_deferred
    async def check(self) -> Consistency:
        faults: list[str] = []
        entries = 0
        tags: set[bytes] = set()
        for root in self._partitions.roots:
            there = await self._tags(root, b"")
            tags |= set(there)
            for what, tag in ((b"entries", b""), *((b"tags", tag) for tag in there)):
                cursor = b""
                while cursor != b"0":
                    cursor, looked, found = await self._page(
                        root, scripts.CHECK, what, tag, cursor or b"0"
                    )
                    entries += looked
                    pairs = zip(found[::2], found[1::2], strict=True)
                    faults += [f"the entry {key!r} {fault.decode()}" for key, fault in pairs]
        return Consistency(entries, len(tags), tuple(faults[:MOST_FAULTS]), len(faults))

    @staticmethod
    def _place(rows: list[Any], found: list[EntryView | None], numbers: Sequence[int]) -> None:
        for number, row in zip(numbers, rows, strict=True):
            if row:
                found[number] = _entry(*row)

    @as_deferred
    async def _members(self, root: str, query: list[bytes], most: int | None) -> list[list[Any]]:
        """Return rows of entries with all tags of the query, each once; slightly over ``most``."""
        found: dict[bytes, Any] = {}
        cursor = b"0"
        while most is None or len(found) < most:
            cursor, rows, _ = await self._page(root, scripts.MEMBERS, cursor, 0, len(query), *query)
            for row in rows:
                found.setdefault(row[0], row)
            if cursor == b"0":
                break
        return list(found.values())

    async def _skip_and_find(
        self,
        query: list[bytes],
        others: list[bytes],
        offset: int,
        limit: int | None,
        found: dict[bytes, EntryView],
    ) -> int:
        """Add the entries of one query of ``search`` to ``found``, except the first ``offset``.

        Redis skips these, in one partition after the other. Returns how many are left to skip.
        """
        for root in self._partitions.roots:
            cursor = b""
            while cursor != b"0" and (limit is None or len(found) < limit):
                tags = (len(query), *query, *others)
                cursor, rows, skipped = await self._page(
                    root, scripts.MEMBERS, cursor or b"0", offset, *tags
                )
                offset -= skipped
                for row in rows:
                    found.setdefault(row[0], _entry(row))
        return offset

    @as_deferred
    async def _read_on(self, those: _Newest, page: int, prefix: bytes, skip: int) -> int:
        """Read the next page of a partition; returns how many entries were skipped before it."""
        skipped: int
        those.before, rows, skipped = await self._partitions.call(
            those.root, scripts.NEWEST, page, those.before, prefix, skip
        )
        those.rows += rows
        return skipped

    @as_deferred
    async def _tags(self, root: str, prefix: bytes) -> dict[bytes, tuple[int, int]]:
        found: dict[bytes, tuple[int, int]] = {}
        cursor = b""
        while cursor != b"0":
            cursor, rows = await self._page(root, scripts.TAGS, cursor or b"0", prefix)
            for tag, keys, size in rows:
                found[tag] = (keys, size)
        return found

    def _page(self, root: str, script: scripts.Script, *arguments: Any) -> Deferred[Any]:
        return self._partitions.call(root, script, self._partitions.page, *arguments)


def _entry(row: list[Any], value: bytes | None = None) -> EntryView:
    key, stored_us, left, ttl, size, tags = row
    return EntryView(
        key,
        value,
        tuple(tags),
        size,
        int(stored_us),
        int(left) if left else None,
        int(ttl) if ttl else None,
    )
