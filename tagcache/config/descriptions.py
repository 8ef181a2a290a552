"""Describe each knob in the words of conf/tagcache.conf, which the package includes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources

from configobj import ConfigObj

_RESTART = "[R]"
_TAG_RULE = (
    "A tag rule: a pattern for keys, and the tags of entries that are stored without tags under a "
    "key that matches."
)


def description(section: str, key: str) -> str:
    """Return the description of a knob or a tag rule."""
    return _TAG_RULE if section == "tag_rules" else descriptions()[section, key]


@cache
def descriptions() -> Mapping[tuple[str, str], str]:
    """Return a text for each (section, key): the comment above the knob.

    Knobs without a blank line or a comment between them share one text. The mark of knobs that
    need a restart is removed.
    """
    text = resources.files("tagcache.config").joinpath("tagcache.conf").read_text(encoding="utf-8")
    sample = ConfigObj(text.splitlines(), interpolation=False)
    found = {}
    for section in sample.sections:
        described = ""
        for key in sample[section].scalars:
            described = _last_block(sample[section].comments[key]) or described
            found[section, key] = described
    return found


def _last_block(comments: Iterable[str]) -> str:
    """Return the comment lines after the last blank one, as one line."""
    words: list[str] = []
    for line in comments:
        words = [*words, *line.strip().removeprefix("#").split()] if line.strip() else []
    return " ".join(word for word in words if word != _RESTART)
