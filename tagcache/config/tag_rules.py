"""Read section ``[tag_rules]``, where the operator chooses the names."""

from __future__ import annotations

from collections.abc import Mapping

from tagcache.model.tag_rules import BadTagRule, TagRule, TagRules


def read_rules(given: Mapping[str, str | list[str]]) -> tuple[TagRules, list[tuple[str, str]]]:
    """Return the rules, and (name, fault) for everything that is wrong with the others."""
    rules = []
    faults = []
    for name, value in given.items():
        # Without a comma, the value is not a list.
        pattern, *tags = (value or [""]) if isinstance(value, list) else [value]
        try:
            rules.append(TagRule(name, pattern, tuple(tags)))
        except BadTagRule as error:
            faults += [(name, fault) for fault in error.faults]
    return TagRules(tuple(rules)), faults
