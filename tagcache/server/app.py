"""Build the parts of the server, each from the configuration and earlier parts."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from twisted.application.service import IService
from twisted.internet import threads
from twisted.internet.interfaces import IProtocolFactory

from tagcache.config.limits import limits_of, near_limits
from tagcache.config.loading import Configuration, user_file
from tagcache.config.settings import Settings
from tagcache.engine.caches import MemoryCaches
from tagcache.engine.databases import MemoryDatabases
from tagcache.engine.memory import MemoryCache
from tagcache.model.interfaces import IDatabases
from tagcache.server.auth.credentials import Credentials
from tagcache.server.auth.rates import Rates
from tagcache.server.cache_port.factory import CacheFactory
from tagcache.server.commands.admin import AdminCommands
from tagcache.server.commands.cache import CACHE_COMMANDS
from tagcache.server.commands.fresh import FRESH_COMMANDS
from tagcache.server.commands.resp.admin import StateCommands
from tagcache.server.commands.resp.connection import ConnectionCommands
from tagcache.server.commands.resp.server import ServerCommands
from tagcache.server.commands.table import CommandTable
from tagcache.server.http.application import HttpApplication
from tagcache.server.http.browsers import BrowserRules
from tagcache.server.http.endpoints.authentication import Authentication
from tagcache.server.http.endpoints.connections import ConnectionList
from tagcache.server.http.endpoints.dashboard import Dashboard
from tagcache.server.http.endpoints.documents import Documents
from tagcache.server.http.endpoints.entries import Entries
from tagcache.server.http.endpoints.invalidation import Invalidation
from tagcache.server.http.endpoints.listing import Listing
from tagcache.server.http.endpoints.observation import Observation
from tagcache.server.http.endpoints.status import Status
from tagcache.server.http.factory import HttpFactory
from tagcache.server.http.routes import Routes
from tagcache.server.http.sse import Streams
from tagcache.server.net.connections import Connections
from tagcache.server.net.endpoints import description
from tagcache.server.net.listener import Listener
from tagcache.server.net.listening import ListenerService
from tagcache.server.observe.events import EventLog
from tagcache.server.observe.history import History
from tagcache.server.observe.host_stats import HostStats, OwnProcess
from tagcache.server.observe.logs import LogWriter
from tagcache.server.observe.metrics import Metrics
from tagcache.server.observe.sampler import Sampler
from tagcache.server.observe.traffic import Traffic
from tagcache.server.preflight import Preflight
from tagcache.server.resp.commands import RespTable
from tagcache.server.service import TagCacheService
from tagcache.server.upkeep import allocator
from tagcache.server.upkeep.collector import Collector
from tagcache.server.upkeep.persistence import Persistence
from tagcache.server.upkeep.slices import Slices
from tagcache.server.upkeep.sweeper import Sweeper
from tagcache.server.waits import Waits
from tagcache.sockopts import ListenOptions

Follower = Callable[[Settings], None]


@dataclass(frozen=True, slots=True)
class EngineParts:
    """The databases, and the services that maintain them.

    ``services`` run with the server; ``followers`` are called with the settings of a reload.
    """

    databases: IDatabases
    persistence: Persistence
    services: tuple[IService, ...]
    followers: tuple[Follower, ...]


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What all listeners share."""

    connections: Connections
    credentials: Credentials
    rates: Rates
    slices: Slices
    events: EventLog
    traffic: Traffic
    waits: Waits
    reactor: Any


def build_shared(
    configuration: Configuration, environ: Mapping[str, str], reactor: Any
) -> SharedParts:
    """Return what all listeners share."""
    settings = configuration.settings
    connections = Connections(time.monotonic)
    connections.configure(settings)
    events = EventLog()
    return SharedParts(
        connections=connections,
        credentials=Credentials(
            configuration, user_file(environ), time.monotonic, threads.deferToThread
        ),
        rates=Rates(settings, time.monotonic),
        slices=Slices(reactor),
        events=events,
        traffic=Traffic(
            settings,
            on_slow=events.slow,
            catch_up=connections.catch_up,
            pump=getattr(reactor, "pump", None),
        ),
        waits=Waits(reactor),
        reactor=reactor,
    )


