"""Read the settings of a cache, and report what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

from django.apps import apps
from django.core.cache.backends.base import InvalidCacheBackendError
from django.utils.module_loading import import_string

from tagcache.client.options import Options
from tagcache.contrib.connecting import Connecting
from tagcache.errors import BadArgument

_CULLING = {"MAX_ENTRIES", "CULL_FREQUENCY", "max_entries", "cull_frequency"}
# The types of options that are not objects.
_PLAIN = {int: "an integer", float: "a number", bool: "True or False", str: "a text"}
_PLAIN[NoneType] = "None"


def connecting_for(
    location: str | Iterable[str],
    params: Mapping[str, Any],
    try_out: Callable[[Connecting], object],
) -> Connecting:
    """Return the servers and options of clients, from the settings of a cache.

    ``try_out`` is called with it, and may raise BadArgument. Raises InvalidCacheBackendError, which
    names the setting and what is allowed.
    """
    options = params.get("OPTIONS", {})
    try:
        if isinstance(location, Iterable) and not isinstance(location, str):
            location = list(location)
        _check(location, params, options)
        found = dict(options)
        for name in ("on_error", "serializer"):
            if isinstance(found.get(name), str):
                found[name] = import_string(found[name])
        _check_types(found)
        connecting = Connecting(location, found)
        try_out(connecting)
    except (BadArgument, ImportError) as error:
        raise InvalidCacheBackendError(f"CACHES, LOCATION or OPTIONS: {error}") from error
    return connecting


def _check(location: Any, params: Mapping[str, Any], options: Any) -> None:
    """Raise BadArgument for faults that do not concern a single option."""
    urls = [location] if isinstance(location, str) else location
    if not isinstance(urls, (list, tuple)) or not all(isinstance(url, str) for url in urls):
        raise BadArgument(f"LOCATION must be a URL, or a list of them, not {location!r}")
    if not isinstance(options, Mapping):
        raise BadArgument(f"OPTIONS must be a dict, not {options!r}")
    timeout = params.get("TIMEOUT")
    try:
        float(0 if timeout is None else timeout)
    except (TypeError, ValueError):
        raise BadArgument(f"TIMEOUT must be seconds or None, not {timeout!r}") from None
    refused = sorted(_CULLING & (options.keys() | params.keys()))
    if refused:
        raise BadArgument(
            f"{', '.join(refused)} cannot take effect:"
            " the server's cache.max_memory bounds the cache"
        )


def _check_types(options: Mapping[str, Any]) -> None:
    """Raise BadArgument for an option whose value is of another type."""
    hints = {**get_type_hints(Options), "flush_on_return": bool}
    for name, value in options.items():
        kinds = get_args(hints.get(name)) or (hints.get(name),)
        if name == "serde":
            told, fits = "a name, or an object with dump and load", hasattr(value, "load")
            fits = isinstance(value, str) or (fits and hasattr(value, "dump"))
        elif name == "on_error":
            told, fits = "a function, or its dotted path", callable(value) or value is None
        elif all(kind in _PLAIN for kind in kinds):
            told = " or ".join(_PLAIN[kind] for kind in kinds)
            fits = type(value) in kinds or (float in kinds and type(value) is int)
        else:
            continue
        if not fits:
            raise BadArgument(f"{name} must be {told}, not {value!r}")


def are_checked() -> bool:
    """Return whether system checks report mistakes in the settings.

    A check that raises an exception would hide them.
    """
    checked: bool = apps.apps_ready and apps.is_installed("tagcache.contrib.django")
    return checked
