"""Debian's Chromium, without a window and without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, sync_playwright

PROGRAM = "chromium"
# The longest that a browser may take to start, and a page to look as expected; mostly it does at
# once.
PATIENCE_MS = 60_000
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-client-side-phishing-detection",
    "--disable-component-extensions-with-background-pages",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-features=OptimizationHints,MediaRouter,Translate,InterestFeedContentSuggestions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-pings",
    "--no-proxy-server",
]


@contextmanager
def chromium(*names: str) -> Iterator[Browser]:
    """A browser that can reach only this machine. ``names`` are host names that resolve to it."""
    rules = [*(f"MAP {name} 127.0.0.1" for name in names), "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"]
    flags = [*FLAGS, f"--host-resolver-rules={', '.join(rules)}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(PROGRAM), args=flags, timeout=PATIENCE_MS
        )
        try:
            yield browser
        finally:
            browser.close()


def options(**more: Any) -> dict[str, Any]:
    """The settings of a page, the same on every machine."""
    return {"viewport": {"width": 1440, "height": 900}, "locale": "en-GB", **more}
