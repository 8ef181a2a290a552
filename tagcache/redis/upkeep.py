"""Looks after the entries in Redis, and knows whether Redis can be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from redis.exceptions import RedisClusterException, RedisError
from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tagcache.config.settings import Settings
from tagcache.errors import BackendUnavailable, CommandError
from tagcache.model.statistics import Counters, EngineTotals
from tagcache.redis.availability import Availability
from tagcache.redis.cache import RedisCache
from tagcache.redis.near import STALENESS_SECONDS, Near
from tagcache.redis.pipeline import Client, Lane
from tagcache.redis.policy import EvictingPolicy, PolicyCheck, is_evicting
from tagcache.redis.servers import ServerState, drop_connections, look_at
from tagcache.redis.tracking import Tracking

# How often it looks at the servers at least.
_LOOK_AGAIN_SECONDS = 60.0
# How long it waits between attempts while the engine is away, and at most.
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
# After which servers that do not tell of their state are given up.
_LOOK_SECONDS = 5.0
# So many times as long as listing the tags took, they are not listed again.
_TAGS_SHARE = 100

log = Logger(namespace="tagcache.backend")


class Upkeep(Service):
    """Removes what has expired, frees memory, and passes on what was counted, again and again.

    It does so every ``server.cleanup_interval_seconds``, and so finds out whether Redis can be
    reached. ``seen`` is what the engine held the last time. ``memory`` and ``max_memory`` are
    those of the Redis servers, with everything else that they hold.
    """

    def __init__(
        self,
        cache: RedisCache,
        lanes: list[Lane],
        client: Client,
        availability: Availability,
        reactor: Any,
        policies: PolicyCheck,
        near: Near | None = None,
        tracking: Tracking | None = None,
    ) -> None:
        self.seen = EngineTotals(0, 0, 0, 0, 0, 0, Counters(0, 0, 0, 0, 0, 0))
        self._servers: list[ServerState] = []
        self._warned: set[str] = set()
        # When the tags may be listed again only to count them.
        self._tags_due = 0.0
        self._cache = cache
        self._lanes = lanes
        self._client = client
        self.availability = availability
        self._reactor = reactor
        self._policies = policies
        self._near = near
        self._tracking = tracking
        self._interval = 1.0
        self._round: Deferred[Any] | None = None

    @property
    def memory(self) -> int:
        """The bytes that the database servers use."""
        return sum(each.used_memory for each in self._servers)

    @property
    def max_memory(self) -> int:
        """The bytes that they may use; 0 where one has no limit."""
        limits = [each.max_memory for each in self._servers]
        return sum(limits) if all(limits) else 0

    def measured(self, held: EngineTotals) -> EngineTotals:
        """Return what the engine holds, with the memory of the servers as it was seen last."""
        return replace(held, memory=self.memory, max_memory=self.max_memory)

    def describe(self) -> dict[str, Any]:
        """Return what INFO tells of the engine, as a JSON object."""
        return {
            "backend": "redis",
            "url": self.availability.place,
            "status": "degraded" if self.availability.trouble else "ok",
            "detail": self.availability.trouble or None,
            "servers": [each.describe() for each in self._servers],
            "near_cache": None if self._near is None else _described(self._near),
        }

    def configure(self, settings: Settings) -> None:
        """Take the interval, ``engine.timeout_ms`` and ``engine.allow_evicting_policies``.

        A command under way keeps its own time.
        """
        self._policies.allows_evicting = settings.engine.allow_evicting_policies
        self._interval = settings.server.cleanup_interval_seconds
        for lane in self._lanes:
            lane.timeout = settings.engine.timeout_ms / 1000

    def startService(self) -> None:
        super().startService()
        if self._tracking is not None:
            self._tracking.start()
        self._round = self._keep_up()

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        super().stopService()
        with suppress(CommandError):
            yield self._cache.tell_counts()
        if self._round is not None:
            self._round.cancel()
        yield Deferred.fromFuture(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        if self._tracking is not None:
            await self._tracking.close()
        for lane in self._lanes:
            await lane.close()
        with suppress(RedisError, OSError):
            await self._client.aclose()

    @inlineCallbacks
    def _keep_up(self) -> Generator[Deferred[Any], Any, None]:
        place, pause = self.availability.place, _FIRST_PAUSE
        while self.running:
            try:
                yield self._cache.settle()
                yield self._cache.tell_counts()
                yield self._cache.reclaim()
                yield self._look()
            except BackendUnavailable as error:
                self.availability.timed_out(str(error))
                wait, pause = pause, min(pause * 2, _LONGEST_PAUSE)
            except (RedisError, RedisClusterException, OSError) as error:
                self.availability.lost(str(error) or type(error).__name__)
                wait, pause = pause, min(pause * 2, _LONGEST_PAUSE)
            except CommandError as error:
                # It answers, but is full.
                self.availability.reached()
                log.warn(
                    "{place}: upkeep is put off: {why}",
                    place=place,
                    why=str(error),
                )
                wait = min(self._interval, _LOOK_AGAIN_SECONDS)
            except Exception:
                if not self.running:
                    return
                log.failure("{place}: upkeep failed; it is tried again", place=place)
                wait = max(self._interval, 1.0)
            else:
                self.availability.reached()
                # What is asked of the servers may change at any time.
                wait, pause = min(self._interval, _LOOK_AGAIN_SECONDS), _FIRST_PAUSE
            if self.running:
                yield deferLater(self._reactor, wait)

    @inlineCallbacks
    def _look(self) -> Generator[Deferred[Any], Any, None]:
        """See how the engine stands, for those who cannot wait to be told."""
        start = self._reactor.seconds()
        due = start >= self._tags_due
        self.seen = self.measured((yield self._cache.held(due)))
        now = self._reactor.seconds()
        if due:
            self._tags_due = now + _TAGS_SHARE * (now - start)
        looking = asyncio.wait_for(look_at(self._client), _LOOK_SECONDS)
        self._servers = yield Deferred.fromFuture(asyncio.ensure_future(looking))
        yield from self._look_at_policies()

    def _look_at_policies(self) -> Generator[Deferred[Any], Any, None]:
        """See what the servers may evict now. Raises EvictingPolicy."""
        for each in self._servers:
            try:
                self._policies.check(each.address, each.policy)
            except EvictingPolicy:
                # New connections are refused by the same check.
                if self._tracking is not None:
                    self._tracking.begin_anew()
                dropping = asyncio.ensure_future(drop_connections(self._client))
                yield Deferred.fromFuture(dropping)
                raise
            if each.address in self._warned:
                continue
            if is_evicting(each.policy):
                log.warn(
                    "{address} has maxmemory-policy {policy}, which may evict the record of an "
                    "invalidation: what was invalidated may be read again",
                    address=each.address,
                    policy=each.policy,
                )
            elif not each.policy:
                log.warn(
                    "{address} does not tell its maxmemory-policy: it must be noeviction or a "
                    "volatile one",
                    address=each.address,
                )
            else:
                continue
            self._warned.add(each.address)


def _described(near: Near) -> dict[str, Any]:
    held = near.cache.held()
    return {
        "fresh": near.is_fresh,
        "staleness_bound_ms": round(STALENESS_SECONDS * 1000),
        "items": held.items,
        "memory_used_bytes": near.cache.memory,
        "max_memory_bytes": near.cache.max_memory,
        "hits": near.hits,
        "evictions": near.cache.counters().evictions,
        "cleared": near.cleared,
    }
