"""Invalidation of tags in all partitions, and the removal of what ceased to exist."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, fail, inlineCallbacks
from twisted.python.failure import Failure

from tagcache.errors import BackendUnavailable, CommandError
from tagcache.redis import scripts
from tagcache.redis.deferreds import Work, together
from tagcache.redis.partitions import Partitions

# Invalidations of a server that a cluster may have to note at the same time: each makes look-ups
# a little slower.
_AT_THE_SAME_TIME = 8
# How long the word that an invalidation has happened is kept, if its server cannot take it back.
_COMMIT_KEPT_MS = 30 * 86_400_000
# Generations that are kept of tags and of keys, in all partitions together.
_GENERATIONS = 200_000
# One that was begun this long ago has lost its server.
_STUCK_MS = 5000
_ROUNDS = 1000

_UNCOUNTED = b"uncounted"
_ANY = b"any"

_Removed = tuple[int, list[bytes]]


class Invalidations:
    """Invalidates tags, so that look-ups see it happen at one moment; ``new_id`` names each."""

    def __init__(self, partitions: Partitions, new_id: Callable[[], bytes]) -> None:
        self._partitions = partitions
        self._new_id = new_id
        self._turns = DeferredSemaphore(_AT_THE_SAME_TIME)
        # Counts those that failed.
        self._failed = 0

    def invalidate(self, kind: bytes, tags: Sequence[bytes]) -> Deferred[_Removed]:
        """Invalidate what carries any of the tags (``kind`` is ``any``) or all of them (``all``).

        Fires with how many entries that were, and with some of their keys.
        """
        if len(self._partitions) == 1:
            return self._in_the_only_one(kind, tags)
        return self._turns.run(self._in_turn, kind, tags, self._failed)

    def has_happened(self, ids: Sequence[bytes]) -> Deferred[bool]:
        """Say whether one of these invalidations, which wait in a partition, has happened."""
        partitions = self._partitions
        asked = [partitions.call(partitions.root(id), scripts.COMMITTED, id) for id in ids]
        return together(asked).addCallback(any)

    def resume(self, id: bytes, kind: bytes, tags: Sequence[bytes]) -> Deferred[_Removed]:
        """Do as ``invalidate`` for one that a server began, and may not end."""
        return self._at_one_moment(id, kind, tags, begun=True)

    @inlineCallbacks
    def settle(self) -> Work:
        """Remove what has expired or was invalidated up to now, also by servers that are gone."""
        each = yield together(self._settle(root, _ANY) for root in self._partitions.roots)
        stuck = {id: (kind, tags) for found in each for id, kind, tags in found}
        for id, (kind, tags) in stuck.items():
            yield self.resume(id, kind, tags)

    def count_all(self) -> Deferred[Any]:
        """Remove what has expired, and go through what was invalidated and not counted."""
        return together(self.count_in(root) for root in self._partitions.roots)

    def count_in(self, root: str) -> Deferred[Any]:
        """Do as ``count_all`` in one partition."""
        return self._settle(root, _UNCOUNTED)

    @inlineCallbacks
    def _in_the_only_one(self, kind: bytes, tags: Sequence[bytes]) -> Work:
        (root,) = self._partitions.roots
        answer = yield self._partitions.call(
            root, scripts.INVALIDATE, self._partitions.at_once, kind, *tags
        )
        removed = yield self._carried_out({root: answer})
        return removed, answer[3]

    def _in_turn(self, kind: bytes, tags: Sequence[bytes], failed: int) -> Deferred[_Removed]:
        # Where one has just failed in vain, those behind it would only wait as long, each.
        if self._failed != failed:
            return fail(BackendUnavailable("an invalidation before this failed"))
        return self._at_one_moment(self._new_id(), kind, tags)

    @inlineCallbacks
    def _at_one_moment(
        self, id: bytes, kind: bytes, tags: Sequence[bytes], begun: bool = False
    ) -> Generator[Deferred[Any], Any, _Removed]:
        """Invalidate in all partitions.

        First every partition takes note of it; then the one that ``id`` belongs to notes that it
        has happened: look-ups that meet the first note ask there. Then each removes what it has.
        """
        partitions = self._partitions
        every = partitions.roots
        try:
            carried = [1] * len(every)
            if not (begun and (yield self.has_happened([id]))):
                noted = [partitions.call(root, scripts.PREPARE, id, kind, *tags) for root in every]
                # Also where one has failed: what comes next must not overtake the others.
                yield DeferredList(noted)
                carried = yield together(noted)
            roots = [root for root, some in zip(every, carried, strict=True) if some]
            # In one partition alone, it happens when it is removed.
            if len(roots) > 1:
                yield self._commit(id, _COMMIT_KEPT_MS)
        except CommandError:
            self._failed += 1
            # Whoever asked is told at once that it may have been carried out in part.
            for root in every:
                self._finish(root, id).addErrback(Failure.trap, CommandError)
            raise
        answers = yield together(self._finish(root, id) for root in roots)
        if len(roots) > 1:
            self._commit(id, self._forget_after_ms()).addErrback(lambda _: None)
        removed = yield self._carried_out(dict(zip(roots, answers, strict=True)))
        return removed, [key for answer in answers for key in answer[3]]

    def _commit(self, id: bytes, kept_ms: int) -> Deferred[Any]:
        """Note that an invalidation has happened, for so long."""
        return self._partitions.call(self._partitions.root(id), scripts.COMMIT, id, kept_ms)

    def _finish(self, root: str, id: bytes) -> Deferred[Any]:
        return self._partitions.call(root, scripts.FINISH, self._partitions.at_once, id)

    def _forget_after_ms(self) -> int:
        """How long somebody may still ask whether an invalidation has happened."""
        return int(2000 * self._partitions.timeout) + 1000

    @inlineCallbacks
    def _carried_out(self, answers: Mapping[str, Any]) -> Work:
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
        return removed + sum((yield together(works)))

    @inlineCallbacks
    def _bury(self, root: str, name: bytes) -> Work:
        """Remove what ceased to exist with this set; returns how many entries that were."""
        removed, left = 0, 1
        while left:
            some, left = yield self._later(root, scripts.BURY, name)
            removed += some
        return removed

    @inlineCallbacks
    def _bury_all(self, root: str, number: bytes, *help: bytes) -> Work:
        removed, cursor = 0, b""
        while cursor != b"0":
            some, cursor, number = yield self._later(
                root, scripts.BURY_ALL, number, cursor or b"0", *help
            )
            removed += some
        return removed

    @inlineCallbacks
    def _settle(self, root: str, which: bytes) -> Work:
        """Remove what goes in a partition; returns the invalidations that lost their server."""
        stuck: list[Any] = []
        kept = _GENERATIONS // len(self._partitions)
        stuck_ms = max(_STUCK_MS, self._forget_after_ms())
        for _ in range(_ROUNDS):
            swept, stuck, more = yield self._later(root, scripts.SWEEP, kept, stuck_ms)
            if swept < self._partitions.at_once and not more:
                break
        for _ in range(_ROUNDS):
            _, left = yield self._later(root, scripts.BURY, b"", which)
            if not left:
                break
        yield self._bury_all(root, b"", b"help")
        return stuck

    def _later(self, root: str, script: scripts.Script, *arguments: Any) -> Deferred[Any]:
        return self._partitions.call_later(root, script, self._partitions.at_once, *arguments)
