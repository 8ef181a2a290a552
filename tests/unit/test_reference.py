"""The generated reference has everything that the code has."""

from __future__ import annotations

import re

from tagcache.cli.main import main
from tagcache.config.loading import load
from tagcache.server.commands.resp.refused import REFUSED_COMMANDS
from tagcache.server.resp.commands import ENTRY_COMMANDS
from tools import reference


def first_cells(table: str) -> list[str]:
    return [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]


def test_every_knob() -> None:
    text = reference.knobs()
    for section, key, _ in load(None, {}).settings.knobs():
        assert f"### {section}.{key}\n" in text
    assert "\n\nseconds · 0.01 to 86400 · default: `1` · with a reload · environment:" in text
    assert "one of `memory`, `redis` · default: `memory` · at the next start" in text
    assert "See [tag-rules.md](../tag-rules.md)" not in text
    assert "see [distributed.md](../distributed.md)" in text


def test_every_verb_has_a_form_replies_and_a_sentence() -> None:
    cells = first_cells(reference.line_commands())
    rows = reference.assemble().lines.rows
    assert len(cells) == len(rows) + 2
    for row in rows:
        assert f"`{row.verb.decode()} {row.form}".strip() in " ".join(cells)
        assert row.about.endswith(".")
        assert row.replies


def test_every_command_of_resp() -> None:
    text = reference.resp_commands()
    for row in (*ENTRY_COMMANDS, *REFUSED_COMMANDS):
        assert f"`{row.verb.decode()}`" in text
    assert "| `TAG.COUNT` | 1 |" in text


def test_every_endpoint() -> None:
    text = reference.http_endpoints()
    for path, operations in reference.assemble().openapi["paths"].items():
        for method in operations:
            assert f"## {method.upper()} {reference.prose(path)}\n" in text


def test_every_command_of_the_command_line() -> None:
    text = reference.cli()
    for name in main.commands:
        assert f"## tagcache {name}\n" in text
    assert "## tagcache config set\n" in text


def test_every_metric() -> None:
    names = {cell.strip("`").partition("{")[0] for cell in first_cells(reference.metrics())}
    families = list(reference.assemble().metrics.collect())
    assert {family.name for family in families} <= {name.removesuffix("_total") for name in names}
    assert len(families) > 40


def test_every_error_word_is_explained() -> None:
    text = reference.command_errors()
    assert reference.words_in_code() >= {"missing_key", "empty_tags", "unknown_command"}
    for word in ("key_too_long", "missing_keys", "invalid_db", *reference.WORDS):
        assert f"\n| `{word}` |" in text
    assert set(reference.WORDS) <= reference.words_in_code()
    assert "`OOM command not allowed when used memory > 'maxmemory'.` | 507 |" in text
    assert "| `lease_refused` | 409 |" in reference.http_errors()


def test_text_of_the_code_is_not_taken_for_markdown() -> None:
    assert reference.prose("see docs/a.md: *.b, c_d and `e|f_`") == (
        r"see [a.md](../a.md): \*.b, c\_d and `e\|f_`"
    )


def test_a_page_is_filled() -> None:
    assert reference.filled("a\n<!-- generated: metrics -->\n").startswith("a\n| metric | type |")


def test_refused_commands_name_endpoints_that_exist() -> None:
    named = set(re.findall(r"(/\w+) over HTTP", reference.resp_commands()))
    assert named
    assert named <= set(reference.assemble().openapi["paths"])


def test_extras_of_users_have_a_purpose() -> None:
    rows = reference.extras().splitlines()[2:]
    assert len(rows) > 8
    assert not [row for row in rows if row.split("|")[2].strip() == "" or "-server[dev]" in row]
