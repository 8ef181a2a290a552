"""How a value that is computed on a miss is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from tagcache.client.arguments import Duration, Ttl, seconds_of, ttl_ms
from tagcache.client.early import Early
from tagcache.errors import BadArgument
from tagcache.model.fetched import MOST_WAIT_MS

# How long a producer may take before another caller gets the lease.
LEASE_MS = 60_000
# How long callers wait for a producer in another process by default.
WAIT_SECONDS = 5.0

DurationOf: TypeAlias = "Duration | Callable[[Any], Duration | None]"


@dataclass(frozen=True, slots=True)
class ComputeOptions:
    """How a computed value is stored, and how long others wait for it.

    ``ttl``, ``grace`` and ``wait`` are seconds, timedeltas or text like "5m"; ``ttl`` may be a
    function of the value. A ``wait`` of None is the default. ``early`` says when to refresh
    the value before it expires. Raises BadArgument.
    """

    ttl: DurationOf | None = None
    grace: Duration | None = None
    wait: Duration | None = None
    early: Early | None = None

    def __post_init__(self) -> None:
        if not callable(self.ttl):
            ttl_ms(seconds_of(self.ttl))
        ttl_ms(self.grace_seconds)
        if self.early is not None and (self.ttl is None or self.grace is None):
            raise BadArgument(
                "early needs a ttl, and a grace: others get the old value during the grace"
            )

    def ttl_of(self, value: Any) -> Ttl | None:
        """Return the time to live of a value. Raises BadArgument."""
        return seconds_of(self.ttl(value) if callable(self.ttl) else self.ttl)

    def times(self, ttl: Ttl | None, cost: float) -> tuple[float, float] | None:
        """Return when a value stored now expires, and its cost; None without ``early``."""
        milliseconds = ttl_ms(ttl)
        if self.early is None or milliseconds is None:
            return None
        return self.early.now() + milliseconds / 1000, cost

    @property
    def grace_seconds(self) -> Ttl | None:
        """How long the value is kept as stale after its time to live. Raises BadArgument."""
        return seconds_of(self.grace)

    @property
    def wait_ms(self) -> int:
        """How long to wait, in milliseconds. Raises BadArgument."""
        if self.wait == 0:
            return 0
        wait = WAIT_SECONDS if self.wait is None else seconds_of(self.wait)
        return min(ttl_ms(wait) or 0, MOST_WAIT_MS)

    @property
    def join_seconds(self) -> float:
        """How long to wait for another caller in this process. Raises BadArgument."""
        return (LEASE_MS if self.wait is None else self.wait_ms) / 1000
