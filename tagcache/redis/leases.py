"""The leases of one client: with them it may fill what it looked up in vain."""

from __future__ import annotations

from collections import OrderedDict

_MOST_LEASES = 1024


class Leases:
    """The leases that came with misses, by key; the oldest are dropped when there are too many.

    Ending the lease of a key also ends that of a look-up that is still under way.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, int] = OrderedDict()
        # By key, the number of its last look-up under way, unless its lease has ended.
        self._looking_up: dict[bytes, int] = {}
        self._look_ups = 0

    def begin(self, key: bytes) -> int:
        """Begin a look-up; return its number for ``end``."""
        self._look_ups += 1
        self._looking_up[key] = self._look_ups
        return self._look_ups

    def end(self, key: bytes, number: int, lease: int | None = None) -> None:
        """End a look-up; ``lease`` is that of a miss."""
        if self._looking_up.get(key) != number:
            return
        del self._looking_up[key]
        if lease is None:
            return
        self._held.pop(key, None)
        self._held[key] = lease
        if len(self._held) > _MOST_LEASES:
            self._held.popitem(last=False)

    def take(self, key: bytes) -> int | None:
        """Return the lease of a key, if there is one, and end it."""
        self._looking_up.pop(key, None)
        return self._held.pop(key, None)

    def clear(self) -> None:
        """End all leases."""
        self._looking_up.clear()
        self._held.clear()
