"""What the dashboard shows of the Redis engine, with real Redis servers."""

from __future__ import annotations

import json
import re
import signal
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.watched import Watched
from tests.distributed.conftest import front, redis
from tests.distributed.redis_server import RedisServer, free_port
from tests.integration.running import ENGINE_URL, RunningServer, eventually

__all__ = ["front", "redis"]

Front = Callable[..., RunningServer]
Look = Callable[..., Watched]
pytestmark = [pytest.mark.needs("chromium", "redis-server", "redis-cli"), pytest.mark.slow]
EVIL = "<img src=x onerror=alert(1)>\u202e<script>alert(2)</script>"


def notice(page: Page) -> Any:
    return page.get_by_role("alert").filter(has_text="The entries cannot be reached.")


def section(page: Page) -> Any:
    return page.get_by_role("region", name="Engine")


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["hangs", "ends"])
def test_an_engine_that_goes_and_comes_back_is_told(
    redis: Callable[..., RedisServer], front: Front, look: Look, failure: str
) -> None:
    database = redis()
    watched = look(front(database.url, {"timeout_ms": 2000}))
    # The top tags may be read at the moment of the failure.
    watched.expected.append(r"status of 503")
    page = watched.log_in()
    expect(section(page).locator(".badge")).to_have_text("reachable")
    expect(notice(page)).to_have_count(0)
    if failure == "hangs":
        database.process.send_signal(signal.SIGSTOP)
    else:
        database.stop()
    expect(notice(page)).to_be_visible()
    why = {
        "hangs": re.compile("no answer in time|[Tt]imeout"),
        "ends": re.compile("refused|[Cc]onnect"),
    }
    expect(notice(page).locator(".detail")).to_have_text(why[failure])
    expect(section(page).locator(".badge")).to_have_text("not reachable")
    expect(section(page)).to_contain_text("as last seen")
    # The server itself can be reached.
    expect(page.locator(".pill")).to_have_text("Live")
    if failure == "hangs":
        database.process.send_signal(signal.SIGCONT)
    else:
        database.start()
    expect(notice(page)).to_have_count(0)
    expect(section(page).locator(".badge")).to_have_text("reachable")
    expect(page.get_by_role("region", name="Top tags")).to_contain_text("There are no tags yet")


def test_the_page_opens_while_the_engine_is_away(
    redis: Callable[..., RedisServer], front: Front, look: Look
) -> None:
    """Also if it could never be reached."""
    port = free_port()
    watched = look(front(f"redis://127.0.0.1:{port}/0"))
    page = watched.log_in()
    expect(notice(page)).to_be_visible()
    expect(section(page)).to_contain_text("No server has been reached yet.")
    expect(section(page).get_by_role("table")).to_be_hidden()
    memory = page.locator(".tile", has=page.get_by_role("heading", name="Memory", exact=True))
    eventually(lambda: memory.locator(".tile-more").text_content() != "\u00a0")
    expect(memory.locator(".tile-value")).to_have_text("–")
    # The notice belongs to the overview. It is shown again on return to it.
    watched.go("Events")
    expect(notice(page)).to_have_count(0)
    watched.go("Overview")
    expect(notice(page)).to_be_visible()
    page.reload()
    expect(notice(page)).to_be_visible()


def test_the_servers_and_what_is_near_are_listed(
    redis: Callable[..., RedisServer], front: Front, look: Look
) -> None:
    database = redis("--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru")
    server = front(database.url, {"near_cache_mb": 8})
    with server.connect() as client:
        client.ask(b"PUT\tk\t-\tt\t" + b"v" * 1000)

        def is_near() -> bool:
            client.ask(b"GET\tk")
            return bool(client.json(b"INFO")["engine"]["near_cache"]["hits"])

        eventually(is_near)
    page = look(server).log_in()
    memory = page.locator(".tile", has=page.get_by_role("heading", name="Memory", exact=True))
    expect(memory.locator(".tile-more")).to_have_text(
        re.compile(r"^\d\S+\s% of 64\.0\sMiB, of the Redis servers$")
    )
    chart = page.locator("figure", has=page.get_by_role("heading", name="Memory", exact=True))
    expect(chart.locator("figcaption")).to_contain_text("of the Redis servers")
    place = f"127.0.0.1:{database.port}"
    expect(section(page).locator(".place")).to_have_text(f"redis://{place}/0")
    row = section(page).get_by_role("row").filter(has=page.get_by_role("rowheader", name=place))
    expect(row.get_by_role("cell").nth(0)).to_have_text(re.compile(r"^Redis \d+\.\d+"))
    expect(row.get_by_role("cell").nth(1)).to_have_text(re.compile(r"^\d\S*\s[KM]iB$"))
    expect(row.get_by_role("cell").nth(2)).to_have_text(re.compile(r"^64\.0\sMiB$"))
    expect(row.get_by_role("cell").nth(3)).to_have_text("volatile-lru")
    near = section(page).locator(".near")
    expect(near.locator(".badge")).to_have_text("in use")
    entries = near.locator("dl > div").filter(has_text=re.compile("^Entries"))
    expect(entries.locator("dd")).to_have_text("1")
    expect(near).to_contain_text(re.compile(r"KiB of 8\.0\sMiB"))
    hits = near.locator("dl > div").filter(has_text=re.compile("^Hits")).locator("dd")
    before = int((hits.text_content() or "").replace(",", ""))
    with server.connect() as client:
        for _ in range(100):
            client.ask(b"GET\tk")
    eventually(lambda: int((hits.text_content() or "").replace(",", "")) >= before + 100)


