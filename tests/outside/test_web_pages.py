"""What a page of another origin can do to the server, in Chromium."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import chromium, options
from tests.integration.conftest import server, start
from tests.integration.running import TIMEOUT, RunningServer
from tests.integration.tls import tls_endpoint

__all__ = ["server", "start"]

Start = Callable[..., RunningServer]
pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(180)]

EVIL = "evil.example"
PASSWORD = "correct horse"
SECRET = {"authentication": {"password": PASSWORD}}
# It navigates a tab, because a frame of another site does not get the credentials. One field of a
# text/plain form is a whole line: its name, "=", its value.
FORM = """
([action, enctype, name]) => {
  const form = document.createElement("form");
  Object.assign(form, {action, enctype, method: "POST", target: "_blank"});
  if (name) form.append(Object.assign(document.createElement("input"), {name, value: "x"}));
  document.body.append(form);
  form.submit();
}
"""
POST = """
([url, body]) => fetch(url, {method: "POST", mode: "no-cors", credentials: "include", body})
  .then(() => "answered", (error) => String(error))
"""
# A page reads from a server that the browser regards as the page's own origin.
READ = """
async ([path, method]) => {
  const headers = {Authorization: "Basic " + btoa("admin:password")};
  const answer = await fetch(path, {method, headers});
  return [answer.status, await answer.text()];
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(EVIL, "localhost") as launched:
        yield launched


@contextmanager
def empty_page() -> Iterator[int]:
    """Another server with an empty page; yields its port."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Evil</title>")

        def log_message(self, *args: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield serving.server_port
        finally:
            serving.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def attacker() -> Iterator[int]:
    with empty_page() as port:
        yield port


@pytest.fixture(params=["127.0.0.1", "localhost", EVIL])
def page(request: pytest.FixtureRequest, browser: Browser, attacker: int) -> Iterator[Page]:
    """A page of the attacker, on the same site as the server or on another."""
    with browser.new_context(**options()) as context:
        opened = context.new_page()
        opened.goto(f"http://{request.param}:{attacker}/")
        yield opened


def remember_credentials(page: Page, server: RunningServer) -> None:
    """Let the browser log in to the server, in another tab."""
    tab = page.context.new_page()
    answer = tab.goto(f"http://admin:{PASSWORD}@127.0.0.1:{server.http_port}/stats")
    assert answer is not None
    assert answer.status == 200
    tab.close()


def submit(page: Page, url: str, enctype: str = "", name: str = "") -> str:
    """Submit a form, and return the page of the response."""
    with page.expect_popup() as popup:
        page.evaluate(FORM, [url, enctype, name])
    tab = popup.value
    tab.wait_for_load_state()
    answer = tab.content()
    tab.close()
    return answer


def works(server: RunningServer) -> bool:
    """Return whether the password is unchanged."""
    return server.ask(b"AUTH\tadmin\t%b" % PASSWORD.encode()) == b"OK\n"


def test_a_browser_sends_lines_that_the_line_port_would_execute(page: Page) -> None:
    """The precondition of the next test."""
    with create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        page.evaluate(
            f"void fetch({url!r}, {{method: 'POST', mode: 'no-cors', body: 'GET\\tk\\n'}})"
        )
        client, _ = listening.accept()
        with client:
            client.settimeout(TIMEOUT)
            data = b""
            while not data.endswith(b"GET\tk\n"):
                data += client.recv(65536)
        assert data.startswith(b"POST / HTTP/1.1\r\n")
        assert b"\r\n\r\nGET\tk\n" in data


def test_a_page_does_not_reach_the_line_port(server: RunningServer, page: Page) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    server.ask(b"PUT\tk\t-\tt\tv")
    body = "PUT\tevil\t-\t-\tevil\nINV_TAG\tt\n"
    assert "TypeError" in page.evaluate(POST, [url, body])
    assert "TypeError" in page.evaluate(POST, [url + "x" * 100_000, body])
    submit(page, url, "text/plain", "\nPUT\tevil\t-\t-\tevil\nINV_TAG\tt\n")
    assert server.ask(b"GET\tevil") == b"NF\n"
    assert server.ask(b"GET\tk") == b"VALUE\tv\n"
    server.wait_for_log("cache: refused 127.0.0.1:")
    with server.connect() as client:
        assert client.json(b"INFO")["connections"]["refused"] >= 3


def test_a_page_changes_nothing_with_the_credentials_of_the_browser(
    start: Start, page: Page
) -> None:
    server = start(SECRET)
    remember_credentials(page, server)
    server.ask(b"PUT\tk\t-\t-\tv")
    url = f"http://127.0.0.1:{server.http_port}"
    for path in ("/flush", "/auth/reset", "/auth/rotate", "/put"):
        assert '"error":"foreign_origin"' in submit(page, url + path), path
        page.evaluate(POST, [url + path, ""])
    assert server.ask(b"GET\tk") == b"VALUE\tv\n"
    assert works(server)
    assert "http: refused POST from 127.0.0.1: origin 'http" in server.text()


def test_the_browser_does_send_its_credentials(start: Start, page: Page) -> None:
    """Otherwise the previous test would pass for another reason."""
    origin = page.evaluate("location.origin")
    server = start({**SECRET, "server": {"allowed_origin": origin}})
    remember_credentials(page, server)
    server.ask(b"PUT\tk\t-\t-\tv")
    assert "success" in submit(page, f"http://127.0.0.1:{server.http_port}/flush")
    assert server.ask(b"GET\tk") == b"NF\n"


def test_a_page_whose_origin_is_hidden_changes_nothing(start: Start, page: Page) -> None:
    server = start(SECRET)
    remember_credentials(page, server)
    server.ask(b"PUT\tk\t-\t-\tv")
    page.set_content("<meta name=referrer content=no-referrer>")
    answer = submit(page, f"http://127.0.0.1:{server.http_port}/flush")
    assert '"error":"foreign_origin"' in answer
    assert server.ask(b"GET\tk") == b"VALUE\tv\n"
    assert "origin 'null'" in server.text()


@pytest.fixture
def rebind(start: Start, browser: Browser) -> Iterator[Callable[..., tuple[Page, RunningServer]]]:
    """Open a page of the attacker, and start a server at the address of the page.

    For the browser this is DNS rebinding: the attacker's name now points to the server.
    """
    with browser.new_context(**options()) as context:

        def open_then_start(**settings: object) -> tuple[Page, RunningServer]:
            page = context.new_page()
            with empty_page() as port:
                page.goto(f"http://{EVIL}:{port}/")
            return page, start({"server": {"http_port": port, **settings}})

        yield open_then_start


def test_a_name_that_was_made_to_point_here_opens_nothing(
    rebind: Callable[..., tuple[Page, RunningServer]],
) -> None:
    page, server = rebind()
    for path in ("/stats", "/get/k", "/get/k", "/config", "/health", "/dashboard/live.js", "/"):
        status, body = page.evaluate(READ, [path, "GET"])
        assert (status, '"error":"unknown_host"' in body) == (421, True), path
    assert page.evaluate(READ, ["/flush", "POST"])[0] == 421
    assert f"http: refused GET from 127.0.0.1: host '{EVIL}:{server.http_port}'" in server.text()


def test_a_name_that_is_allowed_by_a_reload(
    rebind: Callable[..., tuple[Page, RunningServer]],
) -> None:
    page, server = rebind(allowed_hosts="cache.example")
    assert page.evaluate(READ, ["/get/k", "GET"])[0] == 421
    server.reload(server={"allowed_hosts": "*.example"})
    assert page.evaluate(READ, ["/get/k", "GET"]) == [200, '{"error":"not_found"}']
    assert page.evaluate(READ, ["/flush", "POST"]) == [200, '{"success":true,"count":0}']
    server.reload(server={"allowed_hosts": ""})
    assert page.evaluate(READ, ["/get/k", "GET"])[0] == 421


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_page_of_the_server_changes_things(
    start: Start, browser: Browser, tmp_path: Path, scheme: str, name: str
) -> None:
    secured, _ = tls_endpoint(tmp_path)
    server = start({"server": {"http_port": secured if scheme == "https" else 0}})
    page = browser.new_page(**options(ignore_https_errors=True))
    page.goto(f"{scheme}://{name}:{server.http_port}/")
    server.ask(b"PUT\tk\t-\t-\tv")
    assert page.evaluate(READ, ["/flush", "POST"]) == [200, '{"success":true,"count":1}']
    page.close()
