"""Tables for an interactive session."""

from __future__ import annotations

from tagcache.tables import Report, table


def test_a_report_shows_itself() -> None:
    assert repr(Report("some\ntext")) == "some\ntext"


def test_numbers_go_to_the_right_and_text_to_the_left() -> None:
    shown = table(("name", "count", "share"), [("a", 5, 0.25), ("long", 12345, None)], "none")
    assert shown.text.splitlines() == [
        "name  count  share",
        "----  -----  -----",
        "a         5  0.250",
        "long  12345  -",
    ]


def test_no_rows() -> None:
    assert table(("a",), [], "nobody").text == "nobody"
