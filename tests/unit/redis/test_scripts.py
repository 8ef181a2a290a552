"""Each script has those parts of the library that it uses, and no others."""

from __future__ import annotations

import re

import pytest

from tagcache.redis import scripts
from tagcache.redis.scripts import Script


def defined(text: str) -> list[str]:
    """Return the functions and variables of a text that are at its top level, in their order."""
    return re.findall(r"^local (?:function )?(\w+)", text, re.MULTILINE)


@pytest.mark.parametrize("script", scripts.EVERY, ids=lambda script: script.name)
def test_what_a_script_uses_is_defined_before(script: Script) -> None:
    # Without strings, which contain the same words.
    text = re.sub(r"'[^'\n]*'", "''", script.text.decode())
    library = {name for _, name in scripts._LIBRARY}
    assert {"store", "find", "totals", "remove_older", "state_of"} <= library
    for name in set(defined(text)) & library:
        first = re.search(rf"\b{name}\b", text)
        assert first is not None
        line = text[text.rfind("\n", 0, first.start()) + 1 : first.end()]
        assert line.startswith("local "), (script.name, name)


def test_a_script_has_no_parts_that_it_does_not_use() -> None:
    assert "store" in defined(scripts.PUT.text.decode())
    assert "store" not in defined(scripts.DELETE.text.decode())
    assert not {"drop_all", "stale", "clock"} & set(defined(scripts.GET.text.decode()))
