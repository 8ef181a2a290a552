"""The sample file, the configspec and the code have the same knobs, and each is used."""

from __future__ import annotations

import ast
from pathlib import Path

from configobj import ConfigObj

import tagcache
from tagcache.config.descriptions import descriptions
from tagcache.config.loading import NEEDS_RESTART, Origin, configspec, load

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "conf" / "tagcache.conf"


def names_in_code() -> set[tuple[str, str]]:
    return {(section, key) for section, key, _ in load(None, {}).settings.knobs()}


def names_in(config: ConfigObj) -> set[tuple[str, str]]:
    return {(section, key) for section in config for key in config[section]}


def test_file_configspec_and_code_name_the_same_knobs() -> None:
    sample = ConfigObj(str(SAMPLE), interpolation=False)
    assert names_in(sample) == names_in(configspec()) == names_in_code()


def test_the_file_gives_every_knob_its_default() -> None:
    from_file = load(SAMPLE, {})
    assert from_file.settings == load(None, {}).settings
    assert set(from_file.origins.values()) == {Origin.FILE}


def test_every_knob_is_explained() -> None:
    explained = False
    for line in SAMPLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            explained = False
        elif line.startswith("#"):
            explained = True
        elif "=" in line:
            assert explained, line


def test_every_knob_is_described_in_the_words_of_the_file() -> None:
    described = descriptions()
    assert set(described) == names_in_code()
    assert not [name for name, text in described.items() if len(text) < 10 or "[R]" in text]
    shared = "Kernel buffers of a connection, in bytes"
    assert described["performance", "send_buffer_bytes"].startswith(shared)
    assert described["performance", "receive_buffer_bytes"].startswith(shared)
    # Not the description of a group of knobs.
    assert described["performance", "tcp_nodelay"].startswith("Send at once")


def test_the_file_marks_what_needs_a_restart() -> None:
    marked = set()
    section, comment = "", ""
    for line in SAMPLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section, comment = line.strip("[]"), ""
        elif line.startswith("#"):
            comment += line
        elif "=" in line:
            if "[R]" in comment:
                marked.add((section, line.split("=")[0].strip()))
        else:
            comment = ""
    assert marked == set(NEEDS_RESTART)
    assert marked <= names_in_code()


def test_every_knob_is_read_somewhere() -> None:
    """As ``settings.section.knob``, or as ``section.knob`` where only the section is passed."""
    read = set()
    for path in Path(tagcache.__file__).parent.rglob("*.py"):
        if path.parent.name == "config" and path.name != "limits.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                holder = node.value
                if isinstance(holder, ast.Attribute):
                    read.add((holder.attr, node.attr))
                elif isinstance(holder, ast.Name):
                    read.add((holder.id, node.attr))
    assert names_in_code() - read == set()
