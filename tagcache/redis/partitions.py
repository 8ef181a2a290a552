"""The partitions of the engine, and how their scripts are called.

All names of a partition share a hash tag, and so a slot of a cluster: whatever concerns one key is
done by one script in one round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any
from zlib import crc32

from twisted.internet.defer import Deferred

from tagcache.redis.deferreds import together
from tagcache.redis.pipeline import Lane
from tagcache.redis.scripts import Script


class Partitions:
    """``roots`` begin the names of each partition; ``prefix`` begins all of them.

    There is one on a single server, and many in a cluster. What nobody waits for takes the lane
    ``background``, so that it is not in the way of what somebody does wait for.
    """

    at_once = 100
    """What a script does in one go: Redis serves nobody else meanwhile."""
    page = 500
    """Rows that a script returns at once."""
    keys_at_once = 200

    def __init__(
        self, lanes: Sequence[Lane], prefix: str, number: int, background: Lane | None = None
    ) -> None:
        self.roots = [f"{prefix}{{{each}}}:" for each in range(number)]
        if number == 1:
            self.roots = [f"{prefix}{{all}}:"]
        self._lanes = lanes
        self._background = background or lanes[0]
        self._turns = count()

    def __len__(self) -> int:
        return len(self.roots)

    @property
    def timeout(self) -> float:
        """The longest a call may take, in seconds."""
        return max(lane.timeout for lane in self._lanes)

    def root(self, key: bytes) -> str:
        """Return the root of the partition that a key belongs to."""
        roots = self.roots
        return roots[0] if len(roots) == 1 else roots[crc32(key) % len(roots)]

    def call_for(
        self, key: bytes, lane: int | None, script: Script, *arguments: Any
    ) -> Deferred[Any]:
        """Call a script for a key, where it is, after what was called before in the same lane.

        Without a number for the lane, that is what was called before for the same key.
        """
        number = crc32(key) if lane is None else lane
        return self._lanes[number % len(self._lanes)].call(script, self.root(key), key, *arguments)

    def call(self, root: str, script: Script, *arguments: Any) -> Deferred[Any]:
        """Call a script in a partition, in no order with others."""
        lane = self._lanes[next(self._turns) % len(self._lanes)]
        return lane.call(script, root, *arguments)

    def call_everywhere(self, script: Script, *arguments: Any) -> Deferred[list[Any]]:
        """Call a script in each partition, in no order with others."""
        return together(self.call(root, script, *arguments) for root in self.roots)

    def call_later(self, root: str, script: Script, *arguments: Any) -> Deferred[Any]:
        """Call for what nobody, or nobody in a hurry, waits for."""
        return self._background.call(script, root, *arguments)


def chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut a sequence into pieces of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]
