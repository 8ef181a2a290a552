"""Makes the pictures of the examples: python -m examples.screenshots [NAME ...]

Starts a server and each site, uses the site as its README says, and takes a picture of its page.
Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Page

from tests.browser.chromium import chromium, options
from tests.integration.running import RunningServer

HERE = Path(__file__).parent
# Seconds.
START = 60.0


def books(page: Page) -> None:
    """Read twice, add a review, and read again."""
    page.get_by_role("button", name="Read again").click()
    page.locator("li").nth(1).wait_for()
    page.get_by_role("button", name="5 stars").nth(1).click()
    page.locator("li").nth(3).wait_for()


def guests(page: Page) -> None:
    """Write some entries."""
    for name, city, text in [
        ("Ann", "Oslo", "What a fine page."),
        ("Bob", "Rome", "It was here before I asked for it!"),
        ("Cid", "Oslo", "Greetings to everyone."),
    ]:
        for field, value in (("Name", name), ("City", city), ("What would", text)):
            page.get_by_placeholder(field).fill(value)
        page.get_by_role("button", name="Write").click()


def blog(page: Page) -> None:
    """Look at a page, change one post, and look at it again."""
    page.get_by_role("link", name="Hello").click()
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Title").fill("Hello again")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="A blog").click()
    page.get_by_role("link", name="Hello again").wait_for()


class Example(NamedTuple):
    """A site: how it is started, with its port as {port}, and what is done before the picture."""

    command: str
    use: Callable[[Page], None]
    height: int


EXAMPLES = {
    "django_blog": Example("examples.django_blog.manage demo 127.0.0.1:{port}", blog, 560),
    "fastapi_service": Example(
        "uvicorn --workers 2 --port {port} examples.fastapi_service.service:app", books, 570
    ),
    "flask_page": Example("flask --app examples.flask_page.page run --port {port}", guests, 390),
}


@contextmanager
def running(example: Example, cache: str, directory: Path) -> Iterator[str]:
    """Run a site, and yield its address. Raises TimeoutError."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    module, *arguments = example.command.format(port=port).split()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=HERE.parent,
        # Their databases are in the temporary directory.
        env={**os.environ, "TAGCACHE_URL": cache, "TMPDIR": str(directory)},
    )
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    """Wait until something listens. Raises TimeoutError."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


def take(name: str, cache: str) -> None:
    """Take the picture of one example."""
    example = EXAMPLES[name]
    view = {"width": 760, "height": example.height}
    with (
        tempfile.TemporaryDirectory() as directory,
        running(example, cache, Path(directory)) as address,
        chromium() as browser,
    ):
        page = browser.new_page(**options(viewport=view, color_scheme="light"))
        page.goto(address)
        example.use(page)
        page.screenshot(path=HERE / name / "screenshot.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the pictures of the examples.")
    parser.add_argument("names", nargs="*", default=list(EXAMPLES), help=", ".join(EXAMPLES))
    names = parser.parse_args().names
    with tempfile.TemporaryDirectory() as directory:
        settings = {"authentication": {"password": "a long pass phrase"}}
        with RunningServer(Path(directory), settings) as server:
            for name in names:
                take(name, f"tagcache://127.0.0.1:{server.port}")


if __name__ == "__main__":
    main()
