"""Probabilistic early refresh: one caller recomputes a value shortly before it expires.

This is XFetch of A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal Probabilistic Cache Stampede
Prevention", Proceedings of the VLDB Endowment 8 (8), 2015. Each caller decides for itself, by a
random number. A refresh becomes more likely the closer the value is to its end, and the longer its
computation takes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log

from tagcache.errors import BadArgument


@dataclass(frozen=True, slots=True)
class Early:
    """When to refresh early.

    A ``beta`` of more than 1 refreshes earlier, one of less than 1 later. ``now`` returns seconds
    of the wall clock, which the clients of a cache share, and ``random`` a number from 0
    to 1, exclusive. Raises BadArgument.

    A value that took 2 seconds to compute is refreshed 2 seconds before its end with this number:

    >>> early = Early(now=lambda: 98.0, random=lambda: 1 - 1 / 2.7183)
    >>> early.is_due(expires=100.0, cost=2.0), early.is_due(expires=100.1, cost=2.0)
    (True, False)
    """

    beta: float = 1.0
    now: Callable[[], float] = time.time
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if not 0 < self.beta < inf:
            raise BadArgument(f"early must be more than 0, and finite: {self.beta}")

    def is_due(self, expires: float, cost: float) -> bool:
        """Return whether this caller must refresh a value that expires at ``expires``.

        ``cost`` is the seconds that it took to compute the value.
        """
        return self.now() - cost * self.beta * log(1.0 - self.random()) >= expires


def early_of(early: Early | float | None) -> Early | None:
    """Return the Early for an argument: a number is its ``beta``. Raises BadArgument."""
    return early if early is None or isinstance(early, Early) else Early(early)
