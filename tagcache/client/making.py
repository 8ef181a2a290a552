"""The requests of a client with given options."""

from __future__ import annotations

from tagcache.client.options import Options
from tagcache.client.requests import Requests
from tagcache.client.serde import named
from tagcache.client.values import Values


def requests_for(options: Options) -> Requests:
    """Return the Requests of a client with these options. Raises BadArgument."""
    if options.tls:
        # Report unreadable files now, not at the first command.
        options.tls_context()
    serde = named(options.serde) if isinstance(options.serde, str) else options.serde
    values = Values(serde, options.compress_over, options.max_value_bytes)
    return Requests(values, options.key_prefix)
