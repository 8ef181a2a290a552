"""The server as one service: how it starts, reloads and stops."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from types import FrameType
from typing import Any, TypeVar

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

import tagcache
import twisted
from tagcache import native
from tagcache.config.loading import NEEDS_RESTART, SECRETS, Configuration
from tagcache.config.settings import DEFAULT_PASSWORD, Settings
from tagcache.errors import BackendUnavailable, ConfigurationError, ListenError, PersistenceError
from tagcache.model.fetched import FreshCounts
from tagcache.model.interfaces import IDatabases, IEngine
from tagcache.model.statistics import EngineTotals
from tagcache.model.views import Consistency
from tagcache.server import systemd
from tagcache.server.net.connections import Connections
from tagcache.server.net.factory import ServingFactory
from tagcache.server.net.listening import ListenerService
from tagcache.server.observe.logs import LogWriter
from tagcache.server.preflight import Preflight, raise_descriptor_limit
from tagcache.server.then import then, together
from tagcache.server.upkeep.persistence import Persistence
from tagcache.server.waits import Waits

T = TypeVar("T")

log = Logger(namespace="tagcache.service")


class TagCacheService(MultiService):
    """The whole server: its parts, and how it starts, reloads and stops.

    ``databases`` keep the entries. ``reread`` returns the new configuration at a reload, or raises
    ConfigurationError.
    """

    def __init__(
        self,
        configuration: Configuration,
        databases: IDatabases,
        persistence: Persistence,
        connections: Connections,
        waits: Waits,
        check: Preflight,
        reread: Callable[[], Configuration],
        log_writer: LogWriter | None,
        environ: Mapping[str, str],
        reactor: Any,
    ) -> None:
        super().__init__()
        self.setName("tagcache")
        self.configuration = configuration
        self.databases = databases
        self.persistence = persistence
        self.connections = connections
        self._waits = waits
        self.pending_restart: tuple[str, ...] = ()
        self._factories: list[ServingFactory] = []
        self._check = check
        self._followers: list[Callable[[Settings], None]] = []
        if log_writer is not None:
            self.follow(log_writer.configure)
        self._reread = reread
        self._log_writer = log_writer
        self._environ = environ
        self._reactor = reactor
        self._started = time.monotonic()
        self._old_sighup: Any = None

    def follow(self, *followers: Callable[[Settings], None]) -> None:
        """Call these with the new settings at a reload."""
        self._followers += followers

    def serve(self, *factories: ServingFactory) -> None:
        """Drain the connections of these factories at a stop."""
        self._factories += factories

    @property
    def uptime(self) -> float:
        """Seconds since the server was built."""
        return time.monotonic() - self._started

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self.configuration.settings

    def setServiceParent(self, parent: Any) -> None:
        super().setServiceParent(parent)
        if self._log_writer is not None and isinstance(parent, Componentized):
            # twistd looks for the log observer of the application here.
            parent.setComponent(ILogObserver, self._log_writer)

    def listeners(self) -> list[ListenerService]:
        """The listening services, whether they listen or not."""
        return [each for each in self if isinstance(each, ListenerService)]

    def privilegedStartService(self) -> None:
        # Set the handler first: a SIGHUP during the start must not end the process. The reload
        # follows the start.
        self._old_sighup = signal.signal(signal.SIGHUP, self._on_sighup)
        raise_descriptor_limit(self.settings)
        try:
            # Load before listening: no client may see the cache without its entries.
            self.persistence.load()
            super().privilegedStartService()
            # Listening comes first, so that a failed start keeps the snapshot. No command has
            # been executed yet.
            self.persistence.put_aside()
        except (ListenError, PersistenceError) as error:
            log.critical("{why}", why=str(error))
            raise SystemExit(f"tagcache: {error}") from None

    def startService(self) -> None:
        super().startService()
        log.info("{text}", text=self._running())
        for line in self._dashboard():
            log.info("{text}", text=line)
        systemd.notify(self._environ, "READY=1", f"MAINPID={os.getpid()}")

    def _running(self) -> str:
        """Return a log line that describes the running server."""
        path = self.configuration.path
        return (
            f"TagCache {tagcache.__version__} runs on {event_loop(self._reactor)} "
            f"({type(self._reactor).__name__}); native core: {native.state.value}; "
            f"configuration: {path or 'built-in defaults (no file)'}"
        )

    def _dashboard(self) -> Iterator[str]:
        """Yield a line with the address of the dashboard, and how to log in."""
        for each in self.listeners():
            port = each.address.rpartition(":")[2]
            if each.name != "http" or not port.isdigit():
                continue
            host = each.address.removesuffix(f":{port}")
            # A server that listens on all addresses can be reached on loopback.
            host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
            scheme = "https" if each.endpoint.startswith("ssl:") else "http"
            url = f"{scheme}://{host}:{port}"
            yield f"dashboard: {url}/ ({self._log_in(url)})"

    def _log_in(self, url: str) -> str:
        if not self.settings.security.require_auth:
            return "no log-in is required"
        authentication = self.settings.authentication
        if authentication.password != DEFAULT_PASSWORD:
            return f"log in as {authentication.username}"
        return (
            f'log in as {authentication.username} with the default password, "{DEFAULT_PASSWORD}"; '
            f"change it with: tagcache --url {url} change-password"
        )

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        systemd.notify(self._environ, "STOPPING=1")
        if self._old_sighup is not None:
            # The default action of SIGHUP would end the process before the stop is complete. A
            # second signal to stop closes all connections at once.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_second_signal)
        log.info("stopping; open connections: {clients}", clients=len(self.connections))
        yield DeferredList([each.stopService() for each in self.listeners()])
        # Waiting look-ups would keep connections open.
        self._waits.stop()
        grace = self.settings.server.shutdown_grace_seconds
        yield DeferredList([factory.drain(grace) for factory in self._factories])
        yield maybeDeferred(super().stopService)

    def reload(self) -> None:
        """Read the configuration again and apply what can change while the server runs.

        A configuration that cannot be used changes nothing.
        """
        systemd.notify(
            self._environ, "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"
        )
        try:
            self._reload()
        finally:
            systemd.notify(self._environ, "READY=1")

    def _reload(self) -> None:
        if self._log_writer is not None:
            self._log_writer.reopen()
        try:
            new = self._reread()
            in_effect = replace(new, settings=_keep_until_restart(self.settings, new.settings))
            notices = self._check.check(new)
            # Settings that need a restart keep their old values, which may contradict new ones.
            self._check.check(in_effect)
        except ConfigurationError as error:
            log.error("reload: nothing changed. {why}", why=str(error))
            return
        for notice in notices:
            log.warn("{notice}", notice=notice)
        pending = []
        changed = 0
        for name, old_value, new_value in _differences(self.settings, new.settings):
            knob = ".".join(name)
            if name in NEEDS_RESTART:
                pending.append(knob)
                log.warn("reload: {knob} takes effect at the next start", knob=knob)
            elif name in SECRETS:
                changed += 1
                log.info("reload: {knob} changed", knob=knob)
            else:
                changed += 1
                log.info("reload: {knob}: {old} -> {new}", knob=knob, old=old_value, new=new_value)
        self.pending_restart = tuple(pending)
        self.configuration = in_effect
        for follow in self._followers:
            follow(in_effect.settings)
        log.info("reload: {changed} settings changed", changed=changed)

    def _on_second_signal(self, number: int, frame: FrameType | None) -> None:
        for factory in self._factories:
            self._reactor.callFromThread(factory.abort_all)

    def _on_sighup(self, number: int, frame: FrameType | None) -> None:
        # A signal can interrupt any code, so let the reactor reload between two events.
        self._reactor.callFromThread(self.reload)

    def info(self) -> dict[str, Any] | Deferred[dict[str, Any]]:
        """Return the reply to INFO, as a JSON object.

        While the engine is unreachable, its figures are the last known ones.
        """
        return then(self._of_each(self._totals_of), self._describe)

    def check(self) -> Consistency | Deferred[Consistency]:
        """Check whether entries, indexes and totals agree in every database."""
        return then(self._of_each(lambda engine: engine.check()), Consistency.of_all)

    def _of_each(
        self, ask: Callable[[IEngine], T | Deferred[T]]
    ) -> dict[int, T] | Deferred[dict[int, T]]:
        """Return the result of ``ask`` for each database in use, by its number."""
        numbers, engines = zip(*self.databases, strict=True)
        answers = together([ask(engine) for engine in engines])
        return then(answers, lambda each: dict(zip(numbers, each, strict=True)))

    @staticmethod
    def _totals_of(engine: IEngine) -> EngineTotals | Deferred[EngineTotals]:
        def last_seen(failure: Failure) -> EngineTotals:
            failure.trap(BackendUnavailable)
            return EngineTotals.of(engine)

        totals = engine.totals()
        if isinstance(totals, Deferred):
            totals.addErrback(last_seen)
        return totals

    def _figures(self, each: Iterable[EngineTotals]) -> dict[str, Any]:
        totals = EngineTotals.sum(each, self.databases)
        return {
            **described(totals),
            "shard_count": 1,
            "memory_used_bytes": totals.memory,
            "max_memory_bytes": totals.max_memory,
            "eviction_policy": self.databases[0].eviction_policy,
            "reclaim_backlog": totals.backlog,
        }

    def _fresh_figures(self) -> dict[str, Any]:
        counts = FreshCounts.sum(engine.fresh_counts() for _, engine in self.databases)
        return {**asdict(counts), "waiting_fetches": len(self._waits)}

    def _database(self, number: int, totals: EngineTotals) -> dict[str, Any]:
        # Redis does not report the memory of each database.
        here = self.databases[number].store is not None
        memory = totals.memory if here else None
        return {"db": number, **described(totals), "memory_used_bytes": memory}

    def _describe(self, databases: dict[int, EngineTotals]) -> dict[str, Any]:
        settings = self.settings
        return {
            "server": {
                "version": tagcache.__version__,
                "pid": os.getpid(),
                "uptime_seconds": round(self.uptime, 3),
                "python": sys.version.split()[0],
                "twisted": twisted.__version__,
                "reactor": type(self._reactor).__name__,
                "event_loop": event_loop(self._reactor),
                "native_core": native.state.value,
                "config_file": str(self.configuration.path) if self.configuration.path else None,
                "pending_restart": list(self.pending_restart),
            },
            "listeners": [
                {
                    "name": each.name,
                    "address": each.address,
                    "socket_options": {
                        option.name: option.describe() for option in each.socket_options
                    },
                }
                for each in self.listeners()
            ],
            "connections": {
                "clients": self.connections.clients,
                "open": len(self.connections),
                "max_connections": settings.performance.max_connections,
                "total": self.connections.total,
                "refused": self.connections.refused,
                "held_bytes": self.connections.held_bytes,
                "max_client_memory": settings.performance.max_client_memory,
            },
            "cache": {**self._figures(databases.values()), **self._fresh_figures()},
            "databases": [self._database(*each) for each in databases.items()],
            "engine": self.databases[0].describe(),
            "persistence": self.persistence.describe(),
        }


def described(totals: EngineTotals) -> dict[str, Any]:
    """Return totals and counts as a JSON object."""
    counters = totals.counters
    return {
        **{each.name: getattr(counters, each.name) for each in fields(counters)},
        "hit_ratio": counters.hit_ratio,
        **{name: getattr(totals, name) for name in ("items", "tags", "bytes")},
    }


def event_loop(reactor: Any) -> str:
    """Return the name of the running event loop: ``epoll``, ``asyncio``, ``uvloop``, ..."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    if loop is None:
        return type(reactor).__name__.removesuffix("Reactor").lower()
    return "uvloop" if type(loop).__module__.partition(".")[0] == "uvloop" else "asyncio"


def _differences(old: Settings, new: Settings) -> Iterator[tuple[tuple[str, str], Any, Any]]:
    """Yield ((section, key), old value, new value); None for a tag rule that does not exist."""
    before, after = ({(s, key): value for s, key, value in each.knobs()} for each in (old, new))
    for name in before | after:
        values = before.get(name), after.get(name)
        if values[0] != values[1]:
            yield name, *values


def _keep_until_restart(old: Settings, new: Settings) -> Settings:
    """Return the new settings, with the old values of those that need a restart."""
    sections = {}
    for section in fields(Settings):
        before, after = getattr(old, section.name), getattr(new, section.name)
        kept = {
            knob.name: getattr(before, knob.name)
            for knob in fields(before)
            if (section.name, knob.name) in NEEDS_RESTART
        }
        sections[section.name] = replace(after, **kept)
    return Settings(**sections)
