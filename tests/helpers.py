"""Settings and commands for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import maybeDeferred

from tagcache.config.loading import Configuration, Origin, load
from tagcache.config.settings import Settings
from tagcache.engine.memory import MemoryCache
from tagcache.model.numbered import Numbered
from tagcache.model.work import run_to_end as done  # noqa: F401 - for tests to import from here
from tagcache.server.auth.credentials import Credentials

T = TypeVar("T")


@cache
def defaults() -> Configuration:
    """The default configuration. It is read once: reading takes longer than most tests."""
    return load(None, {})


def settings_with(**sections: Mapping[str, Any]) -> Settings:
    """The default settings with changes, such as ``cache={"max_key_length": 5}``."""
    settings = defaults().settings
    changed = {
        name: replace(getattr(settings, name), **values) for name, values in sections.items()
    }
    return replace(settings, **changed)


def credentials_of(
    settings: Settings,
    monotonic: Callable[[], float],
    path: Path | None = None,
    origin: Origin = Origin.DEFAULT,
) -> Credentials:
    """A credential store that hashes synchronously instead of in a thread."""
    origins = {**defaults().origins, ("authentication", "password"): origin}
    configuration = replace(defaults(), settings=settings, path=path, origins=origins)
    return Credentials(configuration, Path("/nowhere/credentials"), monotonic, maybeDeferred)


def only(part: T) -> Numbered[T]:
    """The part of the only database."""
    parts = Numbered(1, lambda _: part)
    assert parts[0] is part
    return parts


def newest(cache: MemoryCache, offset: int = 0, limit: int = 1000) -> list[bytes]:
    """The keys of the most recently stored entries, newest first."""
    found = [item[0] for item in cache.scan(b"") if item is not None]
    return found[offset : offset + limit]
