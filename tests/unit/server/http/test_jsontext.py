"""JSON as the API parses it."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcache.server.http import jsontext
from tests.helpers import done

TEXTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


def test_names_that_come_twice_are_found_however_they_are_written() -> None:
    text = rb'{"a":1,"b":{"a":1,"a":2},"\u0061" : [{"c":1},"c"],"c":"\"}{","c"'
    text += b'\n\t:3,"d":":","e":"d"}'
    assert done(jsontext.repeated_names(text)) == ["a", "c"]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", 'q"\\', "é"]), TEXTS)))
def test_repeated_names_are_those_that_a_parser_sees(pairs: list[tuple[str, Any]]) -> None:
    text = "{" + ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in pairs) + "}"
    counts = Counter(name for name, _ in pairs)
    expected = Counter({name: count - 1 for name, count in counts.items() if count > 1})
    assert Counter(done(jsontext.repeated_names(text.encode()))) == expected


def test_looking_for_repeated_names_is_linear_and_gives_way() -> None:
    """Two megabytes of names once blocked the reactor for half a minute."""
    text = rb'{"\u0061":0' + b',"":0' * 400_000 + b"}"
    work = jsontext.repeated_names(text)
    assert sum(1 for _ in work) >= 400_000 // 512


def test_depth_is_looked_at_in_pieces() -> None:
    text = b"[" + b"[]," * 100_000 + b"[]]"
    assert sum(1 for _ in jsontext.read(text)) > 100


def calls_of_depth_check(text: bytes) -> int:
    """The number of function calls, in Python and in C, that reading a text takes."""
    events: Counter[str] = Counter()

    def count(frame: object, event: str, arg: object) -> None:
        events[event] += 1

    work = jsontext.read(text)
    sys.setprofile(count)
    try:
        for _ in work:
            pass
    finally:
        sys.setprofile(None)
    return events["call"] + events["c_call"]


def test_depth_is_looked_at_without_a_step_for_each_token() -> None:
    """A megabyte of brackets once took 0.3 seconds."""
    text = b"[" + b'[],"","[",' * 100_000 + b"[]]"
    assert calls_of_depth_check(text) < 100_000 / 50


@given(
    st.lists(st.text(alphabet='[]{}\\"a', max_size=6), min_size=1, max_size=4),
    st.integers(0, 3),
    st.sampled_from([126, 127, 128]),
)
def test_levels_are_counted_beside_strings_of_any_kind(
    texts: list[str], branches: int, levels: int
) -> None:
    value: Any = texts
    for level in range(levels - 1):
        value = {texts[0]: value, "b": 0} if level % 2 else [*texts, value, *[[]] * branches]
    text = json.dumps(value).encode()
    if levels <= 127:
        assert jsontext.parse(text) == value
    else:
        with pytest.raises(jsontext.NotJson, match="127 levels"):
            jsontext.parse(text)


@pytest.mark.parametrize(("levels", "fits"), [(127, True), (128, False)])
def test_nesting_ends_at_a_level(levels: int, fits: bool) -> None:
    text = b"[" * levels + b"]" * levels
    if fits:
        assert jsontext.parse(text) is not None
    else:
        with pytest.raises(jsontext.NotJson, match=re.escape("127 levels")):
            jsontext.parse(text)


def test_brackets_in_strings_are_no_levels() -> None:
    assert jsontext.parse(b'["' + b"[" * 500 + b'"]') == ["[" * 500]
