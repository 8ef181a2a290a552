"""The metrics for Prometheus, collected at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

import tagcache
from tagcache.model.fetched import FreshCounts
from tagcache.model.interfaces import IDatabases
from tagcache.server.auth.rates import Rates
from tagcache.server.net.connections import Connections
from tagcache.server.observe.traffic import BUCKETS, Traffic

CONTENT_TYPE = b"text/plain; version=1.0.0; charset=utf-8"
# Name, description, and the field of Counters, then of Totals.
_COUNTERS = (
    ("keyspace_hits", "Look-ups that found their key.", "hits"),
    ("keyspace_misses", "Look-ups that did not find their key.", "misses"),
    ("stored_keys", "Entries stored, overwriting included.", "puts"),
    ("invalidated_keys", "Entries removed on request.", "invalidations"),
    ("expired_keys", "Expired entries reclaimed.", "expirations"),
    ("evicted_keys", "Entries evicted to make room.", "evictions"),
)
_HELD = (
    ("keys", "Entries, including expired ones that are not reclaimed yet.", "items"),
    ("tags", "Tags that entries carry.", "tags"),
    ("data_bytes", "Total length of all values.", "bytes"),
)
# Name, description, and the field of FreshCounts.
_FRESH_HELD = (
    ("leases", "Leases to compute a value that have not ended.", "leases"),
    ("stale_keys", "Stale entries that are kept for their grace.", "stale_items"),
)
_FRESH_COUNTERS = (
    ("leases_granted", "Leases granted.", "leases_granted"),
    ("leases_released", "Leases that were given back without a value.", "leases_released"),
    ("fills", "Values stored under a lease.", "fills"),
    ("fills_refused", "Values refused because they may have been outdated.", "fills_refused"),
    ("stale_served", "Look-ups answered with a stale entry.", "stale_served"),
)
_BOUNDS = [*(repr(bound) for bound in BUCKETS), "+Inf"]


class Metrics:
    """A prometheus_client collector that reads running totals; it counts nothing itself.

    What belongs to one of the ``databases`` has its number as the label ``db``.

    ``lag`` and ``uptime`` return seconds; ``streams`` returns the number of open streams,
    ``waiting`` the number of look-ups that wait for a value; ``persistence`` and ``engine`` return
    these parts of INFO.
    """

    def __init__(
        self,
        databases: IDatabases,
        connections: Connections,
        traffic: Traffic,
        rates: Rates,
        persistence: Callable[[], dict[str, Any]],
        lag: Callable[[], float],
        streams: Callable[[], int],
        waiting: Callable[[], int],
        uptime: Callable[[], float],
        engine: Callable[[], dict[str, Any]],
    ) -> None:
        self._databases = databases
        self._connections = connections
        self._traffic = traffic
        self._rates = rates
        self._persistence = persistence
        self._lag = lag
        self._streams = streams
        self._waiting = waiting
        self._uptime = uptime
        self._engine = engine
        # Use a separate registry, which does not show the metrics of other code.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Return nothing, so that the registration does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        yield from self._of_databases()
        yield from self._of_engine()
        yield from self._of_connections()
        yield from self._of_traffic()
        yield from self._of_server()

    def _of_databases(self) -> Iterator[Metric]:
        databases = [(str(number), engine) for number, engine in self._databases]
        counters = [(number, engine.counters()) for number, engine in databases]
        totals = [(number, engine.held()) for number, engine in databases]
        for name, about, counted in _COUNTERS:
            counts = CounterMetricFamily(f"tagcache_{name}", about, labels=["db"])
            for number, each in counters:
                counts.add_metric([number], getattr(each, counted))
            yield counts
        for name, about, held in _HELD:
            sizes = GaugeMetricFamily(f"tagcache_{name}", about, labels=["db"])
            for number, total in totals:
                sizes.add_metric([number], getattr(total, held))
            yield sizes
        yield from _fresh([(number, engine.fresh_counts()) for number, engine in databases])
        backlog = GaugeMetricFamily(
            "tagcache_reaper_backlog", "Removed entries that still hold memory.", labels=["db"]
        )
        memory = GaugeMetricFamily(
            "tagcache_database_memory_bytes",
            "Estimated memory of the entries of a database; not known with Redis.",
            labels=["db"],
        )
        for number, engine in databases:
            backlog.add_metric([number], engine.backlog)
            if engine.store is not None:
                memory.add_metric([number], engine.memory)
        yield backlog
        yield memory
        yield _gauge("waiting_fetches", "Look-ups that wait for a value.", self._waiting())
        whole = self._databases
        yield _gauge("memory_used_bytes", "Estimated memory of all entries.", whole.memory)
        yield _gauge("memory_max_bytes", "cache.max_memory; 0: no limit.", whole.max_memory)

    def _of_engine(self) -> Iterator[Metric]:
        engine = self._engine()
        yield _gauge(
            "engine_up",
            "1 while the engine can be reached.",
            int(engine.get("status", "ok") == "ok"),
        )
        near = engine.get("near_cache")
        if near is None:
            return
        yield _gauge("near_fresh", "1 while the near cache may answer.", int(near["fresh"]))
        yield _gauge("near_keys", "Entries in the near cache.", near["items"])
        yield _gauge("near_memory_bytes", "Memory of the near cache.", near["memory_used_bytes"])
        yield _gauge("near_memory_max_bytes", "engine.near_cache_mb.", near["max_memory_bytes"])
        yield _counter("near_hits", "Look-ups answered from the near cache.", near["hits"])
        yield _counter("near_evicted_keys", "Entries evicted to make room.", near["evictions"])
        yield _counter("near_cleared", "How often the near cache was cleared.", near["cleared"])

    def _of_connections(self) -> Iterator[Metric]:
        connections = self._connections
        bytes_in, bytes_out = connections.transferred()
        yield _gauge(
            "connected_clients",
            "Connections that count towards max_connections.",
            connections.clients,
        )
        yield _counter("connections_received", "Connections accepted.", connections.total)
        yield _counter("rejected_connections", "Rejected connections.", connections.refused)
        yield _counter("net_input_bytes", "Bytes received.", bytes_in)
        yield _counter("net_output_bytes", "Bytes sent.", bytes_out)
        yield _gauge("event_streams", "Open streams of GET /events.", self._streams())
        yield _counter("rate_limited", "Requests beyond the rate limit.", self._rates.refused)

    def _of_traffic(self) -> Iterator[Metric]:
        traffic = self._traffic
        commands = CounterMetricFamily(
            "tagcache_commands", "Commands on the cache port.", labels=["cmd"]
        )
        for verb, count in sorted(traffic.commands().items()):
            commands.add_metric([verb], count)
        yield commands
        errors = CounterMetricFamily(
            "tagcache_command_errors", "Commands answered with ERR.", labels=["error"]
        )
        for error, count in sorted(traffic.errors.items()):
            errors.add_metric([error], count)
        yield errors
        requests = CounterMetricFamily(
            "tagcache_http_requests", "HTTP requests by route.", labels=["route"]
        )
        for route, count in sorted(traffic.routes.items()):
            requests.add_metric([route], count)
        yield requests
        failed = CounterMetricFamily(
            "tagcache_http_errors",
            "HTTP requests answered with status 400 or higher.",
            labels=["code"],
        )
        for code, count in sorted(traffic.failed_requests.items()):
            failed.add_metric([str(code)], count)
        yield failed
        durations = HistogramMetricFamily(
            "tagcache_command_duration_seconds",
            "Seconds from reading to the reply, for a sample of all commands; commands that "
            "arrived together count once, with their total.",
            labels=["cmd"],
        )
        for command, histogram in sorted(traffic.histograms.items()):
            buckets = []
            total = 0
            for bound, count in zip(_BOUNDS, histogram.counts, strict=True):
                total += count
                buckets.append((bound, float(total)))
            durations.add_metric([command], buckets, histogram.sum)
        yield durations
        yield _counter(
            "slow_commands", "Commands slower than logging.slow_command_ms.", traffic.slow_total
        )

    def _of_server(self) -> Iterator[Metric]:
        yield _gauge(
            "reactor_lag_seconds",
            "The worst delay of a timer in the last ten seconds.",
            self._lag(),
        )
        yield _gauge("uptime_seconds", "Seconds since the start.", self._uptime())
        build = GaugeMetricFamily("tagcache_build_info", "Always 1.", labels=["version"])
        build.add_metric([tagcache.__version__], 1)
        yield build
        snapshots = self._persistence()
        age = snapshots["snapshot_age_seconds"]
        if age is not None:
            yield _gauge("snapshot_age_seconds", "Seconds since the last snapshot.", age)
        yield _gauge(
            "snapshot_failed",
            "1 if the last snapshot could not be written.",
            int(snapshots["snapshot_error"] is not None),
        )


def _fresh(counts: list[tuple[str, FreshCounts]]) -> Iterator[Metric]:
    """Yield the metrics of leases and stale entries, from the counts of each database."""
    kinds: list[tuple[type[Metric], tuple[tuple[str, str, str], ...]]] = [
        (GaugeMetricFamily, _FRESH_HELD),
        (CounterMetricFamily, _FRESH_COUNTERS),
    ]
    for kind, rows in kinds:
        for name, about, counted in rows:
            family: Any = kind(f"tagcache_{name}", about, labels=["db"])  # type: ignore[call-arg]
            for number, each in counts:
                family.add_metric([number], getattr(each, counted))
            yield family


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"tagcache_{name}", about, value=value)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"tagcache_{name}", about, value=value)
