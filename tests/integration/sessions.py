"""Runs the shell sessions of the documentation."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path


def run_session(session: str, environ: Mapping[str, str], directory: Path) -> None:
    """Run each command after a ``$``, and compare its output with the lines that follow."""
    steps = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", session, re.MULTILINE)
    assert steps
    for command, expected in steps:
        done = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            timeout=60,
            env=environ,
            cwd=directory,
        )
        assert done.stderr == "", command
        # In a terminal the next prompt is on its own line anyway, and a count has a word.
        expected = re.sub(r"^(\d+) removed$", r"\1", expected, flags=re.MULTILINE)
        assert done.stdout.rstrip("\n") == expected.rstrip("\n"), command
