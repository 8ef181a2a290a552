"""Values as they are stored: themselves, or after a header; and as earlier versions stored them."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagcache.errors import ValueTooLarge
from tagcache.model import stored_values
from tagcache.wire import values
from tagcache.wire.values import compressed, original, plain, stored

# The characters that headers, marks and escapes depend on.
TRICKY = st.text(alphabet="\\:nrz\n\r\ta\xc1", max_size=12).map(lambda text: text.encode("latin-1"))
DATA = st.one_of(st.binary(max_size=200), TRICKY)
MARKS = (b"\\:", b"\\z:")


def escape(data: bytes) -> bytes:
    """Escape as earlier versions did, so that a line could hold the value."""
    return data.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


@given(DATA)
@example(b"\xc1")
@example(b"\xc1r")
@example(b"\xc1z")
@example(b"\\:")
@example(b"\\z:")
def test_any_bytes_make_the_round_trip(data: bytes) -> None:
    assert original(stored(data)) == plain(stored(data), 1000) == data


@given(DATA)
def test_data_that_does_not_begin_like_a_header_is_unchanged(data: bytes) -> None:
    needs = data.startswith((b"\xc1", *MARKS))
    assert stored(data) == (b"\xc1r" + data if needs else data)


@given(DATA)
def test_compressed_values_make_the_round_trip(data: bytes) -> None:
    content = compressed(data)
    assert content == b"\xc1z" + zlib.compress(data)
    assert original(content) == original(content, len(data)) == data


@given(DATA)
def test_the_length_is_that_of_the_value(data: bytes) -> None:
    assert stored_values.length(stored(data)) == len(data)
    assert stored_values.length(compressed(data)) == len(zlib.compress(data))


@given(DATA)
def test_values_of_earlier_versions_are_read(data: bytes) -> None:
    assert original(b"\\:" + escape(data)) == data
    assert original(b"\\z:" + escape(zlib.compress(data)), len(data)) == data
    assert stored_values.length(b"\\:" + escape(data)) == len(data)
    assert stored_values.length(b"\\z:" + escape(zlib.compress(data))) == len(zlib.compress(data))


@given(TRICKY)
@example(b"\\\\\\n")
@example(b"\\\\\\")
def test_only_what_was_escaped_is_unescaped(data: bytes) -> None:
    """Any input either unescapes to what was escaped, or raises ValueError."""
    try:
        value = original(b"\\:" + data)
    except ValueError:
        return
    # An unescaped CR is accepted.
    assert escape(value) == data.replace(b"\r", b"\\r")


@given(DATA, st.sampled_from([b"", b"\xc1", b"\xc1z", *MARKS]))
def test_data_that_no_client_wrote_is_returned_unchanged(data: bytes, mark: bytes) -> None:
    content = mark + data
    try:
        value = original(content, 1000)
    except ValueError:
        value = content
    assert plain(content, 1000) == value


def test_an_unknown_header_is_part_of_the_value() -> None:
    assert original(b"\xc1") == b"\xc1"
    assert original(b"\xc1a") == b"\xc1a"


@pytest.mark.parametrize("size", [0, 1, 1000])
@pytest.mark.parametrize("old", [False, True])
def test_decompression_is_bounded(size: int, old: bool) -> None:
    data = b"\n" * size
    bomb = b"\\z:" + escape(zlib.compress(data)) if old else compressed(data)
    assert plain(bomb, size) == data
    if size:
        with pytest.raises(ValueTooLarge, match=f"more than {size - 1} bytes"):
            plain(bomb, size - 1)


def test_a_truncated_value_is_not_decompressed_in_part() -> None:
    truncated = zlib.compress(bytes(range(256)))[:-5]
    for content in (b"\xc1z" + truncated, b"\\z:" + escape(truncated)):
        with pytest.raises(ValueError, match="truncated"):
            values.original(content)
        assert plain(content, 1000) == content


@pytest.mark.parametrize("text", [b"5", b" 5\t", b"5\n", b"\r\n5\r\n", b"\\:5\\n", b"\\:\\r\\n5"])
def test_white_space_around_a_number(text: bytes) -> None:
    assert stored_values.number(text) == b"5"


@pytest.mark.parametrize("text", [b"\\n5", b"\\:\\\\n5", b"\\:\\:5", b"\\:5\\n5", b"\xc1r5"])
def test_other_text_is_not_a_number(text: bytes) -> None:
    assert not stored_values.number(text).isdigit()
