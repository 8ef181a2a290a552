"""The numbered databases of the engine in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from zope.interface import implementer

from tagcache.engine.caches import MemoryCaches
from tagcache.engine.session import Finish, MemoryEngine
from tagcache.model.interfaces import IDatabases
from tagcache.model.limits import Limits
from tagcache.model.numbered import Numbered
from tagcache.model.statistics import Counters, Totals
from tagcache.model.work import run_to_end

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


@implementer(IDatabases)
class MemoryDatabases:
    """An IDatabases over ``caches``. See MemoryEngine for the other arguments."""

    def __init__(
        self,
        caches: MemoryCaches,
        monotonic: Callable[[], float],
        finish: Finish = run_to_end,
    ) -> None:
        self._caches = caches
        self._finish = finish
        self._engines = Numbered(
            caches.count, lambda number: MemoryEngine(caches[number], monotonic, finish)
        )

    @property
    def count(self) -> int:
        """How many databases there may be."""
        return self._caches.count

    @property
    def limits(self) -> Limits:
        """The limits of an entry."""
        return self._caches.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._caches.limits = limits

    @property
    def memory(self) -> int:
        """The approximate bytes that all entries and their indexes take."""
        return self._caches.memory

    @property
    def max_memory(self) -> int:
        """The bytes that they may take; 0: no limit."""
        return self._caches.max_memory

    @property
    def backlog(self) -> int:
        """How many entries were removed and still use memory."""
        return self._caches.backlog

    def __getitem__(self, number: int) -> MemoryEngine:
        return self._engines[number]

    def __iter__(self) -> Iterator[tuple[int, MemoryEngine]]:
        # A snapshot may have filled a database that no client has used yet.
        for number, _ in self._caches:
            yield number, self[number]

    def counters(self) -> Counters:
        return self._caches.counters()

    def held(self) -> Totals:
        return self._caches.held()

    def flush_all(self) -> int | Deferred[int]:
        return self._finish(self._caches.flush())
