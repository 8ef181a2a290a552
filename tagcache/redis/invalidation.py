"""Invalidate tags in all partitions, and remove dead entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tagcache.errors import CommandError
from tagcache.redis import scripts
from tagcache.redis.deferreds import as_deferred, together
from tagcache.redis.partitions import Partitions

# The most sequence numbers of invalidated tags and deleted keys to keep, in all partitions.
_GENERATIONS = 200_000
_ROUNDS = 1000

_UNCOUNTED = b"uncounted"
_ANY = b"any"

_Removed = tuple[int, list[bytes]]


def has_work(totals: Sequence[Any]) -> bool:
    """Return whether dead sets or old epochs are left, by a result of TOTALS."""
    return bool(totals[5])


class Invalidations:
    """Invalidates tags in all partitions concurrently; atomically in each, but not in all together.

    When the last partition has answered, nobody finds an entry that is older than the call.
    """

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions

    @as_deferred
    async def invalidate(self, kind: bytes, tags: Sequence[bytes], soft: bool) -> _Removed:
        """Invalidate the entries with any of the tags (``kind`` is ``any``) or all (``all``).

        With ``soft``, those that have a grace become stale. Fires with the number of entries, and
        some of their keys.
        """
        roots = self._partitions.roots
        each = await together(self._in(root, kind, tags, soft) for root in roots)
        return sum(removed for removed, _ in each), [key for _, keys in each for key in keys]

    @as_deferred
    async def _in(self, root: str, kind: bytes, tags: Sequence[bytes], soft: bool) -> _Removed:
        """Do ``invalidate`` in one partition."""
        at_once = self._partitions.at_once
        mode = b"soft" if soft else b""
        removed, at, left, keys = await self._partitions.call(
            root, scripts.INVALIDATE, at_once, kind, mode, *tags
        )
        if left and (soft or kind != _ANY):
            for some in [left] if kind != _ANY else [[tag] for tag in left]:
                removed += await self._remove_pages(root, at, mode, some)
            return removed, keys
        works = []
        for name in left:
            purged = self._purge_set(root, name)
            if name.endswith(b":c"):
                # These entries are already counted. If this fails, the upkeep removes the rest.
                purged.addErrback(Failure.trap, CommandError)
            else:
                works.append(purged)
        return removed + sum(await together(works)), keys

    async def _remove_pages(self, root: str, at: int, mode: bytes, tags: Sequence[bytes]) -> int:
        """Remove the entries with all of the tags that are older than an invalidation."""
        removed: int = 0
        cursor = b"0"
        while True:
            some, cursor = await self._later(root, scripts.INVALIDATE_PAGE, cursor, at, mode, *tags)
            removed += some
            if cursor == b"0":
                return removed

    def settle(self) -> Deferred[list[Any]]:
        """Remove all expired and invalidated entries, even those left by crashed servers.

        Fires with the result of TOTALS of each partition, from before invalidated ones are removed.
        """
        return together(self._settle(root, _ANY) for root in self._partitions.roots)

    def count_all(self) -> Deferred[Any]:
        """Remove expired entries, and invalidated ones that are not counted yet."""
        return together(self.count_in(root) for root in self._partitions.roots)

    def count_in(self, root: str) -> Deferred[Any]:
        """Do ``count_all`` in one partition."""
        return self._settle(root, _UNCOUNTED)

    @as_deferred
    async def _purge_set(self, root: str, name: bytes) -> int:
        """Remove the entries of a dead set; returns how many there were."""
        removed, left = 0, 1
        while left:
            some, left = await self._later(root, scripts.PURGE_SET, name)
            removed += some
        return removed

    @as_deferred
    async def _settle(self, root: str, which: bytes) -> Any:
        """Remove dead entries of a partition; returns its totals from before that."""
        kept = _GENERATIONS // len(self._partitions)
        for _ in range(_ROUNDS):
            more, totals = await self._later(root, scripts.SWEEP, kept)
            if not more:
                break
        if has_work(totals):
            for _ in range(_ROUNDS):
                _, left = await self._later(root, scripts.PURGE_SET, b"", which)
                if not left:
                    break
        return totals

    def _later(self, root: str, script: scripts.Script, *arguments: Any) -> Deferred[Any]:
        return self._partitions.call_later(root, script, self._partitions.at_once, *arguments)
