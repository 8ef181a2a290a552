"""Upkeep of the Redis engine: expiry, memory, counts, and the state of the servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Coroutine
from contextlib import suppress
from dataclasses import replace
from random import SystemRandom
from typing import Any, TypeVar

from redis.exceptions import RedisError
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.config.settings import Settings
from tagcache.errors import BackendUnavailable, CommandError
from tagcache.model.numbered import Numbered
from tagcache.model.statistics import EngineTotals
from tagcache.redis.availability import Availability
from tagcache.redis.caches import RedisCaches
from tagcache.redis.deferreds import as_deferred
from tagcache.redis.election import Election, Report
from tagcache.redis.lease_ends import LeaseEnds
from tagcache.redis.near import STALENESS_SECONDS, Near
from tagcache.redis.pipeline import ScriptPipeline
from tagcache.redis.policy import EvictingPolicy, PolicyCheck, is_evicting
from tagcache.redis.servers import Servers, ServerState, look_at
from tagcache.redis.tracking import Tracking

# The longest time between two checks of the servers.
_LOOK_AGAIN_SECONDS = 60.0
# A server is elected for this many intervals, and others stand for election as often.
_TERM = 5
# The first and the longest pause between attempts while the engine is away.
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
# How long servers may take to report their state.
_LOOK_SECONDS = 5.0
# The tags are not listed again for this many times the duration of the last listing.
_TAGS_SHARE = 100

T = TypeVar("T")

log = Logger(namespace="tagcache.backend")


class Upkeep(Service):
    """Removes dead entries, frees memory and sends counts, in rounds.

    A round begins every ``server.cleanup_interval_seconds``. Only the elected server removes
    entries; the others read its report every few rounds. A server that is in trouble, or has just
    started, does not stand for election, and does the whole round: this shows whether each
    partition can be used. All set ``seen`` of each of the ``caches``. ``memory`` and ``max_memory``
    are those of the Redis servers, including other data in them. ``nears`` are the near caches by
    number.
    """

    def __init__(
        self,
        caches: RedisCaches,
        pipelines: list[ScriptPipeline],
        servers: Servers,
        availability: Availability,
        reactor: Any,
        policies: PolicyCheck,
        nears: Numbered[Near] | None = None,
        tracking: Tracking | None = None,
        ends: LeaseEnds | None = None,
        new_token: Callable[[], int] = lambda: SystemRandom().getrandbits(63) or 1,
    ) -> None:
        self._election = Election(caches[0], new_token())
        # When to stand for election again, and when to ask the servers for their state.
        self._election_due = self._look_due = 0.0
        self._states: list[ServerState] = []
        self._warned: set[str] = set()
        # When the tags may next be listed just to count them.
        self._tags_due = 0.0
        # When to look next for databases that other servers use, if no report names them.
        self._find_due = 0.0
        self._caches = caches
        self._pipelines = pipelines
        self._servers = servers
        self.availability = availability
        self._reactor = reactor
        self._policies = policies
        self._ends = ends
        self._nears = nears
        self._tracking = tracking
        self._interval = 1.0
        self._round: Deferred[Any] | None = None

    @property
    def memory(self) -> int:
        """The bytes that the Redis servers use."""
        return sum(each.used_memory for each in self._states)

    @property
    def max_memory(self) -> int:
        """The bytes that they may use; 0 if one of them has no limit."""
        limits = [each.max_memory for each in self._states]
        return sum(limits) if all(limits) else 0

    def measured(self, held: EngineTotals) -> EngineTotals:
        """Return the totals with the memory of the servers in the last round."""
        return replace(held, memory=self.memory, max_memory=self.max_memory)

    def describe(self) -> dict[str, Any]:
        """Return the part of INFO about the engine, as a JSON object."""
        return {
            "backend": "redis",
            "url": self.availability.place,
            "status": "degraded" if self.availability.trouble else "ok",
            "detail": self.availability.trouble or None,
            "servers": [each.describe() for each in self._states],
            "near_cache": None if self._nears is None else _described(self._nears),
        }

    def configure(self, settings: Settings) -> None:
        """Apply the interval and what may change in ``[engine]``.

        A command in progress keeps the timeout with which it began.
        """
        self._policies.allows_evicting = settings.engine.allow_evicting_policies
        self._servers.configure(
            settings.engine.flush_on_failover,
            settings.engine.wait_replicas,
            settings.engine.wait_ms,
        )
        self._interval = settings.server.cleanup_interval_seconds
        for pipeline in self._pipelines:
            pipeline.timeout = settings.engine.timeout_ms / 1000

    def startService(self) -> None:
        super().startService()
        if self._ends is not None:
            self._ends.start()
        if self._tracking is not None:
            self._tracking.start()
        self._round = self._keep_up()

    @as_deferred
    async def stopService(self) -> None:
        super().stopService()
        for _, cache in self._caches:
            with suppress(CommandError):
                await cache.send_counts()
        if not self.availability.trouble:
            with suppress(CommandError):
                await self._election.resign()
        if self._round is not None:
            self._round.addErrback(Failure.trap, CancelledError)
            self._round.cancel()
        await Deferred.fromFuture(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        if self._ends is not None:
            await self._ends.close()
        if self._tracking is not None:
            await self._tracking.close()
        for pipeline in self._pipelines:
            await pipeline.close()
        await self._servers.close()

    @as_deferred
    async def _keep_up(self) -> None:
        place, pause = self.availability.place, _FIRST_PAUSE
        while self.running:
            self.availability.begin()
            try:
                await self._do_round()
            except BackendUnavailable as error:
                self.availability.timed_out(str(error))
                wait, pause = pause, min(pause * 2, _LONGEST_PAUSE)
            except (RedisError, OSError) as error:
                self.availability.lost(str(error) or type(error).__name__)
                wait, pause = pause, min(pause * 2, _LONGEST_PAUSE)
            except CommandError as error:
                # Redis is available, but its memory is full.
                self.availability.reached()
                log.warn(
                    "{place}: upkeep is postponed: {why}",
                    place=place,
                    why=str(error),
                )
                wait = self._pause
            except Exception:
                if not self.running:
                    return
                log.failure("{place}: upkeep failed; the next round tries again", place=place)
                wait = max(self._interval, 1.0)
            else:
                self.availability.reached()
                wait, pause = self._pause, _FIRST_PAUSE
            if self.running:
                await deferLater(self._reactor, wait)

    @property
    def _pause(self) -> float:
        # The settings of the servers may change at any time.
        return min(self._interval, _LOOK_AGAIN_SECONDS)

    async def _do_round(self) -> None:
        for _, cache in self._caches:
            await cache.send_counts()
        if self._tracking is not None:
            # A near cache depends on knowing all nodes.
            await self._wait_for(self._servers.look())
        start = self._reactor.seconds()
        if self.availability.trouble:
            await self._caches[0].check_layout()
            await self._do_all(start)
        elif self._election.is_elected or start >= self._election_due:
            term = _TERM * self._pause
            self._election_due = start + term
            # Redis may have been emptied, and used by a server with other settings.
            await self._caches[0].check_layout()
            report = await self._election.stand(term, Report.of(self._states, self._caches))
            if report is None:
                await self._do_all(start)
            else:
                await self._follow(report)

    async def _do_all(self, start: float) -> None:
        if start >= self._find_due:
            await self._caches.find_used()
            self._find_due = start + _LOOK_AGAIN_SECONDS
        await self._keep_up_databases({})
        await self._look()

    async def _keep_up_databases(self, kept: Container[int]) -> None:
        """Remove what is dead from all databases but those that are ``kept`` up elsewhere."""
        start = self._reactor.seconds()
        due = start >= self._tags_due
        for number, cache in self._caches:
            if number not in kept:
                cache.seen = self.measured(await cache.keep_up(due))
        now = self._reactor.seconds()
        if due:
            self._tags_due = now + _TAGS_SHARE * (now - start)

    async def _follow(self, report: Report) -> None:
        """Take over what the elected server saw."""
        for number, seen in report.databases.items():
            if number < self._caches.count:
                seen.apply(self._caches[number])
        # It has not found the others yet, or has fewer databases.
        await self._keep_up_databases(report.databases)
        await self._wait_for(self._servers.look())
        await self._see(report.servers)
        if self._reactor.seconds() >= self._look_due:
            await self._look()

    async def _look(self) -> None:
        """Ask the servers for their state."""
        looking = asyncio.wait_for(look_at(self._servers), _LOOK_SECONDS)
        await self._see(await self._wait_for(looking))
        self._look_due = self._reactor.seconds() + _LOOK_AGAIN_SECONDS

    async def _see(self, states: list[ServerState]) -> None:
        """Note the state of the servers, for calls that cannot wait for it."""
        before = {each.address: each.home for each in self._states}
        self._states = states
        if any(before.get(each.address, each.home) != each.home for each in states):
            # A server was a replica for a while; connections from before that may still be open.
            await self._wait_for(self._servers.drop())
        await self._look_at_policies()

    @staticmethod
    def _wait_for(work: Coroutine[Any, Any, T]) -> Deferred[T]:
        return Deferred.fromFuture(asyncio.ensure_future(work))

    async def _look_at_policies(self) -> None:
        """Check the eviction policies. Raises EvictingPolicy."""
        for each in self._states:
            try:
                self._policies.check(each.address, each.policy)
            except EvictingPolicy:
                # New connections make the same check.
                if self._tracking is not None:
                    self._tracking.begin_anew()
                await self._wait_for(self._servers.drop())
                raise
            if each.address in self._warned:
                continue
            if is_evicting(each.policy):
                log.warn(
                    "{address} has maxmemory-policy {policy}, which may evict the record of an "
                    "invalidation, so that clients may read invalidated entries again",
                    address=each.address,
                    policy=each.policy,
                )
            elif not each.policy:
                log.warn(
                    "{address} does not report its maxmemory-policy: it must be noeviction or a "
                    "volatile one",
                    address=each.address,
                )
            else:
                continue
            self._warned.add(each.address)


def _described(nears: Numbered[Near]) -> dict[str, Any]:
    every = [near for _, near in nears]
    first = every[0]
    return {
        "fresh": first.is_fresh,
        "staleness_bound_ms": round(STALENESS_SECONDS * 1000),
        "items": sum(near.cache.held().items for near in every),
        "memory_used_bytes": sum(near.cache.memory for near in every),
        # The databases share one limit.
        "max_memory_bytes": first.cache.max_memory,
        "hits": sum(near.hits for near in every),
        "evictions": sum(near.cache.counters().evictions for near in every),
        "cleared": sum(near.cleared for near in every),
    }
