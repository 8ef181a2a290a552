"""TagCache: a tag-aware cache server on Twisted, and its clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tagcache.client import AsyncClient, Client

__version__ = "1.0.0"

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    # Import clients on demand: the server does not need them.
    if name in ("AsyncClient", "Client"):
        from tagcache import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