def test_without_a_near_cache_or_a_limit_nothing_is_said_of_them(
    redis: Callable[..., RedisServer], front: Front, look: Look
) -> None:
    page = look(front(redis().url)).log_in()
    expect(section(page).get_by_role("row").nth(1)).to_contain_text("none")
    expect(section(page).locator(".near")).to_be_hidden()
    memory = page.locator(".tile", has=page.get_by_role("heading", name="Memory", exact=True))
    expect(memory.locator(".tile-more")).to_have_text("no limit set, of the Redis servers")
    expect(memory.locator(".meter")).to_be_hidden()


@pytest.mark.skipif(bool(ENGINE_URL), reason="the servers of this run have no engine in memory")
def test_with_the_engine_in_memory_nothing_is_said_of_it(server: RunningServer, look: Look) -> None:
    page = look(server).log_in()
    memory = page.locator(".tile", has=page.get_by_role("heading", name="Memory", exact=True))
    expect(memory.locator(".tile-more")).to_have_text(re.compile("^no limit set$|% of"))
    chart = page.locator("figure", has=page.get_by_role("heading", name="Memory", exact=True))
    expect(chart.locator("figcaption .about")).to_have_text("estimate for all entries")
    expect(section(page)).to_have_count(0)
    expect(notice(page)).to_have_count(0)
    assert page.locator(".notice").is_hidden()


class Hostile(socketserver.StreamRequestHandler):
    """A server that answers every command as a malicious Redis could."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            for _ in range(int(line[1:])):
                length = int(self.rfile.readline()[1:])
                self.rfile.read(length + 2)
            self.wfile.write(b"-MASTERDOWN " + EVIL.encode() + b"\r\n")


class Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def hostile_port() -> Iterator[int]:
    with Threads(("127.0.0.1", 0), Hostile) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_address[1]
        listening.shutdown()
        thread.join()


def test_hostile_errors_of_an_engine_are_only_text(
    hostile_port: int, front: Front, look: Look
) -> None:
    page = look(front(f"redis://127.0.0.1:{hostile_port}/0")).log_in()
    page.on("dialog", lambda shown: pytest.fail(f"a script ran: {shown.message}"))
    expect(notice(page)).to_contain_text("<img src=x onerror=alert(1)>\\u202e<script>alert(2)")
    assert page.locator("main img, main script").count() == 0


def test_hostile_servers_are_only_text(
    redis: Callable[..., RedisServer], front: Front, look: Look
) -> None:
    """Whatever a server claims to be."""
    watched = look(front(redis().url))
    page = watched.page
    page.on("dialog", lambda shown: pytest.fail(f"a script ran: {shown.message}"))

    def spoil(route: Route) -> None:
        told = route.fetch().json()
        told["engine"] = {
            "backend": EVIL,
            "url": EVIL,
            "status": EVIL,
            "detail": EVIL,
            "servers": [
                {
                    "address": EVIL,
                    "version": EVIL,
                    "eviction_policy": EVIL,
                    "used_memory_bytes": 1,
                    "max_memory_bytes": 0,
                }
            ],
            "near_cache": None,
        }
        route.fulfill(body=json.dumps(told), content_type="application/json")

    page.route("**/info", spoil)
    # The events of the stream come after it.
    page.route("**/events", lambda route: route.fulfill(body="", content_type="text/event-stream"))
    page.get_by_label("User").fill("admin")
    page.get_by_label("Password").fill("password")
    page.get_by_role("button", name="Log in").click()
    for part in (notice(page), section(page).locator(".place"), section(page).locator(".badge")):
        expect(part.first).to_contain_text("<img src=x onerror=alert(1)>\\u202e<script>")
    expect(section(page).get_by_role("rowheader")).to_contain_text("<img src=x")
    assert page.locator("main img, main script").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_holds_the_engine(
    redis: Callable[..., RedisServer], front: Front, look: Look, scheme: str
) -> None:
    database = redis("--maxmemory", "64mb")
    server = front(database.url, {"near_cache_mb": 8})
    watched = look(server, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = watched.log_in()
    expect(section(page).get_by_role("rowheader")).to_be_visible()
    watched.expected.append(r"status of 503")
    database.stop()
    expect(notice(page)).to_be_visible()
    section(page).scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert section(page).evaluate("(each) => each.scrollWidth <= each.clientWidth")
    for part in (notice(page), section(page).locator(".badge").first):
        assert part.evaluate(CONTRAST) >= 4.5


# The contrast of the text and its background, as WCAG defines it.
CONTRAST = """(element) => {
  const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3)
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const { color, backgroundColor } = getComputedStyle(element);
  const [dark, bright] = [light(color), light(backgroundColor)].sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
}"""
