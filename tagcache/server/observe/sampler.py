"""Measures the server at intervals: the reactor's lag, and samples for the history."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogPublisher

from tagcache.model.interfaces import IMeasured
from tagcache.model.statistics import Counters
from tagcache.server.net.connections import Connections
from tagcache.server.observe.events import EventLog
from tagcache.server.observe.history import INTERVAL_SECONDS, History
from tagcache.server.observe.traffic import BUCKETS, Traffic, quantile

TICK_SECONDS = 0.25
_TICKS_A_SAMPLE = round(INTERVAL_SECONDS / TICK_SECONDS)
# The reported lag is the worst of this many ticks: ten seconds.
_LAGS = 40
KINDS = {
    "reads": (
        *("get", "fetch", "keys", "keys_by_tag"),
        *("GET /get/{key}", "GET /keys/{key}", "GET /keys", "GET /keys-by-tag"),
        *("POST /keys/bulk/get", "POST /search"),
    ),
    "writes": (
        *("put", "fill", "add", "incr", "decr", "touch"),
        *("POST /put", "POST /add", "POST /incr", "POST /decr", "PUT /keys/{key}"),
    ),
    "invalidations": (
        *("del", "inv_tag", "inv_tags_any", "inv_tags_all", "inv_keys", "flush"),
        *("soft_tag", "soft_tags_any", "soft_tags_all", "soft_keys"),
        *("DELETE /keys/{key}", "POST /invalidate-key", "POST /invalidate-tag"),
        *("POST /invalidate/tags", "POST /invalidate/keys", "POST /keys/bulk/delete"),
        "POST /flush",
    ),
}
_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}

log = Logger(namespace="tagcache.sampler")


class Sampler(Service):
    """Ticks four times a second, and takes a sample every two seconds.

    The lag of the reactor is the delay of a tick, because everything else that waits for the
    reactor is delayed as much. ``monotonic`` and ``wall`` return seconds. ``publish`` is called
    with each sample as a JSON array. ``process`` returns the processor time of this process in
    seconds and its resident memory in bytes. While the sampler runs, the event log observes the
    server's log.
    """

    def __init__(
        self,
        cache: IMeasured,
        connections: Connections,
        traffic: Traffic,
        history: History,
        events: EventLog,
        reactor: Any,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        process: Callable[[], tuple[float, int]],
        publish: Callable[[bytes], object],
    ) -> None:
        self._cache = cache
        self._connections = connections
        self._traffic = traffic
        self._history = history
        self._events = events
        self._monotonic = monotonic
        self._wall = wall
        self._process = process
        self._publish = publish
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor
        self._due = 0.0
        self._ticks = 0
        self._lags: deque[float] = deque(maxlen=_LAGS)
        self._worst = 0.0

    @property
    def lag(self) -> float:
        """The worst lag of the last ten seconds, in seconds."""
        return max(self._lags, default=0.0)

    def startService(self) -> None:
        super().startService()
        globalLogPublisher.addObserver(self._events)
        self._traffic.tick()
        self._before = self._look()
        self._due = self._monotonic() + TICK_SECONDS
        self._loop.start(TICK_SECONDS, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        globalLogPublisher.removeObserver(self._events)

    def _tick(self) -> None:
        now = self._monotonic()
        lag = max(now - self._due, 0.0)
        self._lags.append(lag)
        self._worst = max(self._worst, lag)
        # LoopingCall skips missed ticks, so skip them here, too.
        self._due += TICK_SECONDS * (lag // TICK_SECONDS + 1)
        self._traffic.tick()
        self._ticks += 1
        if self._ticks % _TICKS_A_SAMPLE == 0:
            try:
                self._sample()
            except Exception:
                # An error would end the loop.
                log.failure("a sample failed; the next one tries again")

    def _look(self) -> _Totals:
        kinds = dict.fromkeys([*KINDS, "others"], 0)
        traffic = self._traffic
        for name, count in (*traffic.commands().items(), *traffic.routes.items()):
            kinds[_KIND_OF.get(name, "others")] += count
        return _Totals(
            self._monotonic(),
            kinds,
            self._cache.counters(),
            *self._connections.transferred(),
            _added([each.counts for each in traffic.histograms.values()]),
            *self._process(),
        )

    def _sample(self) -> None:
        before, now = self._before, self._look()
        self._before = now
        seconds = now.moment - before.moment
        if seconds <= 0:
            return

        def rate(new: float, old: float) -> float:
            return (new - old) / seconds

        old, new = before.counters, now.counters
        held = self._cache.held()
        durations = [b - a for a, b in zip(before.durations, now.durations, strict=True)]
        worst, self._worst = self._worst, 0.0
        row = self._history.append(
            {
                "time": self._wall(),
                **{kind: rate(now.kinds[kind], before.kinds[kind]) for kind in now.kinds},
                "hits": rate(new.hits, old.hits),
                "misses": rate(new.misses, old.misses),
                "entries": held.items,
                "tags": held.tags,
                "memory": self._cache.memory,
                "max_memory": self._cache.max_memory,
                "evicted": rate(new.evictions, old.evictions),
                "expired": rate(new.expirations, old.expirations),
                "invalidated": rate(new.invalidations, old.invalidations),
                "connections": self._connections.clients,
                "lag": worst,
                "latency_p50": quantile(durations, 0.5),
                "latency_p99": quantile(durations, 0.99),
                "bytes_in": rate(now.bytes_in, before.bytes_in),
                "bytes_out": rate(now.bytes_out, before.bytes_out),
                "backlog": self._cache.backlog,
                "cpu": rate(now.processor, before.processor),
                "resident": now.resident,
            }
        )
        self._publish(row)


class _Totals:
    """The values of all counters at one time."""

    def __init__(
        self,
        moment: float,
        kinds: dict[str, int],
        counters: Counters,
        bytes_in: int,
        bytes_out: int,
        durations: list[int],
        processor: float,
        resident: int,
    ) -> None:
        self.moment = moment
        self.kinds = kinds
        self.counters = counters
        self.bytes_in = bytes_in
        self.bytes_out = bytes_out
        self.durations = durations
        self.processor = processor
        self.resident = resident


def _added(counts: Iterable[list[int]]) -> list[int]:
    total = [0] * (len(BUCKETS) + 1)
    for each in counts:
        total = [a + b for a, b in zip(total, each, strict=True)]
    return total
