"""Find the caches of the settings that have tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from tagcache.contrib.django import TagCache


def tagged_cache(alias: str) -> TagCache | None:
    """Return the cache with this alias; None if it is Django's DummyCache, which keeps nothing.

    Raises ImproperlyConfigured if it has no tags, InvalidCacheBackendError if there is none.
    """
    found = caches[alias]
    if isinstance(found, DummyCache):
        return None
    if not hasattr(found, "invalidate_tags"):
        raise ImproperlyConfigured(
            f"CACHES[{alias!r}] must be a tagcache.contrib.django.TagCache to have tags, not a"
            f" {type(found).__name__}"
        )
    cache: TagCache = found
    return cache
