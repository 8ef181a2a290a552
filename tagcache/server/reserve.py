"""Memory put by for the moment when the system gives no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from tagcache.interfaces import ICache

# Address space only: the system gives pages when they are written to, and these never are.
PIECE_BYTES = 2**20
PIECES = 16
# Fewer would not last for the next shortage.
FEWEST_PIECES = 4
CHECK_SECONDS = 1.0
# Where memory is in pieces, a reserve may not be had again though much was removed.
ENOUGH_REMOVED = 0.9

log = Logger(namespace="tagcache.memory")


class Reserve:
    """Held until an allocation fails somewhere; then let go of, and the cache stores no more.

    So there is memory to read requests, to answer them and to remove entries. Storing goes on
    once there is twice as much as the reserve takes, or a tenth of the entries' memory was given
    back. ``allocate`` returns so many bytes, or raises MemoryError.
    """

    def __init__(
        self, cache: ICache, reactor: Any, allocate: Callable[[int], object] = bytearray
    ) -> None:
        self._cache = cache
        self._reactor = reactor
        self._allocate = allocate
        self._level = 0
        self._pieces = self._get(PIECES)

    def release(self) -> None:
        """Let go of the reserve: an allocation has failed."""
        self._pieces.clear()
        if self._cache.refusing:
            return
        self._cache.refusing = True
        self._reactor.callLater(CHECK_SECONDS, self._look)
        self._level = self._cache.memory
        log.error(
            "the system gives no more memory (entries take about {memory} bytes): stores are "
            "refused until some is given back; cache.max_memory below that would have evicted",
            memory=self._level,
        )

    def _look(self) -> None:
        """Store again if there is memory again."""
        pieces = self._get(2 * PIECES)
        much_removed = self._cache.memory <= ENOUGH_REMOVED * self._level
        enough = FEWEST_PIECES if much_removed else 2 * PIECES
        if len(pieces) < enough:
            pieces.clear()
            self._reactor.callLater(CHECK_SECONDS, self._look)
            return
        self._pieces = pieces[:PIECES]
        self._cache.refusing = False
        log.info("there is memory again: storing goes on")

    def _get(self, count: int) -> list[object]:
        pieces: list[object] = []
        try:
            while len(pieces) < count:
                pieces.append(self._allocate(PIECE_BYTES))
        except MemoryError:
            pass
        return pieces
