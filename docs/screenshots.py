"""Makes the pictures of the dashboard: python -m docs.screenshots [--minutes 6] [--every DIRECTORY]

Starts a server, loads it for some minutes, and takes pictures of its real page. Those that the
documentation shows go to docs/images; with --every, each view in light, in dark and in a narrow
window goes to a directory, to be looked at. Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.browser.chromium import chromium, options
from tests.integration.running import RunningServer

IMAGES = Path(__file__).parent / "images"
VIEWS = ("overview", "connections", "tags", "keys", "config", "events")
SETTINGS = {
    "cache": {"max_memory": "24mb"},
    "logging": {"level": "info", "slow_command_ms": 20},
    "performance": {
        "tcp_keepalive_seconds": 300,
        "tcp_keepalive_interval_seconds": 30,
        "send_buffer_bytes": 65536,
        "max_connections": 500,
    },
    "security": {"rate_limit_per_minute": 0},
}
PASSWORD = "a long pass phrase"
KEYS = 60_000


class Load:
    """Clients that read, write and invalidate, more and less."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(number,)) for number in range(7)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _client(self, number: int) -> None:
        rng = random.Random(number)
        with socket.create_connection(("127.0.0.1", self._server.port)) as sock:
            replies = sock.makefile("rb")
            begun = time.monotonic()
            while not self._stop.wait(0.02 if number < 6 else 0.1):
                age = time.monotonic() - begun
                lively = 1 + 0.5 * math.sin(age / 35) + 0.25 * math.sin(age / 7 + number)
                lines = self._some(rng, max(2, int(14 * lively))) if number < 6 else _rare(rng)
                sock.sendall(b"\n".join([*lines, b""]))
                for _ in lines:
                    replies.readline()

    def _some(self, rng: random.Random, count: int) -> list[bytes]:
        lines = []
        for _ in range(count):
            key = int(KEYS * rng.betavariate(0.6, 2.4))
            lines.append(_put(key, rng) if rng.random() < 0.22 else b"GET\tpage:%d" % key)
        return lines


def _put(key: int, rng: random.Random) -> bytes:
    tags = b"post:%d,author:%d,lang:%b" % (key % 4000, key % 90, (b"en", b"de", b"fr")[key % 3])
    ttl = rng.choice((b"-", b"30000", b"120000", b"600000"))
    return b'PUT\tpage:%d\t%b\t%b\t{"id":%d,"title":"Page %d","body":"%b"}' % (
        *(key, ttl, tags, key, key),
        b"x" * rng.randrange(80, 400),
    )


def _rare(rng: random.Random) -> list[bytes]:
    lines = [b"PING"]
    if rng.random() < 0.25:
        lines.append(b"INV_TAG\tpost:%d" % rng.randrange(4000))
    if rng.random() < 0.02:
        lines.append(b"INV_TAGS_ALL\tauthor:%d,lang:de" % rng.randrange(90))
    if rng.random() < 0.006:
        lines.append(b"KEYS\tlang:en")
    return lines


@contextmanager
def loaded_server(minutes: float) -> Iterator[RunningServer]:
    """A server that has been busy for so long, and still is."""
    with tempfile.TemporaryDirectory() as directory:
        settings = {**SETTINGS, "authentication": {"password": PASSWORD}}
        with RunningServer(Path(directory), settings) as server, Load(server):
            for what in (b"blob:1\t-\timages\t\x89PNG\r\x1a" + bytes(range(32, 250)),):
                server.ask(b"PUT\t" + what)
            time.sleep(minutes * 60)
            server.ask(
                b'PUT\tsettings:site\t-\tsite,lang:en\t{"name":"Example","big":12345678901234567890,"items":[1,2,{"a":null}],"empty":{}}'
            )
            server.ask(b"INV_TAGS_ANY\tauthor:3,author:4")
            yield server


def log_in(page: Page, server: RunningServer) -> None:
    """Open the page, and log in."""
    page.goto(f"http://127.0.0.1:{server.http_port}/")
    page.get_by_label("User").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.locator(".pill.live").wait_for()