def build_engine(settings: Settings, slices: Slices, reactor: Any) -> EngineParts:
    """Return the engine of ``[engine]``."""
    local = settings.engine.backend == "memory"
    # A near cache must always evict to make room.
    policy = settings.cache.eviction_policy if local else "sieve"
    limits = limits_of(settings)
    caches = MemoryCaches(lambda: MemoryCache(limits, policy=policy), settings.cache.databases)
    sweeper = Sweeper(
        caches,
        slices,
        settings,
        reactor,
        lambda: threads.deferToThread(allocator.trim),
        allocator.resident_bytes,
    )
    parts = (_memory_engine if local else _redis_engine)(settings, caches, slices, reactor)
    return replace(
        parts,
        services=(sweeper, *parts.services, Collector(caches, reactor)),
        followers=(*parts.followers, sweeper.configure),
    )


def _memory_engine(
    settings: Settings, caches: MemoryCaches, slices: Slices, reactor: Any
) -> EngineParts:
    databases = MemoryDatabases(caches, time.monotonic, slices.finish)
    persistence = Persistence(caches, settings, reactor)

    def follow_limits(settings: Settings) -> None:
        databases.limits = limits_of(settings)

    followers = (follow_limits, persistence.configure)
    return EngineParts(databases, persistence, (persistence,), followers)


def _redis_engine(
    settings: Settings, caches: MemoryCaches, slices: Slices, reactor: Any
) -> EngineParts:
    # Imported here because it needs an extra that the memory engine does not.
    from tagcache.redis.opening import open_databases

    databases = open_databases(settings, caches, reactor)
    # Redis keeps the entries, so there is no snapshot.
    without = replace(settings, persistence=replace(settings.persistence, snapshot_file=""))
    persistence = Persistence(caches, without, reactor)

    def follow_limits(settings: Settings) -> None:
        caches.limits = near_limits(settings)
        databases.limits = limits_of(settings)

    followers = (follow_limits, databases.upkeep.configure)
    return EngineParts(databases, persistence, (databases.upkeep,), followers)


def build_tables(service: TagCacheService, shared: SharedParts) -> tuple[CommandTable, RespTable]:
    """Return the commands of the line protocol, and those of RESP."""
    admin = AdminCommands(
        shared.connections,
        shared.credentials,
        service.info,
        service.check,
        shared.traffic,
        shared.slices,
    )
    connection_commands = ConnectionCommands(shared.connections, shared.credentials)
    server_commands = ServerCommands(
        service.info, lambda: service.settings, shared.traffic, time.time
    )
    state_commands = StateCommands(shared.connections, service.info, shared.traffic)
    return (
        CommandTable((*CACHE_COMMANDS, *FRESH_COMMANDS, *admin.rows())),
        RespTable((*connection_commands.rows(), *server_commands.rows(), *state_commands.rows())),
    )


def build_cache_port(
    service: TagCacheService, shared: SharedParts
) -> tuple[CacheFactory, Listener]:
    """Return the factory of the cache port, and its listener."""
    settings = service.settings
    listener = Listener("cache", settings, shared.connections)
    factory = CacheFactory(
        listener,
        *build_tables(service, shared),
        service.databases,
        shared.slices,
        shared.events,
        shared.traffic,
        shared.rates,
        shared.waits,
        settings,
        shared.reactor,
    )
    shared.credentials.on_change = factory.credentials_changed
    service.follow(listener.configure, factory.configure)
    return factory, listener


def build_http_port(
    service: TagCacheService, shared: SharedParts, check: Preflight
) -> tuple[HttpFactory, Listener]:
    """Return the factory of the HTTP API and the dashboard, and its listener."""
    settings = service.settings
    listener = Listener("http", settings, shared.connections)
    streams = Streams(shared.events, service.databases[0].describe)
    browsers = BrowserRules((socket.gethostname(), socket.getfqdn()), settings)
    application = HttpApplication(
        build_routes(service, shared, check, streams),
        shared.credentials,
        shared.rates,
        settings,
        shared.traffic,
        shared.slices,
        browsers,
    )
    streams.admits = application.still_admits
    store = service.databases[0].store
    plain = None if store is None else store.plain
    factory = HttpFactory(listener, application, settings, shared.reactor, plain)
    service.follow(listener.configure, browsers.configure, application.configure, factory.configure)
    return factory, listener


