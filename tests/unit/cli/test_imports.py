"""A command starts quickly, because it imports only what it needs."""

from __future__ import annotations

import subprocess
import sys


def test_the_command_does_not_import_twisted() -> None:
    script = (
        "import sys, tagcache.cli.main; "
        "print([m for m in sys.modules if m.partition('.')[0] in ('twisted', 'OpenSSL')])"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "tagcache", "--help"]
    assert subprocess.check_output(command, text=True).startswith("Usage: python -m tagcache ")
