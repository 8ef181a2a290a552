"""The settings as frozen values. configspec.ini has their names, types and bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, TypeAlias

from tagcache.model.tag_rules import TagRules

Network: TypeAlias = IPv4Network | IPv6Network

DEFAULT_USERNAME = "admin"
DEFAULT_PASSWORD = "password"  # noqa: S105 - the default of a new installation


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """``[server]``: ports are numbers as text, or Twisted endpoint strings; "off" for none.

    ``allowed_hosts`` are names in lower case; ``*.example.com`` matches all names below it.
    """

    host: str
    tcp_port: str
    http_port: str
    num_shards: int
    cleanup_interval_seconds: float
    allowed_origin: str
    allowed_hosts: tuple[str, ...]
    max_body_bytes: int
    http_header_timeout_seconds: float
    http_body_timeout_seconds: float
    http_keepalive_timeout_seconds: float
    shutdown_grace_seconds: float


@dataclass(frozen=True, slots=True)
class AuthenticationSettings:
    """``[authentication]``."""

    username: str
    password: str = field(repr=False)
    token_lifetime_seconds: int


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """``[cache]``: lengths and sizes are in bytes; a ``max_memory`` of 0 is no limit."""

    databases: int
    default_ttl_seconds: float
    max_tags_per_entry: int
    max_key_length: int
    max_tag_length: int
    max_value_length: int
    max_memory: int
    eviction_policy: Literal["sieve", "lru", "noeviction"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """``[engine]``: where entries are kept. All knobs but ``backend`` are for ``redis`` only."""

    backend: Literal["memory", "redis"]
    url: str = field(repr=False)
    timeout_ms: int
    connections: int
    key_prefix: str
    partitions: int
    near_cache_mb: int
    allow_evicting_policies: bool
    flush_on_failover: bool
    wait_replicas: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class PersistenceSettings:
    """``[persistence]``: without a ``snapshot_file`` nothing is kept; with an interval of 0 a
    snapshot is written only at a stop. ``after_crash``: what to do with a snapshot that was not
    written by a clean stop.
    """

    snapshot_file: str
    snapshot_interval_seconds: float
    after_crash: Literal["empty", "load"]


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    """``[logging]``: an empty ``file`` means standard output, or twistd's ``--logfile``; with a
    ``slow_command_ms`` of 0 no slow commands are recorded.
    """

    level: str
    format: str
    file: str
    slow_command_ms: int


@dataclass(frozen=True, slots=True)
class PerformanceSettings:
    """``[performance]``: 0 leaves a socket option to the system, but turns keepalive off."""

    tcp_nodelay: bool
    tcp_keepalive_seconds: int
    tcp_keepalive_interval_seconds: int
    tcp_keepalive_probes: int
    tcp_user_timeout_ms: int
    send_buffer_bytes: int
    receive_buffer_bytes: int
    listen_backlog: int
    reuse_port: bool
    defer_accept_seconds: int
    fast_open_queue: int
    max_connections: int
    idle_timeout_seconds: float
    max_reply_buffer_bytes: int
    max_client_memory: int
    send_timeout_seconds: float


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """``[security]``: without ``allowed_ips`` every address is allowed."""

    require_auth: bool
    require_tcp_auth: bool
    rate_limit_per_minute: int
    allowed_ips: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class ManholeSettings:
    """``[manhole]``."""

    enabled: bool
    port: str
    user: str
    authorized_keys_file: str
    host_key_file: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All sections."""

    server: ServerSettings
    authentication: AuthenticationSettings
    cache: CacheSettings
    tag_rules: TagRules
    engine: EngineSettings
    persistence: PersistenceSettings
    logging: LoggingSettings
    performance: PerformanceSettings
    security: SecuritySettings
    manhole: ManholeSettings

    def knobs(self) -> Iterator[tuple[str, str, Any]]:
        """Yield (section, key, value) for every knob, and for every tag rule.

        The key of a tag rule is its name, and the value a tuple of its pattern and its tags.
        """
        for section in fields(self):
            values = getattr(self, section.name)
            if isinstance(values, TagRules):
                for rule in values.rules:
                    yield section.name, rule.name, (rule.pattern, *rule.tags)
            else:
                for knob in fields(values):
                    yield section.name, knob.name, getattr(values, knob.name)
