"""Checks of what may be stored, for all engines."""

from __future__ import annotations

from collections.abc import Iterable

from tagcache.errors import IntegerOverflow, KeyTooLong, TagTooLong, TooManyTags, ValueTooLarge
from tagcache.model import int64, stored_values
from tagcache.model.limits import Limits


def check_lengths(limits: Limits, key: bytes, value: bytes) -> None:
    """Raise KeyTooLong, ValueTooLarge."""
    if len(key) > limits.max_key_length:
        raise KeyTooLong(f"the key has {len(key)} bytes, the limit is {limits.max_key_length}")
    # The header, or a mark and its escapes, do not count.
    if len(value) > limits.max_value_length < (size := stored_values.length(value)):
        raise value_too_large(limits, size)


def value_too_large(limits: Limits, size: int) -> ValueTooLarge:
    """Return the error for a value of ``size`` bytes."""
    return ValueTooLarge(f"the value has {size} bytes, the limit is {limits.max_value_length}")


def check_tags(limits: Limits, tags: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the tags in order, without duplicates. Raises TooManyTags, TagTooLong."""
    checked = tuple(dict.fromkeys(tags))
    if len(checked) > limits.max_tags_per_entry:
        raise TooManyTags(f"{len(checked)} tags, the limit is {limits.max_tags_per_entry}")
    for tag in checked:
        if len(tag) > limits.max_tag_length:
            raise TagTooLong(f"a tag has {len(tag)} bytes, the limit is {limits.max_tag_length}")
    return checked


def check_integer(number: int) -> None:
    """Raise IntegerOverflow for a number that does not fit into 64 bits."""
    if not int64.MIN <= number <= int64.MAX:
        raise IntegerOverflow
