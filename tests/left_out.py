"""Tests that are left out: reports at the end how many slow ones, with pytest-xdist too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest


class LeftOut:
    """A pytest plugin that counts the deselected tests with the mark ``slow``."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        # Deselected by ``-m``, not because other tests were selected.
        slow = [item for item in items if item.get_closest_marker("slow")]
        if slow and "not slow" in slow[0].config.option.markexpr:
            self._names.update(item.nodeid for item in slow)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send what this worker of pytest-xdist left out; all workers leave out the same tests."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["left_out"] = sorted(self._names)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # A crashed worker sends nothing.
        self._names.update(getattr(node, "workeroutput", {}).get("left_out", ()))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._names:
            terminalreporter.write_line(
                f"{len(self._names)} slow tests were left out; to run everything: make test-all",
                yellow=True,
            )


def skip(why: str) -> None:
    """Skip a test, but fail it in CI, where everything is installed: a skip would hide a gap."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
