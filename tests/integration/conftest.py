"""Servers for integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.running import RunningServer


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Start servers that stop at the end of the test. None may have logged a traceback."""
    started: list[RunningServer] = []

    def start_one(
        sections: dict[str, dict[str, object]] | None = None, **more: Any
    ) -> RunningServer:
        directory = tmp_path / f"server{len(started)}"
        directory.mkdir()
        started.append(RunningServer(directory, sections, **more))
        return started[-1]

    yield start_one
    for server in started:
        with server:
            pass
        assert "Traceback" not in server.text(), server.text()


@pytest.fixture
def server(start: Callable[..., RunningServer]) -> RunningServer:
    """A server with the default configuration, on a free port."""
    return start()
