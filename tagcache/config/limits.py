"""Make the limits of entries from the configuration."""

from __future__ import annotations

from dataclasses import replace

from tagcache.config.settings import Settings
from tagcache.model.limits import Limits


def limits_of(settings: Settings) -> Limits:
    """Return the limits of ``[cache]``, and the rules of ``[tag_rules]``."""
    cache = settings.cache
    return Limits(
        max_key_length=cache.max_key_length,
        max_value_length=cache.max_value_length,
        max_tags_per_entry=cache.max_tags_per_entry,
        max_tag_length=cache.max_tag_length,
        default_ttl_ms=round(cache.default_ttl_seconds * 1000),
        max_memory=cache.max_memory,
        tag_rules=settings.tag_rules if settings.tag_rules.rules else None,
    )


def near_limits(settings: Settings) -> Limits:
    """Return the limits of the near cache, which takes TTL and tags from the engine."""
    most = settings.engine.near_cache_mb * 1024 * 1024
    return replace(limits_of(settings), default_ttl_ms=0, max_memory=most, tag_rules=None)
