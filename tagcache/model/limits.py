"""How large an entry may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Lengths in bytes; ``default_ttl_ms`` in milliseconds, 0 for none.

    ``max_memory`` is for all entries together, in bytes as ``ICache.memory`` counts them; 0: no
    limit.
    """

    max_key_length: int = 1024
    max_value_length: int = 1_048_576
    max_tags_per_entry: int = 100
    max_tag_length: int = 1024
    default_ttl_ms: int = 0
    max_memory: int = 0
