"""A page of the dashboard, with a record of its errors."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from tests.browser.chromium import PATIENCE_MS, options
from tests.integration.running import RunningServer

expect.set_options(timeout=PATIENCE_MS)

_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


class Watched:
    """The page of a server. ``expected`` are patterns of console messages that a test causes."""

    def __init__(self, browser: Browser, server: RunningServer, **how: Any) -> None:
        self.origin = f"http://127.0.0.1:{server.http_port}"
        self.expected: list[str] = []
        self._messages: list[str] = []
        self._requests: list[str] = []
        self.page: Page = browser.new_page(**options(**how))
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.add_init_script(_VIOLATIONS)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self._messages.append(f"uncaught: {error}"))
        self.page.on("request", self._requested)
        self.page.goto(f"{self.origin}/")

    def send_login(self, user: str = "admin", password: str = "password") -> None:
        self.page.get_by_label("User").fill(user)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()

    def log_in(self, user: str = "admin", password: str = "password") -> Page:
        self.send_login(user, password)
        expect(self.page.locator(".pill")).to_have_text("Live")
        return self.page

    def go(self, tab: str) -> None:
        """Open a tab by its name."""
        views = self.page.get_by_role("navigation", name="Views")
        views.get_by_role("link", name=tab, exact=True).click()
        expect(self.page.get_by_role("heading", name=tab, level=1)).to_be_visible()

    def close(self) -> None:
        self._violations: list[str] = self.page.evaluate("window.violations")
        self.page.close()

    def complaints(self) -> list[str]:
        """The errors: console messages, requests to other hosts, violations of the policy."""
        unexpected = [
            message
            for message in self._messages
            if not any(re.search(pattern, message) for pattern in self.expected)
        ]
        elsewhere = [
            url for url in self._requests if not url.startswith((f"{self.origin}/", "data:"))
        ]
        return [*unexpected, *elsewhere, *self._violations]

    def _said(self, message: ConsoleMessage) -> None:
        self._messages.append(f"{message.type}: {message.text}")

    def _requested(self, request: Request) -> None:
        self._requests.append(request.url)
