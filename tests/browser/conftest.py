"""Fixtures: a browser for all tests, servers, and a monitored page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import chromium
from tests.browser.watched import Watched
from tests.integration.conftest import server, start
from tests.integration.running import RunningServer

__all__ = ["server", "start"]


# Not for the whole session: asyncio regards this thread's loop as running while it exists.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def look(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    """Open the page of a server. At the end, no opened page may have had an error."""
    opened: list[Watched] = []

    def look_at(server: RunningServer, **how: Any) -> Watched:
        opened.append(Watched(browser, server, **how))
        return opened[-1]

    yield look_at
    for watched in opened:
        watched.page.screenshot(path=tmp_path / "at-the-end.png")
        watched.close()
        assert watched.complaints() == []
