"""Reads section ``[tag_rules]``, whose names are the operator's own."""

from __future__ import annotations

from collections.abc import Mapping

from tagcache.model.tag_rules import BadTagRule, TagRule, TagRules


def read_rules(given: Mapping[str, str | list[str]]) -> tuple[TagRules, list[tuple[str, str]]]:
    """Return the rules, and (name, fault) for everything that is wrong with the others."""
    rules = []
    faults = []
    for name, value in given.items():
        # A value without a comma is no list.
        pattern, *tags = (value or [""]) if isinstance(value, list) else [value]
        try:
            rules.append(TagRule(name, pattern, tuple(tags)))
        except BadTagRule as error:
            faults += [(name, fault) for fault in error.faults]
    return TagRules(tuple(rules)), faults
