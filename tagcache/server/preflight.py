"""Find settings that are invalid or have no effect, before anything starts."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

from twisted.logger import Logger

from tagcache.config.limits import limits_of
from tagcache.config.loading import SECRETS, Configuration, Origin
from tagcache.config.passwords import check_hash, is_hash, matches
from tagcache.config.settings import DEFAULT_PASSWORD, EngineSettings, PersistenceSettings, Settings
from tagcache.errors import ConfigurationError
from tagcache.server.net.endpoints import Target, description, targets

log = Logger(namespace="tagcache.start")

# File descriptors for files, pipes and the reactor, besides those of connections.
SPARE_DESCRIPTORS = 64
# Lua in Redis cannot unpack many more values in one call.
MOST_REMOTE_TAGS = 4000
_PORTS = ("server.tcp_port", "server.http_port")
_TCP_ONLY = (
    "tcp_nodelay",
    "tcp_keepalive_seconds",
    "tcp_keepalive_interval_seconds",
    "tcp_keepalive_probes",
    "tcp_user_timeout_ms",
    "reuse_port",
    "defer_accept_seconds",
    "fast_open_queue",
)


class Preflight:
    """Checks the configuration at the start and at each reload.

    Remembers the targets of each endpoint string, because a second check could disturb a
    listening server, for instance one with a descriptor from systemd.
    """

    def __init__(self) -> None:
        self._targets: dict[str, list[Target]] = {}

    def check(self, configuration: Configuration) -> list[str]:
        """Return notices for the operator. Raises ConfigurationError with all faults."""
        settings = configuration.settings
        faults = _password(settings)
        notices = list(configuration.notices)
        where = self._find(settings, faults)
        ports = {knob: where.get(knob, []) for knob in _PORTS}
        for knob, found in ports.items():
            faults += _exposure(settings, knob, found)
        if settings.manhole.enabled:
            faults += _manhole(settings)
            notices += _manhole_exposure(where.get("manhole.port", []))
        faults += _log_file(settings)
        faults += _snapshot_file(settings)
        faults += _shared_port(settings)
        faults += _engine(settings)
        faults += _tag_rules(settings)
        notices += _plain_secrets(configuration)
        notices += _without_effect(configuration, where)
        notices += _engine_without_effect(configuration)
        notices += _open_port(settings, ports["server.tcp_port"])
        notices += _descriptors(settings)
        if faults:
            source = configuration.path or "built-in defaults and environment"
            raise ConfigurationError(str(source), faults)
        return notices

    def is_exposed(self, settings: Settings) -> bool:
        """Return whether a port other than the manhole's is open to other machines."""
        where = self._find(settings, [])
        return any(not target.only_local for knob in _PORTS for target in where.get(knob, []))

    def _find(self, settings: Settings, faults: list[str]) -> dict[str, list[Target]]:
        host = settings.server.host
        endpoints = {
            "server.tcp_port": description(settings.server.tcp_port, host),
            "server.http_port": description(settings.server.http_port, host),
        }
        if settings.manhole.enabled:
            # A plain number means loopback, not server.host, because the shell can do anything.
            endpoints["manhole.port"] = description(settings.manhole.port, "127.0.0.1")
        found = {}
        for knob, endpoint in endpoints.items():
            try:
                if endpoint not in self._targets:
                    self._targets[endpoint] = targets(endpoint)
                found[knob] = self._targets[endpoint]
            except ValueError as error:
                faults.append(f"{knob}: {endpoint!r} {error}")
        return found


def _password(settings: Settings) -> list[str]:
    try:
        if is_hash(settings.authentication.password):
            check_hash(settings.authentication.password)
    except ValueError as error:
        return [f"authentication.password: {error}"]
    return []


def _plain_secrets(configuration: Configuration) -> Iterator[str]:
    path, settings = configuration.path, configuration.settings
    if path is None:
        return
    in_file = [name for name in SECRETS if configuration.origins[name] is Origin.FILE]
    plain = ("authentication", "password") in in_file and not is_hash(
        settings.authentication.password
    )
    if plain:
        yield (
            f"{path} holds the password in plain text; `tagcache change-password` (or any change "
            "of it over HTTP) replaces it by its hash"
        )
    mode = _mode(path)
    in_url = ("engine", "url") in in_file and "@" in settings.engine.url
    if mode & 0o004 and (plain or in_url):
        yield (
            f"{path} can be read by every user of this machine (mode {mode:04o}), and holds "
            f"{'a password' if plain else 'the password of engine.url'} in plain text: "
            f"chmod o= {path}"
        )


