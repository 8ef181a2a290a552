"""How a value that is computed on a miss is stored."""

from __future__ import annotations

from dataclasses import dataclass

from tagcache.client.arguments import Ttl, ttl_ms
from tagcache.model.fetched import MOST_WAIT_MS

# How long a producer may take before another one begins.
LEASE_MS = 60_000
# How long others wait for a producer in another process, if nobody says.
WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ComputeOptions:
    """How a computed value is stored, and how long others wait for it.

    ``ttl``, ``grace`` and ``wait`` are seconds or timedeltas; a ``wait`` of None is the default.
    """

    ttl: Ttl | None = None
    grace: Ttl | None = None
    wait: Ttl | None = None

    def __post_init__(self) -> None:
        ttl_ms(self.ttl)
        ttl_ms(self.grace)

    @property
    def wait_ms(self) -> int:
        """How long to wait, in milliseconds. Raises BadArgument."""
        if self.wait == 0:
            return 0
        return min(ttl_ms(WAIT_SECONDS if self.wait is None else self.wait) or 0, MOST_WAIT_MS)

    @property
    def join_seconds(self) -> float:
        """How long to wait for another caller in this process. Raises BadArgument."""
        return (LEASE_MS if self.wait is None else self.wait_ms) / 1000
