"""System checks for the settings of caches."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.cache import InvalidCacheBackendError
from django.utils.module_loading import import_string

from tagcache.contrib.django.base import TagCacheBase
from tagcache.contrib.django.settings import connecting_for


def check_caches(**_: Any) -> list[checks.CheckMessage]:
    """Return an error for each TagCache in CACHES whose settings are wrong."""
    return [
        checks.Error(mistake, obj=f"CACHES[{alias!r}]", id="tagcache.E001")
        for alias, given in settings.CACHES.items()
        if (mistake := _mistake(given)) is not None
    ]


def _mistake(given: dict[str, Any]) -> str | None:
    """Return what is wrong with the settings of a cache; None: nothing, or it is not a TagCache."""
    params = dict(given)
    try:
        backend = import_string(params.pop("BACKEND", ""))
    except ImportError:
        # Django's own error names it.
        return None
    if not (isinstance(backend, type) and issubclass(backend, TagCacheBase)):
        return None
    try:
        connecting_for(params.pop("LOCATION", ""), params, lambda found: found.client().close())
    except InvalidCacheBackendError as error:
        return str(error)
    return None
