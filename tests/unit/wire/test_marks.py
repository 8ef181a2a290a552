"""Values in a form that a line can hold: with a mark where one is needed."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagcache.errors import ValueTooLarge
from tagcache.model import stored_values
from tagcache.wire import marks
from tagcache.wire.marks import escape, from_line, to_line, unescape

# The characters that the escape depends on.
TRICKY = st.text(alphabet="\\:nrz\n\r\ta", max_size=12).map(str.encode)
DATA = st.one_of(st.binary(max_size=200), TRICKY)


@given(DATA)
@example(b"\\:")
@example(b"\\z:")
@example(b"\r")
@example(b"a\\nb\n")
def test_any_bytes_make_the_round_trip_on_a_line(data: bytes) -> None:
    line = to_line(data)
    assert b"\n" not in line
    assert not line.endswith(b"\r")
    assert from_line(line) == data
    assert unescape(escape(data)) == data


@given(DATA)
def test_data_that_needs_no_escape_is_unchanged(data: bytes) -> None:
    needs = b"\n" in data or data.endswith(b"\r") or data.startswith((b"\\:", b"\\z:"))
    assert (to_line(data) == data) is not needs


@given(DATA)
def test_compressed_values_make_the_round_trip(data: bytes) -> None:
    line = marks.compressed(data)
    assert b"\n" not in line
    assert not line.endswith(b"\r")
    assert from_line(line) == from_line(line, len(data)) == data


@given(DATA)
def test_the_length_is_that_of_the_value(data: bytes) -> None:
    assert stored_values.length(to_line(data)) == len(data)
    assert stored_values.length(marks.compressed(data)) == len(zlib.compress(data))


@given(TRICKY)
@example(b"\\:\\\\\\n")
@example(b"\\:\\\\\\")
def test_only_what_was_escaped_is_unescaped(data: bytes) -> None:
    """Any input either unescapes to what was escaped, or raises ValueError."""
    try:
        value = unescape(data)
    except ValueError:
        return
    # An unescaped CR is accepted.
    assert escape(value) == data.replace(b"\r", b"\\r")


@given(DATA, st.sampled_from([b"", stored_values.ESCAPED, stored_values.COMPRESSED]))
def test_data_that_no_client_wrote_is_returned_unchanged(data: bytes, mark: bytes) -> None:
    content = mark + data
    try:
        value = from_line(content, 1000)
    except ValueError:
        value = content
    assert marks.plain(content, 1000) == value


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_decompression_is_bounded(size: int) -> None:
    bomb = marks.compressed(b"\n" * size)
    assert marks.plain(bomb, size) == b"\n" * size
    if size:
        with pytest.raises(ValueTooLarge, match=f"more than {size - 1} bytes"):
            marks.plain(bomb, size - 1)


def test_a_truncated_value_is_not_decompressed_in_part() -> None:
    content = stored_values.COMPRESSED + escape(zlib.compress(bytes(range(256)))[:-5])
    with pytest.raises(ValueError, match="truncated"):
        from_line(content)
    assert marks.plain(content, 1000) == content


@pytest.mark.parametrize("text", [b"5", b" 5\t", b"5\n", b"\r\n5\r\n"])
def test_white_space_around_a_number_may_be_escaped(text: bytes) -> None:
    assert stored_values.number(to_line(text)) == b"5"


@pytest.mark.parametrize("text", [b"\\n5", b"\\\\n5", b"\\:5", b"5\n5"])
def test_other_text_is_not_a_number(text: bytes) -> None:
    assert not stored_values.number(to_line(text)).isdigit()
