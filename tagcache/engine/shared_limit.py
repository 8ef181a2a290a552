"""One memory limit for several caches."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tagcache.engine.budget import Budget
    from tagcache.engine.entry import Entry

_counted = attrgetter("counted")


class SharedLimit:
    """Keeps the memory of all its budgets together below their ``max_memory``.

    The cache that takes the most memory makes room, so that a small one can grow beside a large
    one.

    A store is counted at once. Removals are noticed when a cache is counted again. Counting all
    caches for every store at the limit would take longer with more caches, so they are all counted
    only once in as many stores as there are caches.

    ``total`` is the memory of all caches as last counted, in bytes.
    """

    def __init__(self) -> None:
        self.total = 0
        self._budgets: list[Budget] = []
        self._since = 0
        self._had_backlog = False

    def join(self, budget: Budget) -> None:
        """Add a budget to those that share the limit."""
        budget.shared = self
        self._budgets.append(budget)
        self.count(budget)

    def count(self, budget: Budget) -> int:
        """Count the memory of one cache again; return the total."""
        memory = budget.memory
        total = self.total + memory - budget.counted
        # Nothing below allocates memory.
        self.total = total
        budget.counted = memory
        return total

    def count_all(self) -> int:
        """Count the memory of all caches again; return the total."""
        for each in self._budgets:
            self.count(each)
        return self.total

    def has_backlog(self) -> bool:
        """Return whether removed entries of any cache still use memory."""
        return any(each.has_backlog for each in self._budgets)

    def tidy(self) -> bool:
        """Remove a limited number of invalidated and expired entries from all caches.

        Returns whether no invalidated entry is left.
        """
        left = [each for each in self._budgets if not each.tidy()]
        self._had_backlog = bool(left)
        self.count_all()
        return not left

    def make_room(self, stored: Entry, max_memory: int, most: int) -> bool:
        """Get below the limit with at most ``most`` evictions; return whether that was enough."""
        self._since += 1
        if self._since >= len(self._budgets):
            self._since = 0
            self.tidy()
        if self._had_backlog:
            return False
        for _ in range(most):
            if self.total <= max_memory:
                return True
            if not self.evict(stored):
                break
        return False

    def evict(self, kept: Entry | None) -> bool:
        """Evict an entry, other than ``kept``, from the cache that takes the most memory.

        Returns whether there was one.
        """
        largest = max(self._budgets, key=_counted)
        if not largest.evict(kept):
            others = sorted(self._budgets, key=_counted, reverse=True)
            found = next((each for each in others if each.evict(kept)), None)
            if found is None:
                return False
            largest = found
        self.count(largest)
        return True
