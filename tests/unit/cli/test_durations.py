"""Times to live on the command line."""

from __future__ import annotations

import click
import pytest

from tagcache.cli.durations import Duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("250ms", 250),
        ("90", 90_000),
        ("90s", 90_000),
        ("5m", 300_000),
        ("1.5h", 5_400_000),
        (" 7d ", 604_800_000),
        ("0", 0),
        ("0.1ms", 1),
        ("18446744073709551615ms", 2**64 - 1),
    ],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert Duration().convert(text, None, None) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "5 m", "m", "-1", "+1", "1e3", "1w", "5M", "1.", ".5", "\u0665m", "9" * 21]
)
def test_invalid_durations(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration"):
        Duration().convert(text, None, None)


def test_a_duration_that_is_too_long() -> None:
    with pytest.raises(click.BadParameter, match="too long"):
        Duration().convert("99999999999999999999d", None, None)
