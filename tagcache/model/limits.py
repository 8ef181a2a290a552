"""The limits of an entry, and its time to live and tags if none are given."""

from __future__ import annotations

from dataclasses import dataclass

from tagcache.model.tag_rules import TagRules


@dataclass(frozen=True, slots=True)
class Limits:
    """Lengths in bytes; ``default_ttl_ms`` in milliseconds, 0 for none.

    ``max_memory`` is for all entries together, in bytes as ``ICache.memory`` counts them; 0: no
    limit. ``tag_rules`` give tags to entries that are stored without tags; None: there are none.
    """

    max_key_length: int = 1024
    max_value_length: int = 1_048_576
    max_tags_per_entry: int = 100
    max_tag_length: int = 1024
    default_ttl_ms: int = 0
    max_memory: int = 0
    tag_rules: TagRules | None = None

    def effective_ttl_ms(self, asked_ms: int | None) -> int | None:
        """Return the time to live of an entry in milliseconds, None for none.

        ``asked_ms`` is the one that its store gave; None and 0 mean the default.
        """
        return asked_ms or self.default_ttl_ms or None

    def tags_of(self, key: bytes) -> tuple[bytes, ...]:
        """Return the tags of an entry that is stored under ``key`` without tags, by the rules."""
        rules = self.tag_rules
        if rules is None:
            return ()
        return rules.tags_of(key, self.max_tags_per_entry, self.max_tag_length)
