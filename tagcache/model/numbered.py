"""The parts of numbered databases, each created when it is first used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from tagcache.errors import InvalidDatabase

T = TypeVar("T")


class Numbered(Generic[T]):
    """Parts of one kind with numbers from 0 to ``count - 1``, such as a cache for each database.

    ``make`` returns the part for a number. It is called when that part is first used.
    """

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self.count = count
        self._make = make
        self._made: dict[int, T] = {}

    def __getitem__(self, number: int) -> T:
        """Return the part with this number. Raises InvalidDatabase."""
        part = self._made.get(number)
        if part is None:
            if not 0 <= number < self.count:
                raise InvalidDatabase(number, self.count)
            part = self._made[number] = self._make(number)
        return part

    def used(self, number: int) -> T | None:
        """Return the part with this number if it was used before, else None."""
        return self._made.get(number)

    def __iter__(self) -> Iterator[tuple[int, T]]:
        """Yield number and part of those in use, in the order of their numbers."""
        for number in sorted(self._made):
            yield number, self._made[number]
