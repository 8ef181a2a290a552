"""Optimistic updates: read entries, decide, and store unless they have changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred

from tagcache.errors import BackendUnavailable, CrossPartition
from tagcache.model.admission import check_lengths, check_tags
from tagcache.model.drafts import Draft, Stored
from tagcache.model.interfaces import Versions
from tagcache.model.limits import Limits
from tagcache.redis import scripts
from tagcache.redis.deferreds import as_deferred
from tagcache.redis.near import Near
from tagcache.redis.partitions import Partitions
from tagcache.redis.turns import Turns

T = TypeVar("T")

# Attempts to change entries that other servers change, too. Each costs a round trip, and in each
# one of the servers succeeds.
_ROUNDS = 1000


class Tally(Protocol):
    """Counts look-ups and changes, and knows the limits."""

    @property
    def limits(self) -> Limits:
        """The limits of an entry."""

    def count_look_up(self, key: bytes, tags: Sequence[bytes] | None) -> None:
        """Count a hit on an entry with these tags, or a miss (None)."""

    def count_changes(self, stored: Collection[bytes], removed: int) -> None:
        """Count the keys that were stored, and the entries that were removed."""


class Found(NamedTuple):
    """A stored entry.

    ``ttl_ms`` is the time to live with which it was stored, ``stored_us`` when that was, in
    microseconds since 1970, and ``record`` differs after every change.
    """

    entry: Stored
    ttl_ms: int | None
    stored_us: int
    record: bytes


class State(NamedTuple):
    """A consistent view of some entries."""

    now_ms: int
    found: Mapping[bytes, Found | None]

    def record(self, key: bytes) -> bytes | None:
        """Return the record of an entry, which every change replaces; None without an entry."""
        found = self.found[key]
        return found and found.record

    def draft(self, limits: Limits) -> Draft:
        """Return a draft of the entries."""
        stored = {key: found and found.entry for key, found in self.found.items()}
        return Draft(stored, self.now_ms, limits)


class Drafts:
    """Changes entries of one partition atomically.

    In this server, only one change of an entry is in progress at a time, and the others wait. If
    another server changes the entry meanwhile, the change begins again with the new state.
    """

    def __init__(
        self,
        partitions: Partitions,
        near: Near | None,
        tally: Tally,
    ) -> None:
        self._partitions = partitions
        self._near = near
        self._tally = tally
        self._turns = Turns()

    def change(
        self,
        keys: Collection[bytes],
        unchanged: Versions,
        decide: Callable[[Draft, State], T],
        counts: bool = False,
        pipeline: int | None = None,
    ) -> Deferred[T | None]:
        """Call ``decide``, make the changes of its draft, and return its result.

        Returns None if an entry of ``unchanged`` has changed.

        ``decide`` may be called several times. Raises CrossPartition.
        """
        every = self._in_one_partition((*keys, *unchanged))

        @as_deferred
        async def work() -> T | None:
            state = await self._read(every, pipeline)
            if counts:
                self._count(state, keys)
            for _ in range(_ROUNDS):
                if _differs(state, unchanged):
                    return None
                draft, result = self._decide(state, decide)
                if not draft.changes:
                    return result
                later = await self._carry_out(draft, state, every, pipeline)
                if later is None:
                    return result
                state = later
            raise BackendUnavailable("other servers keep changing these entries")

        return self._turns.run(every, work)

    @as_deferred
    async def versions(self, keys: Collection[bytes], pipeline: int | None) -> Versions:
        """Return the records of entries. Raises CrossPartition."""
        if not keys:
            return {}
        state = await self._read(self._in_one_partition(keys), pipeline)
        return {key: state.record(key) for key in keys}

    def _in_one_partition(self, keys: Collection[bytes]) -> list[bytes]:
        """Return the keys, each once, or any key if there is none. Raises CrossPartition."""
        if len({self._partitions.root(key) for key in keys}) > 1:
            raise CrossPartition
        return list(dict.fromkeys(keys)) or [b""]

    def _count(self, state: State, keys: Collection[bytes]) -> None:
        for key in keys:
            found = state.found[key]
            self._tally.count_look_up(key, found and found.entry.tags)

    def _decide(self, state: State, decide: Callable[[Draft, State], T]) -> tuple[Draft, T]:
        """Return a draft that ``decide`` has changed, and its result. Raises what it raises."""
        limits = self._tally.limits
        draft = state.draft(limits)
        result = decide(draft, state)
        check_changes(draft, limits)
        if not draft.changes.keys() <= state.found.keys():
            raise KeyError("the draft changes an entry that was not read")
        return draft, result

    async def _read(self, keys: Sequence[bytes], pipeline: int | None) -> State:
        answer = await self._partitions.call_for(keys[0], pipeline, scripts.DRAFT, *keys[1:])
        return _state(keys, answer)

    async def _carry_out(
        self, draft: Draft, state: State, keys: Sequence[bytes], pipeline: int | None
    ) -> State | None:
        """Change the entries; if their state has changed meanwhile, return it instead."""
        arguments: list[Any] = [len(keys), *keys[1:]]
        arguments += (state.record(key) or b"" for key in keys)
        for key, new in draft.changes.items():
            if new is None:
                arguments += key, b"", 0, b"", 0
            elif new.expires_ms is None:
                arguments += key, new.value, b"", b"", len(new.tags), *new.tags
            else:
                ttl_ms = new.expires_ms - draft.now_ms
                arguments += key, new.value, new.expires_ms, ttl_ms, len(new.tags), *new.tags
        self._hold(draft)
        try:
            answer = await self._partitions.call_for(
                keys[0], pipeline, scripts.CARRY_OUT, *arguments
            )
        finally:
            self._release(draft)
        if isinstance(answer, list):
            return _state(keys, answer)
        stored = [key for key, new in draft.changes.items() if new is not None]
        self._tally.count_changes(stored, answer)
        return None

    def _hold(self, draft: Draft) -> None:
        if self._near is not None:
            for key in draft.changes:
                self._near.hold(key)

    def _release(self, draft: Draft) -> None:
        if self._near is not None:
            for key in draft.changes:
                self._near.release(key)


def _state(keys: Sequence[bytes], answer: Sequence[Any]) -> State:
    """Return the state in the answer of a script."""
    found: dict[bytes, Found | None] = dict.fromkeys(keys)
    for key, row in zip(keys, answer[1:], strict=True):
        if row:
            value, expires, ttl, stored_us, tags, record = row
            entry = Stored(value, tuple(tags), int(expires) or None)
            found[key] = Found(entry, int(ttl) if ttl else None, int(stored_us), record)
    return State(int(answer[0]), found)


def check_changes(draft: Draft, limits: Limits) -> None:
    """Raise KeyTooLong, ValueTooLarge, TooManyTags, TagTooLong for what the draft stores."""
    for key, new in draft.changes.items():
        if new is not None:
            check_lengths(limits, key, new.value)
            draft.changes[key] = new._replace(tags=check_tags(limits, new.tags))


def _differs(state: State, unchanged: Versions) -> bool:
    return any(state.record(key) != version for key, version in unchanged.items())
