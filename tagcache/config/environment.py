"""Settings from environment variables, which override the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Override:
    """What one environment variable sets; ``value`` is in the syntax of the file."""

    variable: str
    section: str
    key: str
    value: str


def _as_seconds(milliseconds: str) -> str:
    try:
        return str(float(milliseconds) / 1000)
    except ValueError:
        return milliseconds


def _as_is(value: str) -> str:
    return value


# If two variables set the same knob, the first one here is used.
VARIABLES: tuple[tuple[str, str, str, Callable[[str], str]], ...] = (
    ("HOST", "server", "host", _as_is),
    ("PORT", "server", "http_port", _as_is),
    ("TC_HTTP_PORT", "server", "http_port", _as_is),
    ("TCP_PORT", "server", "tcp_port", _as_is),
    ("TC_TCP_PORT", "server", "tcp_port", _as_is),
    ("NUM_SHARDS", "server", "num_shards", _as_is),
    ("TC_NUM_SHARDS", "server", "num_shards", _as_is),
    ("CLEANUP_INTERVAL_SECONDS", "server", "cleanup_interval_seconds", _as_is),
    ("CLEANUP_INTERVAL_MS", "server", "cleanup_interval_seconds", _as_seconds),
    ("TC_SWEEP_INTERVAL_MS", "server", "cleanup_interval_seconds", _as_seconds),
    ("ALLOWED_ORIGIN", "server", "allowed_origin", _as_is),
    ("TAGCACHE_USERNAME", "authentication", "username", _as_is),
    ("TAGCACHE_PASSWORD", "authentication", "password", _as_is),
    ("TAGCACHE_ENGINE", "engine", "backend", str.lower),
    ("TAGCACHE_ENGINE_URL", "engine", "url", _as_is),
    ("LOG_LEVEL", "logging", "level", str.lower),
)


def overrides(environ: Mapping[str, str]) -> tuple[list[Override], list[str]]:
    """Return what the environment sets, and a notice for each variable that has no effect.

    A variable that is set but empty counts as not set.
    """
    found: dict[tuple[str, str], Override] = {}
    notices = []
    for variable, section, key, convert in VARIABLES:
        text = environ.get(variable, "")
        if not text:
            continue
        first = found.get((section, key))
        if first is None:
            found[section, key] = Override(variable, section, key, convert(text))
        elif first.value != convert(text):
            notices.append(
                f"the environment variable {variable} has no effect: "
                f"{first.variable} sets {section}.{key} too, and takes precedence"
            )
    return list(found.values()), notices
