"""Reclaim expired entries at intervals, and invalidated ones at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.config.settings import Settings
from tagcache.model.interfaces import IMaintained
from tagcache.server.upkeep.slices import Slices

# Reclaiming this many entries frees roughly ten megabytes.
MUCH = 20_000
# How many bytes the memory outside the entries may grow before a trim.
_SLACK_BYTES = 16 * 2**20

log = Logger(namespace="tagcache.sweeper")


class Sweeper(Service):
    """Sweeps the cache every ``server.cleanup_interval_seconds``, in slices.

    Invalidated entries that still hold memory are reclaimed at once. After many of them, it calls
    ``trim``, which returns freed memory to the system. It also does so when ``resident`` (bytes)
    has grown well beyond the cache's own estimate, for example when small values overwrite large
    ones.
    """

    def __init__(
        self,
        cache: IMaintained,
        slices: Slices,
        settings: Settings,
        reactor: Any,
        trim: Callable[[], object],
        resident: Callable[[], int],
    ) -> None:
        self._cache = cache
        self._trim = trim
        self._resident = resident
        # The memory outside the entries after the last trim, or the minimum since then.
        self._besides: int | None = None
        self._trimming = False
        self._slices = slices
        self._interval = settings.server.cleanup_interval_seconds
        self._reactor = reactor
        self._loop: LoopingCall | None = None
        self._reclaiming = False
        self._much = False
        cache.on_garbage = self._reclaim

    def configure(self, settings: Settings) -> None:
        """Take a new interval; it counts from now."""
        self._interval = settings.server.cleanup_interval_seconds
        if self._loop is not None:
            self._stop()
            self._start()

    def startService(self) -> None:
        super().startService()
        self._start()

    def stopService(self) -> None:
        super().stopService()
        self._stop()

    def _start(self) -> None:
        # Use a new loop each time: one that was stopped during a sweep has not ended yet.
        self._loop = LoopingCall(self._sweep)
        self._loop.clock = self._reactor
        self._loop.start(self._interval, now=False)

    def _stop(self) -> None:
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self._loop = None

    def _sweep(self) -> Deferred[None]:
        # The loop waits for the Deferred, so sweeps never overlap. A failure would end the loop.
        if self._cache.backlog:
            self._reclaim()
        try:
            self._look_at_resident()
        except Exception:
            log.failure("cannot read the memory use of the process; the next sweep tries again")
        return self._slices.run(self._cache.sweep()).addErrback(self._failed)

    def _look_at_resident(self) -> None:
        """Trim if much freed memory has not been returned to the system."""
        if self._trimming:
            return
        estimate = self._cache.memory
        besides = self._resident() - estimate
        if self._besides is None or besides < self._besides:
            self._besides = besides
        if besides > self._besides + max(_SLACK_BYTES, estimate // 10):
            self._trimming = True
            maybeDeferred(self._trim).addErrback(self._failed).addCallback(self._trimmed)

    def _trimmed(self, _: object) -> None:
        # The rest is in use or cannot be returned, so do not try again for it.
        self._trimming = False
        self._besides = self._resident() - self._cache.memory

    def _reclaim(self) -> None:
        if not self._reclaiming:
            self._reclaiming = True
            self._much = self._much or self._cache.backlog >= MUCH
            done = self._slices.run(self._cache.reclaim())
            done.addCallbacks(self._reclaimed, self._reclaim_failed)

    def _reclaimed(self, _: object) -> None:
        self._reclaiming = False
        if self._cache.backlog:
            # More entries were invalidated in the meantime.
            self._reclaim()
        elif self._much:
            self._much = False
            self._trim()

    def _reclaim_failed(self, failure: Failure) -> None:
        self._reclaiming = False
        self._failed(failure)

    def _failed(self, failure: Failure) -> None:
        log.failure("reclaiming failed; the next sweep tries again", failure)
