"""The ``twistd tagcache`` command: its options, and the assembly of its service."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import threads
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python import usage

import tagcache
from tagcache.config.loading import Configuration, find, load, user_file
from tagcache.config.settings import Settings
from tagcache.engine.memory import MemoryCache, Policy
from tagcache.errors import ConfigurationError, TagCacheError
from tagcache.model.interfaces import IMeasured
from tagcache.server.auth.credentials import Credentials
from tagcache.server.auth.rates import Rates
from tagcache.server.commands.local import Commands
from tagcache.server.commands.remote import RemoteCommands, remote_info
from tagcache.server.http.api import Api
from tagcache.server.http.application import HttpApplication
from tagcache.server.http.browsers import BrowserRules
from tagcache.server.http.factory import HttpFactory
from tagcache.server.http.observation import Observation
from tagcache.server.http.remote_api import RemoteApi
from tagcache.server.http.sse import Streams
from tagcache.server.http.static import Dashboard
from tagcache.server.line.factory import CacheFactory, limits_of
from tagcache.server.line.pipelined import PipelinedProtocol
from tagcache.server.net.connections import Connections
from tagcache.server.net.endpoints import description
from tagcache.server.net.listener import Listener
from tagcache.server.observe.events import EventLog
from tagcache.server.observe.history import History
from tagcache.server.observe.host_stats import HostStats, OwnProcess
from tagcache.server.observe.logs import LogWriter
from tagcache.server.observe.metrics import Metrics
from tagcache.server.observe.sampler import Sampler
from tagcache.server.observe.traffic import Traffic
from tagcache.server.preflight import Preflight
from tagcache.server.service import IN_MEMORY, ListenerService, TagCacheService
from tagcache.server.upkeep import allocator
from tagcache.server.upkeep.collector import Collector
from tagcache.server.upkeep.memory_reserve import MemoryReserve
from tagcache.server.upkeep.persistence import Persistence
from tagcache.server.upkeep.slices import Slices
from tagcache.server.upkeep.sweeper import Sweeper
from tagcache.sockopts import ListenOptions

log = Logger(namespace="tagcache.start")


class Options(usage.Options):
    """Command-line options of ``twistd tagcache``."""

    longdesc = (
        "A tag-aware cache server. Without --config it reads ./tagcache.conf, else the one in "
        "the user's configuration directory, else it takes built-in defaults."
    )
    optParameters = [["config", "c", None, "The configuration file."]]

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"tagcache {tagcache.__version__}")
        raise SystemExit(0)


def makeService(options: Options) -> TagCacheService:
    """Read the configuration and assemble the server.

    Raises SystemExit, with one message that lists every fault, if it cannot be used.
    """
    from twisted.internet import reactor

    path = Path(options["config"]) if options["config"] is not None else find(os.environ)
    # twistd may change the working directory before it is read again.
    path = path.absolute() if path is not None else None

    def read() -> Configuration:
        return load(path, os.environ)

    try:
        configuration = read()
        check = Preflight()
        notices = check.check(configuration)
        _check_reactor(configuration, reactor)
        log_path, no_log = _log_destination(options.parent or {}, configuration.settings)
        writer = None if no_log else LogWriter(configuration.settings, log_path)
        service = assemble(configuration, check, read, writer, os.environ, reactor)
    except TagCacheError as error:
        raise SystemExit(str(error)) from None
    for notice in [*notices, no_log] if no_log else notices:
        log.warn("{notice}", notice=notice)
    return service


def assemble(
    configuration: Configuration,
    check: Preflight,
    reread: Callable[[], Configuration],
    log_writer: LogWriter | None,
    environ: Mapping[str, str],
    reactor: Any,
) -> TagCacheService:
    """Put the parts together. Raises ConfigurationError, KeyFileError."""
    settings = configuration.settings
    cache = MemoryCache(limits_of(settings), policy=_policy(settings))
    connections = Connections(time.monotonic)
    connections.configure(settings)
    credentials = Credentials(
        configuration, user_file(environ), time.monotonic, threads.deferToThread
    )
    rates = Rates(settings, time.monotonic)
    slices = Slices(reactor)
    sweeper = Sweeper(
        cache,
        slices,
        settings,
        reactor,
        lambda: threads.deferToThread(allocator.trim),
        allocator.resident_bytes,
    )

    persistence = Persistence(cache, _kept_here(settings), reactor)

    backend = remote = None
    if settings.engine.backend == "redis":
        # Needs an extra, which must not be asked of those who do without.
        from tagcache.server.redis_engine import near_limits, open_backend

        cache.limits = near_limits(settings)
        backend, remote = open_backend(settings, cache, reactor)

    traffic, history, events = Traffic(settings), History(), EventLog()
    traffic.on_slow = events.slow
    measured: IMeasured = cache if backend is None else backend
    sampler = Sampler(
        measured,
        connections,
        traffic,
        history,
        events,
        reactor,
        time.monotonic,
        time.time,
        OwnProcess().usage,
    )
    streams = Streams(events) if backend is None else Streams(events, backend.describe)
    sampler.publish = streams.publish
    metrics = Metrics(
        measured,
        connections,
        traffic,
        rates,
        persistence.describe,
        lambda: sampler.lag,
        lambda: len(streams),
        lambda: service.uptime,
        IN_MEMORY.copy if backend is None else backend.describe,
    )

    cache_listener = Listener("cache", settings, connections)
    commands: Commands
    if remote is None or backend is None:
        commands = Commands(
            cache, connections, credentials, slices, lambda: service.info(), traffic, events
        )
        cache_factory = CacheFactory(cache_listener, commands, rates, settings, reactor)
    else:
        commands = RemoteCommands(
            remote, cache, connections, credentials, slices, lambda: info(), traffic, events
        )
        cache_factory = CacheFactory(
            cache_listener, commands, rates, settings, reactor, PipelinedProtocol
        )

    credentials.on_change = cache_factory.credentials_changed

    def info() -> Deferred[dict[str, Any]]:
        if remote is None or backend is None:
            return slices.run(cache.sweep()).addCallback(lambda _: service.info())
        return remote_info(service, remote, backend)

    http_listener = Listener("http", settings, connections)
    observation = Observation(
        connections,
        slices,
        traffic,
        history,
        events,
        streams,
        metrics,
        info,
        lambda: service.settings.security.require_auth,
    )
    told: tuple[Any, ...] = (
        cache,
        connections,
        credentials,
        slices,
        HostStats(),
        lambda: service.configuration,
        lambda: check.is_exposed(service.settings),
        persistence.describe,
        time.monotonic,
        events,
        [*Dashboard().routes(), *observation.routes()],
    )
    api = Api(*told) if remote is None or backend is None else RemoteApi(remote, backend, *told)
    browsers = BrowserRules((socket.gethostname(), socket.getfqdn()), settings)
    application = HttpApplication(
        api.routes, credentials, rates, settings, traffic, slices, browsers
    )
    streams.admits = application.still_admits
    http_factory = HttpFactory(http_listener, application, settings, reactor)

    reserve = MemoryReserve(cache, reactor)
    cache_factory.short_of_memory = reserve.release
    http_factory.short_of_memory = reserve.release

    def follow_limits(settings: Settings) -> None:
        if remote is None:
            cache.limits = limits_of(settings)
        else:
            cache.limits = near_limits(settings)
            remote.limits = limits_of(settings)

    followers: list[Callable[[Settings], None]] = [
        follow_limits,
        credentials.configure,
        rates.configure,
        connections.configure,
        traffic.configure,
        sweeper.configure,
        persistence.configure,
        cache_listener.configure,
        cache_factory.configure,
        http_listener.configure,
        browsers.configure,
        application.configure,
        http_factory.configure,
    ]
    if backend is not None:
        followers.append(backend.configure)
    if log_writer is not None:
        followers.append(log_writer.configure)
    service: TagCacheService = TagCacheService(
        configuration,
        cache,
        persistence,
        connections,
        (cache_factory, http_factory),
        check,
        followers,
        reread,
        log_writer,
        environ,
        reactor,
    )
    sweeper.setServiceParent(service)
    if backend is not None:
        backend.setServiceParent(service)
    else:
        persistence.setServiceParent(service)
    sampler.setServiceParent(service)
    Collector(cache, reactor).setServiceParent(service)

    def listen(knob: str, port: str, host: str, factory: IProtocolFactory, at: Listener) -> None:
        options = ListenOptions.from_settings(settings.performance)
        door = ListenerService(knob, description(port, host), factory, at, options, reactor)
        door.setServiceParent(service)
        followers.append(door.configure)

    server = settings.server
    listen("server.tcp_port", server.tcp_port, server.host, cache_factory, cache_listener)
    listen("server.http_port", server.http_port, server.host, http_factory, http_listener)
    if settings.manhole.enabled:
        # Needs an extra, which must not be asked of those who do without the shell.
        from tagcache.server.manhole import shell as manhole

        shell_listener = Listener("manhole", settings, connections, counted=False)
        followers.append(shell_listener.configure)
        shell = manhole.ManholeFactory(
            settings, shell_listener, manhole.namespace(service, slices, info, remote), reactor
        )
        followers.append(shell.configure)
        listen("manhole.port", settings.manhole.port, "127.0.0.1", shell, shell_listener)
    return service


def _policy(settings: Settings) -> Policy:
    """Return what happens when memory is full; what is only near must always make room."""
    here = settings.engine.backend == "memory"
    return settings.cache.eviction_policy if here else "sieve"


def _kept_here(settings: Settings) -> Settings:
    """Return the settings without a snapshot where the entries are elsewhere."""
    if settings.engine.backend == "memory":
        return settings
    return replace(settings, persistence=replace(settings.persistence, snapshot_file=""))


def _check_reactor(configuration: Configuration, reactor: Any) -> None:
    """Raise ConfigurationError where the engine needs another reactor."""
    if configuration.settings.engine.backend == "redis" and not hasattr(
        reactor, "_asyncioEventloop"
    ):
        fault = (
            "engine.backend = redis needs twistd --reactor=asyncio, or --reactor=uvloop; "
            "`tagcache server` sees to that itself"
        )
        source = configuration.path or "built-in defaults and environment"
        raise ConfigurationError(str(source), [fault])


def _log_destination(twistd: Mapping[str, Any], settings: Settings) -> tuple[Path | None, str]:
    """Return the file to log to (None: standard output), and why our log cannot be used if so.

    ``twistd`` are twistd's own options.
    """
    if twistd.get("syslog") or twistd.get("logger"):
        return None, (
            "[logging] has no effect: twistd was told where and how to log (--syslog, --logger)"
        )
    told = twistd.get("logfile")
    if settings.logging.file:
        return Path(settings.logging.file).absolute(), ""
    if told and told != "-":
        return Path(told).absolute(), ""
    if told == "-" or twistd.get("nodaemon", True):
        return None, ""
    return Path("twistd.log").absolute(), ""
