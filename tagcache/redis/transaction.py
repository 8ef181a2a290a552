"""The session and the engine of a transaction, which work on a draft."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn, TypeVar

from zope.interface import implementer

from tagcache.errors import NotAnInteger, NotInTransaction
from tagcache.model import int64, stored_values
from tagcache.model.admission import check_integer, check_lengths, check_tags
from tagcache.model.drafts import Draft, Stored
from tagcache.model.interfaces import ISession, Versions
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tagcache.model.views import EntryView
from tagcache.redis.drafts import State, check_changes

T = TypeVar("T")


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise NotInTransaction


@implementer(ISession)
class DraftSession:
    """An ISession whose methods change a draft, without Deferreds.

    ``looked_up`` has the keys of the look-ups to count, each with the tags of the entry, or None.
    """

    def __init__(self, draft: Draft, state: State, limits: Limits) -> None:
        self.looked_up: list[tuple[bytes, tuple[bytes, ...] | None]] = []
        self._draft = draft
        self._state = state
        self._limits = limits

    def get(self, key: bytes) -> bytes | None:
        found = self._draft.get(key)
        self.looked_up.append((key, found and found.tags))
        return found and found.value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def put(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int | None:
        check_lengths(self._limits, key, value)
        ttl_ms = self._limits.effective_ttl_ms(ttl_ms)
        checked = check_tags(self._limits, tags) or None
        self._draft.put(key, value, checked, self._expiry(ttl_ms))
        return ttl_ms

    def put_with(self, key: bytes, value: bytes, options: StoreOptions) -> int | None:
        if options.grace_ms:
            raise NotInTransaction
        return self.put(key, value, options.tags, options.asked_ms)

    def add(
        self, key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> bool:
        check_lengths(self._limits, key, value)
        tags = check_tags(self._limits, tags)
        if self._draft.get(key) is not None:
            return False
        self.put(key, value, tags, ttl_ms)
        return True

    def increment(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int:
        check_integer(by)
        tags = check_tags(self._limits, tags)
        old = self._draft.get(key)
        if old is None:
            self.put(key, b"%d" % by, tags, ttl_ms)
            return by
        number = int64.parse(stored_values.number(old.value))
        if number is None:
            raise NotAnInteger
        check_integer(number + by)
        value = b"%d" % (number + by)
        check_lengths(self._limits, key, value)
        expiry = self._expiry(ttl_ms or self._ttl_ms(key, old))
        self._draft.put(key, value, tags or old.tags, expiry)
        return number + by

    def decrement(
        self, key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int:
        return self.increment(key, -by, tags, ttl_ms)

    def touch(self, key: bytes, ttl_ms: int | None = None) -> bool:
        old = self._draft.get(key)
        if old is not None:
            ttl_ms = self._limits.effective_ttl_ms(ttl_ms)
            self._draft.put(key, old.value, old.tags, self._expiry(ttl_ms))
        return old is not None

    def delete(self, key: bytes) -> bool:
        return self._draft.delete(key)

    def invalidate_keys(self, keys: Collection[bytes], soft: bool = False) -> int:
        if soft:
            raise NotInTransaction
        return sum(self._draft.delete(key) for key in dict.fromkeys(keys))

    def update(
        self, keys: Collection[bytes], change: Callable[[Draft], T], counts: bool = False
    ) -> T:
        draft = self._draft
        before = dict(draft.changes)
        if counts:
            self.get_many(list(keys))
        try:
            result = change(draft)
            check_changes(draft, self._limits)
        except BaseException:
            # A failed command changes nothing.
            draft.changes = before
            raise
        return result

    def versions(self, keys: Collection[bytes]) -> Versions:
        return {key: self._draft.get(key) for key in keys}

    fetch: Any = staticmethod(_refuse)
    fill: Any = staticmethod(_refuse)
    release: Any = staticmethod(_refuse)
    transact: Any = staticmethod(_refuse)
    invalidate_tag: Any = staticmethod(_refuse)
    invalidate_any: Any = staticmethod(_refuse)
    invalidate_all: Any = staticmethod(_refuse)
    flush: Any = staticmethod(_refuse)

    def view(self, key: bytes) -> EntryView | None:
        """Return the whole entry, or None."""
        stored = self._draft.get(key)
        if stored is None:
            return None
        found = None if key in self._draft.changes else self._state.found[key]
        now_ms = self._draft.now_ms
        return EntryView(
            key=key,
            value=stored.value,
            tags=stored.tags,
            size=len(key) + len(stored.value),
            stored_us=now_ms * 1000 if found is None else found.stored_us,
            left_ms=None if stored.expires_ms is None else stored.expires_ms - now_ms,
            ttl_ms=self._ttl_ms(key, stored),
        )

    def _ttl_ms(self, key: bytes, stored: Stored) -> int | None:
        """Return the time to live with which an entry was stored."""
        found = self._state.found[key]
        if found is not None and key not in self._draft.changes:
            return found.ttl_ms
        return None if stored.expires_ms is None else stored.expires_ms - self._draft.now_ms

    def _expiry(self, ttl_ms: int | None) -> int | None:
        return None if ttl_ms is None else self._draft.now_ms + ttl_ms


class DraftEngine:
    """The part of an IEngine that concerns entries whose keys are known."""

    store = None
    eviction_policy = None
    trouble = ""
    memory = max_memory = backlog = property(_refuse)

    def __init__(self, session: DraftSession, limits: Limits) -> None:
        self.session = session
        self.limits = limits

    def peek(self, key: bytes) -> EntryView | None:
        return self.session.view(key)

    def peek_many(self, keys: Sequence[bytes]) -> list[EntryView | None]:
        return [self.session.view(key) for key in keys]

    def count_keys(self, keys: Sequence[bytes]) -> int:
        return sum(self.session.view(key) is not None for key in set(keys))

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        return _refuse
