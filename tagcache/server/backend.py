"""The remote engine as a part of the server: whether it can be reached, and its upkeep."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError
from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tagcache.config.settings import Settings
from tagcache.errors import BackendUnavailable, CommandError
from tagcache.interfaces import IRemoteCache
from tagcache.remote.lanes import Client, Lane

# How long it waits between attempts while the engine is away, and at most.
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0

log = Logger(namespace="tagcache.backend")


class Backend(Service):
    """Looks after the engine: removes what has expired, gives memory back, tells what was counted.

    That happens every ``server.cleanup_interval_seconds``, and shows whether the engine can be
    reached: ``trouble`` says why not, and is empty while it can.
    """

    def __init__(
        self, remote: IRemoteCache, lanes: list[Lane], client: Client, place: str, reactor: Any
    ) -> None:
        self.trouble = "not reached yet"
        self._remote = remote
        self._lanes = lanes
        self._client = client
        self._place = place
        self._reactor = reactor
        self._interval = 1.0
        self._last_error = ""
        self._told = False
        self._round: Deferred[Any] | None = None

    def configure(self, settings: Settings) -> None:
        """Take the interval and ``engine.timeout_ms``; a command under way keeps its own."""
        self._interval = settings.server.cleanup_interval_seconds
        for lane in self._lanes:
            lane.timeout = settings.engine.timeout_ms / 1000

    def note(self, error: str) -> None:
        """Note an error that keeps commands from being carried out."""
        self._last_error = error
        if not self.trouble:
            self._gone(error)

    def startService(self) -> None:
        super().startService()
        self._round = self._keep_up()

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        super().stopService()
        with suppress(CommandError):
            yield self._remote.tell_counts()
        if self._round is not None:
            self._round.cancel()
        yield Deferred.fromFuture(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        for lane in self._lanes:
            await lane.close()
        with suppress(RedisError, OSError):
            await self._client.aclose()

    @inlineCallbacks
    def _keep_up(self) -> Generator[Deferred[Any], Any, None]:
        pause = _FIRST_PAUSE
        while self.running:
            try:
                yield self._remote.settle()
                yield self._remote.tell_counts()
                yield self._remote.reclaim()
            except BackendUnavailable as error:
                self._gone(self._last_error or str(error))
                wait, pause = pause, min(pause * 2, _LONGEST_PAUSE)
            except CommandError as error:
                # It answers, but is full.
                self._back()
                log.warn("{place}: upkeep is put off: {why}", place=self._place, why=str(error))
                wait = self._interval
            except Exception:
                if not self.running:
                    return
                log.failure("{place}: upkeep failed; it is tried again", place=self._place)
                wait = max(self._interval, 1.0)
            else:
                self._back()
                wait, pause = self._interval, _FIRST_PAUSE
            if self.running:
                yield deferLater(self._reactor, wait)

    def _gone(self, why: str) -> None:
        self.trouble = why
        if not self._told:
            self._told = True
            log.error(
                "the engine {place} can not be used: {why}. Commands answer ERR "
                "backend_unavailable; it is tried again and again",
                place=self._place,
                why=why,
            )

    def _back(self) -> None:
        if self.trouble:
            log.info("the engine {place} can be used", place=self._place)
        self.trouble = ""
        self._last_error = ""
        self._told = False
