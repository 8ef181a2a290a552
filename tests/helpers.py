"""Settings and commands for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tagcache.config.loading import load
from tagcache.config.settings import Settings


def settings_with(**sections: Mapping[str, Any]) -> Settings:
    """The default settings, but for what is given: ``cache={"max_key_length": 5}``."""
    settings = load(None, {}).settings
    changed = {
        name: replace(getattr(settings, name), **values) for name, values in sections.items()
    }
    return replace(settings, **changed)
