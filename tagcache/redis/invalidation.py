"""Invalidation of tags in all partitions, and the removal of dead entries.

On a cluster an invalidation is a two-phase commit: every partition records it as pending
(PREPARE), the partition that its id belongs to records that it is committed (COMMIT), and then
every partition applies it (FINISH). A look-up that meets a pending invalidation asks whether it is
committed, so all partitions change at one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, fail
from twisted.python.failure import Failure

from tagcache.errors import BackendUnavailable, CommandError
from tagcache.redis import scripts
from tagcache.redis.deferreds import as_deferred, together
from tagcache.redis.partitions import Partitions

# Pending invalidations of one server in a cluster. Each makes look-ups a little slower.
_MAX_PENDING = 8
# How long a commit is kept if the server that made it cannot delete it.
_COMMIT_KEPT_MS = 30 * 86_400_000
# Sequence numbers of invalidated tags and deleted keys that are kept, in all partitions together.
_GENERATIONS = 200_000
# A pending invalidation of this age has lost its server.
_STUCK_MS = 5000
_ROUNDS = 1000

_UNCOUNTED = b"uncounted"
_ANY = b"any"

_Removed = tuple[int, list[bytes]]
# A pending invalidation whose server is lost: its id, its kind and its tags.
_Stuck = tuple[bytes, bytes, list[bytes]]


class Invalidations:
    """Invalidates tags so that look-ups see each invalidation happen at one moment.

    ``new_id`` returns a new id for an invalidation.
    """

    def __init__(self, partitions: Partitions, new_id: Callable[[], bytes]) -> None:
        self._partitions = partitions
        self._new_id = new_id
        self._turns = DeferredSemaphore(_MAX_PENDING)
        self._failed = 0

    def invalidate(self, kind: bytes, tags: Sequence[bytes]) -> Deferred[_Removed]:
        """Invalidate the entries with any of the tags (``kind`` is ``any``) or all (``all``).

        Fires with the number of entries and some of their keys.
        """
        if len(self._partitions) == 1:
            return self._in_the_only_one(kind, tags)
        return self._turns.run(self._in_turn, kind, tags, self._failed)

    def has_happened(self, ids: Sequence[bytes]) -> Deferred[bool]:
        """Say whether one of these invalidations, which are pending somewhere, is committed."""
        partitions = self._partitions
        asked = [partitions.call(partitions.root(id), scripts.COMMITTED, id) for id in ids]
        return together(asked).addCallback(any)

    def resume(self, id: bytes, kind: bytes, tags: Sequence[bytes]) -> Deferred[_Removed]:
        """Complete an invalidation that another server began and may not complete."""
        return self._at_one_moment(id, kind, tags, begun=True)

    @as_deferred
    async def settle(self) -> None:
        """Remove what has expired or was invalidated up to now, also by servers that are lost."""
        each = await together(self._settle(root, _ANY) for root in self._partitions.roots)
        stuck = {id: (kind, tags) for found in each for id, kind, tags in found}
        for id, (kind, tags) in stuck.items():
            await self.resume(id, kind, tags)

    def count_all(self) -> Deferred[Any]:
        """Remove expired entries, and those invalidated ones that are not counted yet."""
        return together(self.count_in(root) for root in self._partitions.roots)

    def count_in(self, root: str) -> Deferred[Any]:
        """Do ``count_all`` in one partition."""
        return self._settle(root, _UNCOUNTED)

    @as_deferred
    async def _in_the_only_one(self, kind: bytes, tags: Sequence[bytes]) -> _Removed:
        (root,) = self._partitions.roots
        answer = await self._partitions.call(
            root, scripts.INVALIDATE, self._partitions.at_once, kind, *tags
        )
        return await self._remove_rest({root: answer}), answer[3]

    def _in_turn(self, kind: bytes, tags: Sequence[bytes], failed: int) -> Deferred[_Removed]:
        # Those that waited behind one that failed would wait as long, and fail as well.
        if self._failed != failed:
            return fail(BackendUnavailable("an invalidation before this failed"))
        return self._at_one_moment(self._new_id(), kind, tags)

    @as_deferred
    async def _at_one_moment(
        self, id: bytes, kind: bytes, tags: Sequence[bytes], begun: bool = False
    ) -> _Removed:
        """Invalidate in all partitions: prepare, commit, finish."""
        every = self._partitions.roots
        try:
            roots = await self._prepare(id, kind, tags, begun)
            # In one partition alone, it happens when it is applied.
            if len(roots) > 1:
                await self._commit(id, _COMMIT_KEPT_MS)
        except CommandError:
            self._failed += 1
            # The caller is told at once that it may have been carried out in part.
            for root in every:
                self._finish(root, id).addErrback(Failure.trap, CommandError)
            raise
        answers = await together(self._finish(root, id) for root in roots)
        if len(roots) > 1:
            self._commit(id, self._forget_after_ms()).addErrback(lambda _: None)
        removed = await self._remove_rest(dict(zip(roots, answers, strict=True)))
        return removed, [key for answer in answers for key in answer[3]]

    async def _prepare(
        self, id: bytes, kind: bytes, tags: Sequence[bytes], begun: bool
    ) -> list[str]:
        """Record the invalidation as pending; returns the partitions that must apply it."""
        partitions = self._partitions
        every = partitions.roots
        if begun and await self.has_happened([id]):
            return every
        prepared = [partitions.call(root, scripts.PREPARE, id, kind, *tags) for root in every]
        # Wait for all of them even if one fails: what follows must not overtake the others.
        await DeferredList(prepared)
        concerned = await together(prepared)
        return [root for root, some in zip(every, concerned, strict=True) if some]

    def _commit(self, id: bytes, kept_ms: int) -> Deferred[Any]:
        """Record that an invalidation is committed, for so many milliseconds."""
        return self._partitions.call(self._partitions.root(id), scripts.COMMIT, id, kept_ms)

    def _finish(self, root: str, id: bytes) -> Deferred[Any]:
        return self._partitions.call(root, scripts.FINISH, self._partitions.at_once, id)

    def _forget_after_ms(self) -> int:
        """Return for how long a look-up may still ask whether an invalidation is committed."""
        return int(2000 * self._partitions.timeout) + 1000

    async def _remove_rest(self, answers: Mapping[str, Any]) -> int:
        """Remove what an invalidation left to be removed; returns how many entries it had."""
        works = []
        removed = 0
        for root, (some, at, names, _) in answers.items():
            removed += some
            if names:
                for name in names:
                    purged = self._purge_set(root, name)
                    if name.endswith(b":c"):
                        # They are counted already. If this fails, the upkeep removes the rest.
                        purged.addErrback(Failure.trap, CommandError)
                    else:
                        works.append(purged)
            elif at:
                works.append(self._purge_all(root, b"%d" % at))
        return removed + sum(await together(works))

    @as_deferred
    async def _purge_set(self, root: str, name: bytes) -> int:
        """Remove the entries of a dead set; returns how many there were."""
        removed, left = 0, 1
        while left:
            some, left = await self._later(root, scripts.PURGE_SET, name)
            removed += some
        return removed

    @as_deferred
    async def _purge_all(self, root: str, number: bytes, *help: bytes) -> int:
        removed, cursor = 0, b""
        while cursor != b"0":
            some, cursor, number = await self._later(
                root, scripts.PURGE_ALL, number, cursor or b"0", *help
            )
            removed += some
        return removed

    @as_deferred
    async def _settle(self, root: str, which: bytes) -> list[_Stuck]:
        """Remove dead entries of a partition; returns the invalidations that lost their server."""
        stuck: list[_Stuck] = []
        kept = _GENERATIONS // len(self._partitions)
        stuck_ms = max(_STUCK_MS, self._forget_after_ms())
        for _ in range(_ROUNDS):
            swept, stuck, more = await self._later(root, scripts.SWEEP, kept, stuck_ms)
            if swept < self._partitions.at_once and not more:
                break
        for _ in range(_ROUNDS):
            _, left = await self._later(root, scripts.PURGE_SET, b"", which)
            if not left:
                break
        await self._purge_all(root, b"", b"help")
        return stuck

    def _later(self, root: str, script: scripts.Script, *arguments: Any) -> Deferred[Any]:
        return self._partitions.call_later(root, script, self._partitions.at_once, *arguments)