def show(page: Page, view: str) -> None:
    """Go to a view, and wait until it is drawn."""
    page.evaluate("view => { location.hash = `#/${view}`; }", view)
    page.locator(f".view.{re.split('[/?]', view)[0]}").wait_for()
    page.locator(".state.loading").first.wait_for(state="detached")
    page.wait_for_timeout(2500)


def take_all(browser: Browser, server: RunningServer, directory: Path) -> None:
    """Every view in light, dark and narrow, and the dialogs."""
    directory.mkdir(parents=True, exist_ok=True)
    kinds = {
        "light": options(color_scheme="light", viewport={"width": 1280, "height": 900}),
        "dark": options(color_scheme="dark", viewport={"width": 1280, "height": 900}),
        "narrow": options(color_scheme="light", viewport={"width": 375, "height": 812}),
        "narrow-dark": options(color_scheme="dark", viewport={"width": 375, "height": 812}),
    }
    for kind, how in kinds.items():
        page = browser.new_page(**how)
        page.goto(f"http://127.0.0.1:{server.http_port}/")
        page.get_by_label("User").wait_for()
        page.screenshot(path=directory / f"{kind}-login.png")
        log_in(page, server)
        for view in VIEWS:
            show(page, view)
            if view == "connections":
                page.locator(".disclose").first.click()
                page.locator(".group .disclose").click()
                page.locator(".listener").first.click()
            elif view == "overview":
                page.locator(".plot").first.hover(position={"x": 200, "y": 80})
            elif view == "events":
                page.get_by_role("button", name="Pause").click()
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(
                path=directory / f"{kind}-{view}.png",
                full_page=view in ("overview", "connections"),
            )
        show(page, "tags/author%3A5")
        page.screenshot(path=directory / f"{kind}-tag.png")
        page.get_by_role("button", name="Invalidate…").click()
        page.wait_for_timeout(500)
        page.screenshot(path=directory / f"{kind}-invalidate.png")
        page.keyboard.press("Escape")
        show(page, "keys?view=groups")
        page.screenshot(path=directory / f"{kind}-groups.png")
        page.get_by_role("button", name="Delete found…").click()
        page.get_by_role("button", name=re.compile("^Delete .* entries$")).wait_for()
        page.screenshot(path=directory / f"{kind}-delete.png")
        page.keyboard.press("Escape")
        show(page, "keys/settings%3Asite")
        page.screenshot(path=directory / f"{kind}-entry.png")
        page.get_by_role("button", name="Edit").click()
        page.wait_for_timeout(300)
        page.screenshot(path=directory / f"{kind}-edit.png")
        page.close()


def take_for_documentation(browser: Browser, server: RunningServer) -> None:
    """Those that the documentation shows, kept small."""
    IMAGES.mkdir(exist_ok=True)
    for name, scheme, view, height in (
        ("dashboard-overview", "light", "overview", 1070),
        ("dashboard-overview-dark", "dark", "overview", 1070),
        ("dashboard-connections", "light", "connections", 760),
        ("dashboard-tags", "dark", "tags", 700),
    ):
        page = browser.new_page(
            **options(color_scheme=scheme, viewport={"width": 1280, "height": height})
        )
        log_in(page, server)
        show(page, view)
        if view == "connections":
            page.locator(".disclose").nth(1).click()
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
        elif view == "overview":
            page.locator(".plot").first.hover(position={"x": 760, "y": 80})
        page.screenshot(path=IMAGES / f"{name}.png")
        page.close()


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=6.0, help="how long to load the server")
    parser.add_argument("--every", type=Path, help="also take every view, to this directory")
    parser.add_argument("--only-every", action="store_true", help="leave docs/images alone")
    arguments = parser.parse_args()
    with loaded_server(arguments.minutes) as server, chromium() as browser:
        if not arguments.only_every:
            take_for_documentation(browser, server)
        if arguments.every:
            take_all(browser, server, arguments.every)


if __name__ == "__main__":
    main()
