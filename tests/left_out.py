"""Says at the end how many slow tests a run left out, also where workers ran the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


class LeftOut:
    """A plugin of pytest that counts the tests with the mark ``slow`` that were deselected."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        # By ``-m``, not because other tests were asked for.
        slow = [item for item in items if item.get_closest_marker("slow")]
        if slow and "not slow" in slow[0].config.option.markexpr:
            self._names.update(item.nodeid for item in slow)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Have a worker of pytest-xdist send what it left out; all of them leave out the same."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["left_out"] = sorted(self._names)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # A worker that has crashed sends nothing.
        self._names.update(getattr(node, "workeroutput", {}).get("left_out", ()))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._names:
            terminalreporter.write_line(
                f"{len(self._names)} slow tests were left out; to run everything: make test-all",
                yellow=True,
            )
