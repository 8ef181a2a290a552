"""Decimal integers, as counters store them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcache.errors import InvalidArgument
from tagcache.model import int64
from tagcache.wire import line as wire


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0),
        (b"-0", 0),
        (b"+7", 7),
        (b"0" * 1_000_000 + b"7", 7),
        (b"-" + b"0" * 50 + b"9223372036854775808", int64.MIN),
        (b"9223372036854775807", int64.MAX),
        (b"9223372036854775808", None),
        (b"1" * 1_000_000, None),
        (b"0" * 1_000_000 + b"x", None),
        (b"", None),
        (b"+", None),
        (b"--1", None),
        (b"1 ", None),
        (b"\xb2", None),
    ],
)
def test_what_is_a_number_and_fits(text: bytes, number: int | None) -> None:
    assert int64.parse(text) == number


@given(st.from_regex(rb"[+-]?[0-9]{0,22}[x ]?", fullmatch=True))
def test_it_reads_what_python_reads(text: bytes) -> None:
    expected = None
    if re.fullmatch(rb"[+-]?[0-9]+", text) and int64.MIN <= int(text) <= int64.MAX:
        expected = int(text)
    assert int64.parse(text) == expected


@given(st.from_regex(rb"0{0,25}[0-9]{0,22}x?", fullmatch=True))
def test_a_time_to_live_is_digits_of_64_bits(field: bytes) -> None:
    if not field:
        assert wire.parse_ttl(field) is None
    elif field.isdigit() and int(field) < 2**64:
        assert wire.parse_ttl(field) == (int(field) or None)
    else:
        with pytest.raises(InvalidArgument):
            wire.parse_ttl(field)
