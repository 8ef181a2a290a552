"""Memory put by for the moment when the system gives no more."""

from __future__ import annotations

from collections.abc import Callable
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Any

from twisted.logger import Logger

from tagcache.model.interfaces import ICache

# Address space only: the system gives pages when they are written to, and these never are.
PIECE_BYTES = 2**20
PIECES = 16
# What must be there besides, and how often that is looked at: where memory ends unforeseen, that
# may be in the reactor or the log.
AHEAD_BYTES = PIECES * PIECE_BYTES
AHEAD_SECONDS = 0.1
# With these there is enough to foresee the next shortage.
MANY_PIECES = 3 * PIECES
# Fewer would not last for the next shortage.
FEWEST_PIECES = 4
CHECK_SECONDS = 1.0
# Where memory is in pieces, a reserve may not be had again though much was removed.
ENOUGH_REMOVED = 0.9

log = Logger(namespace="tagcache.memory")


def address_space(size: int) -> object:
    """Return that much address space, in bytes; raises MemoryError.

    It is given back as soon as nobody has it, which is not so of what malloc gives.
    """
    try:
        return mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError from error


class MemoryReserve:
    """Held until memory runs short; then let go of, and the cache stores no more.

    So there is memory to read requests, to answer them and to remove entries. Storing goes on
    once there is thrice as much as the reserve takes, or a tenth of the entries' memory was given
    back. ``allocate`` returns so many bytes, or raises MemoryError.
    """

    def __init__(
        self, cache: ICache, reactor: Any, allocate: Callable[[int], object] = address_space
    ) -> None:
        self._cache = cache
        self._reactor = reactor
        self._allocate = allocate
        self._level = 0
        # Not where there never is as much as that, as when memory is in pieces.
        self._foresees = False
        self._pieces = self._get(PIECES)
        reactor.callLater(AHEAD_SECONDS, self._look_ahead)

    def release(self) -> None:
        """Let go of the reserve: an allocation has failed."""
        self._pieces.clear()
        self._foresees = False
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

    def _look_ahead(self) -> None:
        """Refuse stores before memory has come to its end, if that can be seen."""
        self._reactor.callLater(AHEAD_SECONDS, self._look_ahead)
        if self._cache.refusing:
            return
        if self._foresees:
            if not self._can_be_had(AHEAD_BYTES):
                self.release()
        elif self._can_be_had(2 * AHEAD_BYTES):
            self._pieces += self._get(PIECES - len(self._pieces))
            self._foresees = True

    def _can_be_had(self, size: int) -> bool:
        try:
            self._allocate(size)
        except MemoryError:
            return False
        return True

    def _look(self) -> None:
        """Store again if there is memory again."""
        pieces = self._get(MANY_PIECES)
        much_removed = self._cache.memory <= ENOUGH_REMOVED * self._level
        enough = FEWEST_PIECES if much_removed else MANY_PIECES
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