def _mode(path: Path) -> int:
    """Return the permissions of a file; 0 if it was removed in the meantime."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


def _exposure(settings: Settings, knob: str, where: list[Target]) -> Iterator[str]:
    for target in where:
        if target.only_local:
            continue
        if matches(settings.authentication.password, DEFAULT_PASSWORD.encode()):
            yield (
                f"{knob} would be open to other machines ({_interface(target)}) while the "
                "password is the default one. Three ways out: listen on this machine only with "
                f"{_closed(settings, knob, target)}; or set a password of your own in "
                "authentication.password (or TAGCACHE_PASSWORD) and name the allowed addresses in "
                "security.allowed_ips; or set a password of your own and require it with "
                "security.require_tcp_auth = true"
            )
        if knob == "server.http_port" and not settings.security.require_auth:
            yield (
                f"security.require_auth = false, and {knob} would be open to other machines "
                f"({_interface(target)}): without authentication it is for this machine only"
            )


def _closed(settings: Settings, knob: str, target: Target) -> str:
    """Return the setting that limits the target of ``knob`` to this machine."""
    port = settings.server.tcp_port if knob == "server.tcp_port" else settings.server.http_port
    if port.isdigit():
        return "server.host = 127.0.0.1"
    if target.kind == "systemd":
        return "an address of 127.0.0.1 in ListenStream= of the socket's unit"
    return "interface=127.0.0.1 in the endpoint string (server.host is only for port numbers)"


def _interface(target: Target) -> str:
    return target.interface or "all interfaces"


def _open_port(settings: Settings, where: list[Target]) -> Iterator[str]:
    if settings.security.require_tcp_auth or settings.security.allowed_ips:
        return
    for target in where:
        if not target.only_local:
            yield (
                f"server.tcp_port is open to everyone who can reach {_interface(target)}: neither "
                "security.require_tcp_auth nor security.allowed_ips restricts it"
            )


def _manhole_exposure(where: list[Target]) -> Iterator[str]:
    for target in where:
        if not target.only_local:
            yield (
                f"manhole.port is open to other machines ({_interface(target)}): anyone with an "
                "authorized key can run any code in the server"
            )


def _manhole(settings: Settings) -> Iterator[str]:
    if find_spec("cryptography") is None or find_spec("bcrypt") is None:
        yield "manhole.enabled needs the SSH extra: pip install 'tagcache-server[conch]'"
        return
    from tagcache.server.manhole.keys import KeyFileError, check_host_key, read_authorized_keys

    if not settings.manhole.authorized_keys_file:
        yield "manhole.authorized_keys_file must name a file with at least one public key"
    else:
        try:
            read_authorized_keys(Path(settings.manhole.authorized_keys_file))
        except KeyFileError as error:
            yield f"manhole.authorized_keys_file: {error}"
    if not settings.manhole.host_key_file:
        yield "manhole.host_key_file must name a file; it is created if it is missing"
    else:
        try:
            check_host_key(Path(settings.manhole.host_key_file))
        except KeyFileError as error:
            yield f"manhole.host_key_file: {error}"


def _log_file(settings: Settings) -> Iterator[str]:
    if not settings.logging.file:
        return
    path = Path(settings.logging.file)
    if path.is_dir():
        yield f"logging.file: {path} is a directory"
    elif not path.parent.is_dir():
        yield f"logging.file: there is no directory {path.parent}"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        yield f"logging.file: {path} cannot be written"


def _snapshot_file(settings: Settings) -> Iterator[str]:
    if not settings.persistence.snapshot_file:
        return
    path = Path(settings.persistence.snapshot_file).resolve()
    if path.is_dir():
        yield f"persistence.snapshot_file: {path} is a directory"
    elif path.exists() and not path.is_file():
        yield f"persistence.snapshot_file: {path} is not a file"
    elif not path.parent.is_dir():
        yield f"persistence.snapshot_file: there is no directory {path.parent}"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        yield f"persistence.snapshot_file: no file can be created in {path.parent}"


def _shared_port(settings: Settings) -> Iterator[str]:
    if settings.performance.reuse_port and settings.engine.backend == "memory":
        yield (
            "performance.reuse_port: with engine.backend = memory each process has its own "
            "entries, so several on one port answer the same client from different caches, and an "
            "invalidation reaches only one of them. Share the entries with engine.backend = redis, "
            "or use one process"
        )


def _engine(settings: Settings) -> Iterator[str]:
    if settings.engine.backend != "redis":
        return
    if find_spec("redis") is None or find_spec("hiredis") is None:
        yield "engine.backend = redis needs an extra: pip install 'tagcache-server[redis]'"
        return
    from tagcache.redis.connection import BadUrl, check_url

    try:
        check_url(settings.engine.url)
    except BadUrl as error:
        yield f"engine.url: {error}"
    if settings.engine.wait_replicas and settings.engine.wait_ms >= settings.engine.timeout_ms:
        yield "engine.wait_ms must be less than engine.timeout_ms"
    if set("{}") & set(settings.engine.key_prefix):
        yield "engine.key_prefix must not contain braces, which have a special meaning in a cluster"
    if settings.cache.max_tags_per_entry > MOST_REMOTE_TAGS:
        yield (
            f"cache.max_tags_per_entry: with engine.backend = redis at most {MOST_REMOTE_TAGS}, "
            "because the scripts there accept no more arguments"
        )


def _tag_rules(settings: Settings) -> Iterator[str]:
    limits = limits_of(settings)
    for rule in settings.tag_rules.rules:
        for fault in rule.faults(limits):
            yield f"tag_rules.{rule.name}: {fault}"


def _engine_without_effect(configuration: Configuration) -> Iterator[str]:
    by_hand = set(configuration.changed())
    if configuration.settings.engine.backend == "memory":
        useless = [("engine", field.name) for field in fields(EngineSettings)]
        why = "engine.backend = memory"
    else:
        useless = [
            ("cache", "max_memory"),
            ("cache", "eviction_policy"),
            ("persistence", "snapshot_file"),
            ("persistence", "snapshot_interval_seconds"),
            ("persistence", "after_crash"),
        ]
        why = "engine.backend = redis: Redis does that itself"
    for section, key in useless:
        if (section, key) in by_hand:
            yield f"{section}.{key} has no effect with {why}"


def _without_effect(configuration: Configuration, where: dict[str, list[Target]]) -> Iterator[str]:
    settings = configuration.settings
    by_hand = set(configuration.changed())
    if ("server", "num_shards") in by_hand:
        yield (
            f"server.num_shards = {settings.server.num_shards} has no effect: one reactor thread "
            "owns the whole cache, which is one shard"
        )
    ports = (settings.server.tcp_port, settings.server.http_port)
    if ("server", "host") in by_hand and not any(port.isdigit() for port in ports):
        yield "server.host has no effect: the ports are endpoint strings"
    yield from _snapshots_without_effect(settings.persistence)
    kinds = {target.kind for target in where.get("server.tcp_port", [])}
    if "unix" in kinds:
        for key in _TCP_ONLY:
            if ("performance", key) in by_hand:
                yield f"performance.{key} has no effect on the UNIX socket of server.tcp_port"
    if "systemd" in kinds and settings.performance.reuse_port:
        yield (
            "performance.reuse_port has no effect: systemd has bound the socket already "
            "(ReusePort= in its unit does it)"
        )
    if settings.performance.fast_open_queue and not _fast_open_allowed():
        yield (
            "performance.fast_open_queue has no effect: the kernel accepts no fast open "
            "(sysctl net.ipv4.tcp_fastopen must have bit 2 set)"
        )


def _snapshots_without_effect(persistence: PersistenceSettings) -> Iterator[str]:
    if not persistence.snapshot_interval_seconds:
        return
    if not persistence.snapshot_file:
        yield (
            "persistence.snapshot_interval_seconds has no effect: "
            "persistence.snapshot_file is empty"
        )
    elif persistence.after_crash == "empty":
        yield (
            "persistence.snapshot_interval_seconds: snapshots of a running server are written, but "
            "not loaded unless persistence.after_crash = load"
        )


def _fast_open_allowed() -> bool:
    try:
        allowed = Path("/proc/sys/net/ipv4/tcp_fastopen").read_text(encoding="ascii")
    except OSError:
        return True  # Not Linux: setting the socket option will show whether it works.
    return bool(int(allowed) & 2)


def _descriptors(settings: Settings) -> Iterator[str]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.performance.max_connections + SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield (
            f"performance.max_connections = {settings.performance.max_connections} cannot be "
            f"reached: this process may have {hard} open files (ulimit -Hn)"
        )


def raise_descriptor_limit(settings: Settings) -> None:
    """Raise the soft limit of open files to what max_connections needs, as far as possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.performance.max_connections + SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warn(
            "performance.max_connections = {limit} cannot be reached: this process may have "
            "{soft} open files, and cannot have more ({why})",
            limit=settings.performance.max_connections,
            soft=soft,
            why=str(error),
        )