def build_routes(
    service: TagCacheService, shared: SharedParts, check: Preflight, streams: Streams
) -> Routes:
    """Return the routes of all endpoints."""
    databases, slices = service.databases, shared.slices
    return Documents(
        Entries(databases, slices, shared.waits),
        Invalidation(databases, shared.events),
        Listing(databases, slices, time.monotonic),
        Status(
            databases,
            HostStats(),
            lambda: service.configuration,
            service.persistence.describe,
            service.info,
        ),
        build_observation(service, shared, streams),
        ConnectionList(shared.connections, slices),
        Authentication(
            shared.credentials,
            lambda: check.is_exposed(service.settings),
            lambda: service.settings.security.require_auth,
        ),
        Dashboard(),
    ).routes


def build_observation(
    service: TagCacheService, shared: SharedParts, streams: Streams
) -> Observation:
    """Return the endpoints that show what was measured; add the sampler to ``service``."""
    databases = service.databases
    history = History()
    sampler = Sampler(
        databases,
        shared.connections,
        shared.traffic,
        history,
        shared.events,
        shared.reactor,
        time.monotonic,
        time.time,
        OwnProcess().usage,
        streams.publish,
    )
    sampler.setServiceParent(service)
    metrics = Metrics(
        databases,
        shared.connections,
        shared.traffic,
        shared.rates,
        service.persistence.describe,
        lambda: sampler.lag,
        lambda: len(streams),
        lambda: len(shared.waits),
        lambda: service.uptime,
        databases[0].describe,
    )
    return Observation(shared.traffic, history, shared.events, streams, metrics)


def build_manhole(
    service: TagCacheService, shared: SharedParts
) -> tuple[IProtocolFactory, Listener]:
    """Return the factory of the shell, and its listener. Raises KeyFileError."""
    # Imported here because it needs an extra that is only for the shell.
    from tagcache.server.manhole import commands, shell

    listener = Listener("manhole", service.settings, shared.connections, counted=False)
    factory = shell.ManholeFactory(
        service.settings, listener, commands.namespace(service), shared.reactor
    )
    service.follow(listener.configure, factory.configure)
    return factory, listener


def build_service(
    configuration: Configuration,
    check: Preflight,
    reread: Callable[[], Configuration],
    log_writer: LogWriter | None,
    environ: Mapping[str, str],
    reactor: Any,
) -> TagCacheService:
    """Return the whole server. Raises ConfigurationError, KeyFileError."""
    settings = configuration.settings
    shared = build_shared(configuration, environ, reactor)
    parts = build_engine(settings, shared.slices, reactor)
    service = TagCacheService(
        configuration,
        parts.databases,
        parts.persistence,
        shared.connections,
        shared.waits,
        check,
        reread,
        log_writer,
        environ,
        reactor,
    )
    service.follow(
        *parts.followers,
        shared.credentials.configure,
        shared.rates.configure,
        shared.connections.configure,
        shared.traffic.configure,
    )
    for each in parts.services:
        each.setServiceParent(service)
    _open_ports(service, shared, check)
    return service


def _open_ports(service: TagCacheService, shared: SharedParts, check: Preflight) -> None:
    """Make the service listen on the configured ports. Raises KeyFileError."""
    settings, reactor = service.settings, shared.reactor

    def listen(knob: str, port: str, host: str, factory: IProtocolFactory, at: Listener) -> None:
        options = ListenOptions.from_settings(settings.performance)
        listening = ListenerService(knob, description(port, host), factory, at, options, reactor)
        listening.setServiceParent(service)
        service.follow(listening.configure)

    server = settings.server
    cache_port = build_cache_port(service, shared)
    http_port = build_http_port(service, shared, check)
    service.serve(cache_port[0], http_port[0])
    listen("server.tcp_port", server.tcp_port, server.host, *cache_port)
    listen("server.http_port", server.http_port, server.host, *http_port)
    if settings.manhole.enabled:
        listen("manhole.port", settings.manhole.port, "127.0.0.1", *build_manhole(service, shared))
