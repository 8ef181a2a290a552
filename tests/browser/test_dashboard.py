"""The dashboard in a real browser, against a real server."""

from __future__ import annotations

import itertools
import json
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page, expect

from tests.browser.watched import Watched
from tests.integration.running import RunningServer, eventually

Start = Callable[..., RunningServer]
Look = Callable[..., Watched]
pytestmark = pytest.mark.needs("chromium")

UNREACHABLE = (
    r"ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY|ERR_FAILED"
)


@contextmanager
def load(server: RunningServer) -> Iterator[None]:
    """A client that sends requests all the time."""
    stop = threading.Event()

    def ask() -> None:
        with server.connect() as client:
            while not stop.wait(0.01):
                client.send(b"GET\thot\nGET\tcold\n" * 10)
                for _ in range(20):
                    client.line()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def fill(server: RunningServer, count: int = 120) -> None:
    lines = [b"PUT\tpage:%03d\t-\tauthor:%d,all\tvalue %d\n" % (n, n % 3, n) for n in range(count)]
    with server.connect() as client:
        client.send(b"".join(lines))
        for _ in lines:
            assert client.line() == b"OK\n"


def ask(server: RunningServer, path: str, body: Any = None) -> Any:
    request = Request(
        f"http://127.0.0.1:{server.http_port}{path}",
        None if body is None else json.dumps(body).encode(),
        {
            "Authorization": "Basic " + b64encode(b"admin:password").decode(),
            "Content-Type": "application/json",
        },
    )
    with urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def number_in(text: str | None) -> float:
    return float(re.sub(r"[^0-9.]", "", text or ""))


def dialog(page: Page) -> Any:
    return page.get_by_role("dialog")


def test_log_in_and_out(server: RunningServer, look: Look) -> None:
    watched = look(server)
    page = watched.log_in()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_text("The default password is in use. Change it")).to_be_visible()
    page.reload()
    expect(page.locator(".pill")).to_have_text("Live")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    page.reload()
    expect(page.get_by_label("Password")).to_be_visible()


def test_a_wrong_password_is_told(server: RunningServer, look: Look) -> None:
    watched = look(server)
    watched.expected.append(r"status of 401")
    page = watched.page
    page.get_by_label("User").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("User or password is wrong.")
    watched.log_in()


@pytest.mark.slow
def test_a_token_that_expires_ends_the_session(start: Start, look: Look) -> None:
    server = start({"authentication": {"token_lifetime_seconds": 4}})
    watched = look(server)
    watched.expected.append(r"status of 401")
    # On a busy machine the token may expire before the page has shown anything.
    watched.send_login()
    expect(watched.page.get_by_role("alert")).to_contain_text("session has")
    expect(watched.page.get_by_label("Password")).to_be_visible()
    server.reload(authentication={"token_lifetime_seconds": 3600})
    watched.log_in()


def test_a_changed_password_ends_the_session(server: RunningServer, look: Look) -> None:
    watched = look(server)
    watched.expected.append(r"status of 401")
    page = watched.log_in()
    ask(server, "/auth/change_password", {"new_password": "another"})
    expect(page.get_by_role("alert")).to_contain_text("session has")
    watched.log_in(password="another")
    expect(page.get_by_text("The default password is in use. Change it")).to_be_hidden()


def test_without_authentication_nothing_is_asked(start: Start, look: Look) -> None:
    page = look(start({"security": {"require_auth": "false"}})).page
    expect(page.locator(".pill")).to_have_text("Live")
    expect(page.get_by_role("button", name="Log out")).to_be_hidden()


@pytest.mark.slow
def test_numbers_move_under_load(server: RunningServer, look: Look) -> None:
    fill(server, 30)
    server.ask(b"PUT\thot\t-\t-\tv")
    page = look(server).log_in()
    tile = page.locator(".tile", has=page.get_by_role("heading", name="Requests", exact=True))
    expect(
        page.locator(".tile", has=page.get_by_role("heading", name="Entries")).locator(
            ".tile-value"
        )
    ).to_have_text("31")
    with load(server):
        eventually(lambda: number_in(tile.locator(".tile-value").text_content()) > 200)
        ratio = page.locator(".tile", has=page.get_by_role("heading", name="Hit ratio")).locator(
            ".tile-value"
        )
        eventually(lambda: 45 < number_in(ratio.text_content()) < 55)
        requests = page.locator(
            "figure", has=page.get_by_role("heading", name="Requests", exact=True)
        )
        first = requests.locator(".line.c1").get_attribute("d")
        assert first
        eventually(lambda: requests.locator(".line.c1").get_attribute("d") != first)
    axis = requests.locator(".grid text").all_text_contents()
    assert "0" in axis
    assert any(re.fullmatch(r"\d\d:\d\d", text) for text in axis)
    eventually(
        lambda: (
            tile.locator(".tile-value").text_content() == "0.5/s"
            or number_in(tile.locator(".tile-value").text_content()) < 20
        )
    )


@pytest.mark.slow
def test_a_chart_tells_its_values_to_pointer_and_keyboard(
    server: RunningServer, look: Look
) -> None:
    page = look(server).log_in()
    chart = page.locator("figure", has=page.get_by_role("heading", name="Reactor lag"))
    eventually(lambda: (chart.locator(".line").get_attribute("d") or "").count("L") >= 1)
    # Its content is redrawn every two seconds.
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 40, box["y"] + box["height"] / 2)
    tip = chart.locator(".tip")
    expect(tip).to_be_visible()
    expect(tip).to_contain_text(re.compile(r"\d\d:\d\d:\d\d.*(ms|µs)"))
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()
    chart.locator(".plot").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(tip).to_be_visible()
    expect(chart.locator(".marks")).to_have_attribute("visibility", "visible")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    page.get_by_role("button", name="1 hour").click()
    expect(page.get_by_role("button", name="1 hour")).to_have_attribute("aria-pressed", "true")


def test_a_connection_appears_with_its_socket_options_and_can_be_closed(
    start: Start, look: Look
) -> None:
    server = start({"performance": {"tcp_keepalive_seconds": 77, "send_buffer_bytes": 50000}})
    watched = look(server)
    page = watched.log_in()
    watched.go("Connections")
    with server.connect() as client:
        mine = next(each["id"] for each in client.json(b"CLIENTS") if each["listener"] == "cache")
        row = page.locator(f'tr[data-id="{mine}"]')
        expect(row).to_contain_text("CLIENTS")
        row.get_by_role("button", name="Socket options").click()
        options = page.locator(f'tr[data-id="{mine}"] + tr')
        keepalive = options.locator('[data-option="tcp_keepalive_seconds"]')
        expect(keepalive.locator("td").nth(0)).to_have_text("77")
        expect(keepalive.locator("td").nth(1)).to_have_text("77")
        expect(keepalive).to_contain_text("as requested")
        buffer = options.locator('[data-option="send_buffer_bytes"]')
        expect(buffer.locator("td").nth(0)).to_have_text("50,000")
        expect(buffer.locator("td").nth(1)).to_have_text("100,000")
        expect(buffer).to_contain_text("rounded up")
        # The details stay open while the row is updated.
        before = row.locator("td").nth(5).text_content()
        client.ask(b"PING")
        expect(row).to_contain_text("PING")
        assert row.locator("td").nth(5).text_content() != before
        expect(keepalive).to_be_visible()
        row.get_by_role("button", name="Close connection").click()
        dialog(page).get_by_role("button", name="Close connection").click()
        expect(page.get_by_text(f"Connection {mine} is closed.")).to_be_visible()
        with pytest.raises(ConnectionResetError):
            client.rest()
        expect(row).to_have_count(0)
    listener = page.locator("details", has_text="cache")
    listener.locator("summary").click()
    expect(listener.locator('[data-option="listen_backlog"]')).to_contain_text("1,024")


def test_an_option_that_is_refused_is_marked(start: Start, look: Look, tmp_path: Any) -> None:
    """The system caps buffers. Values that differ from the request are marked."""
    server = start({"performance": {"receive_buffer_bytes": 1073741823}})
    watched = look(server)
    page = watched.log_in()
    watched.go("Connections")
    with server.connect() as client:
        client.ask(b"PING")
        # The system caps buffers far below that.
        badge = page.locator("tbody .badge.differs").first
        expect(badge).to_contain_text("differ")
        page.locator(".disclose").first.click()
        expect(page.locator("tr.differs").first).to_contain_text("1,073,741,823")


def test_tags_are_invalidated_after_a_preview(server: RunningServer, look: Look) -> None:
    fill(server, 30)
    watched = look(server)
    page = watched.log_in()
    watched.go("Tags")
    rows = page.locator(".view.tags tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.nth(0)).to_contain_text("all")
    expect(rows.nth(0)).to_contain_text("30")
    page.get_by_label("Select author:1").check()
    page.get_by_label("Select author:2").check()
    page.get_by_role("button", name="Invalidate 2 tags…").click()
    preview = dialog(page).locator(".preview")
    expect(preview).to_have_text(re.compile("^20.entries will be removed.$"))
    dialog(page).get_by_role("button", name="All of the tags").click()
    expect(preview).to_have_text(re.compile("^0.entries will be removed.$"))
    expect(dialog(page).get_by_role("button", name="Nothing to invalidate")).to_be_disabled()
    dialog(page).get_by_label("Tags").fill("author:1\nall")
    expect(preview).to_have_text(re.compile("^10.entries will be removed.$"))
    assert ask(server, "/stats")["items"] == 30
    dialog(page).get_by_role("button", name=re.compile("^Invalidate 10")).click()
    expect(page.get_by_text(re.compile("10.entries removed."))).to_be_visible()
    expect(rows).to_have_count(3)
    assert ask(server, "/stats")["items"] == 20
    assert server.ask(b"KEYS\tauthor:1") == b"KEYS\t\n"


def test_the_keys_of_a_tag_are_paged(server: RunningServer, look: Look) -> None:
    fill(server)
    watched = look(server)
    page = watched.log_in()
    watched.go("Tags")
    page.get_by_role("link", name="all", exact=True).click()
    expect(page.get_by_role("heading", name="all", level=1)).to_be_visible()
    expect(page.locator(".head")).to_contain_text(re.compile("120.keys"))
    seen = set()
    for expected in ("1–50", "51–100", "101–120"):
        expect(page.locator(".pager")).to_contain_text(expected)
        seen |= set(page.locator("tbody .key-cell").all_text_contents())
        if expected != "101–120":
            page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    assert seen == {f"page:{n:03}" for n in range(120)}
    page.get_by_role("button", name="Invalidate…").click()
    dialog(page).get_by_role("button", name=re.compile("^Invalidate 120")).click()
    expect(page.get_by_text("No entry carries this tag")).to_be_visible()


def test_tags_by_bytes_hits_and_prefix(server: RunningServer, look: Look) -> None:
    with server.connect() as client:
        client.ask(b"PUT\ta\t-\tmany\tv")
        client.ask(b"PUT\tb\t-\tmany\tv")
        client.ask(b"PUT\tc\t-\tlarge\t" + b"v" * 5000)
        client.ask(b"PUT\td\t-\tread\tv")
        client.send(b"GET\td\n" * 1000)
        for _ in range(1000):
            client.line()
    watched = look(server)
    page = watched.log_in()
    watched.go("Tags")
    first = page.locator(".view.tags tbody tr").first
    expect(first).to_contain_text("many")
    page.get_by_role("button", name="Size").click()
    expect(first).to_contain_text("large")
    page.get_by_role("button", name="Hits").click()
    expect(first).to_contain_text("read")
    page.get_by_label("Tags with this prefix").fill("man")
    expect(page.locator(".view.tags tbody tr")).to_have_count(1)
    page.get_by_label("Tags with this prefix").fill("nothing")
    expect(page.get_by_text("No tag has this prefix")).to_be_visible()


def test_entries_are_put_edited_and_deleted(server: RunningServer, look: Look) -> None:
    watched = look(server)
    page = watched.log_in()
    watched.go("Keys")
    expect(page.get_by_text("No entry found")).to_be_visible()
    page.get_by_role("button", name="New entry").click()
    form = dialog(page)
    form.get_by_label("Key").fill("a key/with?odd%chars")
    form.get_by_label("Value").fill('{"n":12345678901234567890,"list":[1,{}]}')
    form.get_by_label("Tags").fill("one\ntwo, with a comma")
    form.get_by_label("Time to live").fill("600")
    form.get_by_role("button", name="Store").click()
    expect(page.get_by_text("The entry is stored.")).to_be_visible()
    page.get_by_role("link", name="a key/with?odd%chars").click()
    shown = page.locator(".value-view")
    expect(shown).to_have_text(
        '{\n  "n": 12345678901234567890,\n  "list": [\n    1,\n    {}\n  ]\n}'
    )
    page.get_by_role("button", name="Text").click()
    expect(shown).to_have_text('{"n":12345678901234567890,"list":[1,{}]}')
    page.get_by_role("button", name="Hex").click()
    expect(shown).to_contain_text("00000000  7b 22 6e 22 3a 31 32 33  34 35 36")
    expect(page.locator(".facts")).to_contain_text("9\u00a0min")
    expect(page.locator(".facts").get_by_role("link")).to_have_text(["one", "two, with a comma"])
    page.get_by_role("button", name="Edit").click()
    expect(form.get_by_label("Key")).to_have_attribute("readonly", "")
    expect(form.get_by_label("Value")).to_have_value('{"n":12345678901234567890,"list":[1,{}]}')
    form.get_by_label("Value").fill("changed")
    form.get_by_label("Tags").fill("three")
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The entry is saved.")).to_be_visible()
    (item,) = ask(server, "/keys/bulk/get", {"keys": ["a key/with?odd%chars"]})["items"]
    assert (item["value"], item["tags"]) == ("changed", ["three"])
    assert 500_000 < item["ttl_ms"] <= 600_000
    expect(shown).to_have_text("changed")
    page.get_by_role("button", name="Delete").click()
    dialog(page).get_by_role("button", name="Delete entry").click()
    expect(page.get_by_text("The entry is deleted.")).to_be_visible()
    expect(page.get_by_text("No entry found")).to_be_visible()
    assert ask(server, "/stats")["items"] == 0


def test_an_entry_that_is_too_large_is_refused_in_the_form(start: Start, look: Look) -> None:
    watched = look(start({"cache": {"max_value_length": 10}}))
    watched.expected.append(r"status of 413")
    page = watched.log_in()
    watched.go("Keys")
    page.get_by_role("button", name="New entry").click()
    dialog(page).get_by_label("Key").fill("k")
    dialog(page).get_by_label("Value").fill("more than ten bytes")
    dialog(page).get_by_role("button", name="Store").click()
    expect(dialog(page).get_by_role("alert")).to_contain_text("the limit is 10")
    page.keyboard.press("Escape")
    expect(dialog(page)).to_have_count(0)


def test_keys_are_searched_and_paged(server: RunningServer, look: Look) -> None:
    fill(server)
    server.ask(b"PUT\tother\t-\t-\tv")
    watched = look(server)
    page = watched.log_in()
    watched.go("Keys")
    cells = page.locator("tbody .key-cell")
    expect(cells.first).to_have_text("other")
    expect(page.locator(".pager")).to_contain_text("1–50")
    field = page.get_by_role("searchbox")
    field.fill("page:")
    page.keyboard.press("Enter")
    expect(cells.first).to_have_text("page:119")
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".pager")).to_contain_text("101–120")
    expect(cells).to_have_count(20)
    page.get_by_role("button", name="Previous").click()
    expect(page.locator(".pager")).to_contain_text("51–100")
    field.fill("author:1, author:2")
    page.get_by_role("button", name="Any tag").click()
    expect(page.locator(".pager")).to_contain_text("1–50")
    page.get_by_role("button", name="All tags").click()
    expect(page.get_by_text("No entry found")).to_be_visible()
    field.fill("author:1,all")
    page.get_by_role("button", name="Search").click()
    expect(cells).to_have_count(40)


def test_hostile_names_and_values_are_only_text(server: RunningServer, look: Look) -> None:
    evil = "<img src=x onerror=alert(1)>\u202e<script>alert(2)</script>"
    ask(server, "/put", {"key": evil, "value": evil, "tags": [evil, "javascript:alert(3)"]})
    server.ask(b"PUT\tbinary\t-\t\xff\xfe\t\x00\x01\xff<b>")
    server.ask(b"INV_TAG\t<svg onload=alert(4)>")
    watched = look(server)
    page = watched.log_in()
    page.on("dialog", lambda shown: pytest.fail(f"a script ran: {shown.message}"))
    for tab in ("Tags", "Keys", "Events", "Connections", "Configuration"):
        watched.go(tab)
        page.wait_for_timeout(300)
        assert page.locator("main img, main script, main b").count() == 0
    watched.go("Keys")
    page.get_by_role("link", name=re.compile("^<img")).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("\\u202e<script>")
    expect(page.locator(".value-view")).to_have_text(evil)
    watched.go("Keys")
    page.get_by_role("button", name="Groups").click()
    expect(page.locator("tbody")).to_contain_text("<img src=x onerror=alert(1)>\\u202e")
    assert page.locator("main img, main script, main b").count() == 0
    watched.go("Keys")
    page.get_by_role("link", name="binary").click()
    expect(page.locator(".value-head")).to_contain_text("binary")
    expect(page.locator(".value-view")).to_contain_text("00 01 ff 3c 62 3e")


def test_the_configuration_is_shown_with_secrets_masked(start: Start, look: Look) -> None:
    server = start(
        {"authentication": {"password": "very-secret"}, "cache": {"max_memory": "64mb"}},
        environ={"CLEANUP_INTERVAL_SECONDS": "7"},
    )
    watched = look(server)
    page = watched.log_in(password="very-secret")
    watched.go("Configuration")

    def knob(name: str) -> Any:
        return page.locator(f'tr[data-knob="{name}"]')

    expect(knob("authentication.password")).to_contain_text("••••••••")
    expect(knob("authentication.password")).to_contain_text("file")
    expect(knob("cache.max_memory")).to_contain_text("67108864")
    expect(knob("server.cleanup_interval_seconds")).to_contain_text("environment")
    expect(knob("server.tcp_port")).to_contain_text("needs a restart")
    expect(knob("logging.slow_command_ms")).to_contain_text("applies on reload")
    assert "very-secret" not in page.content()
    page.get_by_label("Only changed settings").check()
    expect(knob("cache.max_key_length")).to_have_count(0)
    expect(knob("cache.max_memory")).to_be_visible()
    page.get_by_label("Filter settings").fill("nothing like this")
    expect(page.get_by_text("No setting matches")).to_be_visible()
    server.reload(server={"tcp_port": 12345})
    watched.go("Overview")
    watched.go("Configuration")
    expect(page.locator(".warning")).to_contain_text("server.tcp_port")


def test_events_are_listed_as_they_happen(start: Start, look: Look) -> None:
    server = start({"logging": {"slow_command_ms": 1}})
    fill(server, 20)
    watched = look(server)
    page = watched.log_in()
    watched.go("Events")
    expect(page.locator(".head")).to_contain_text("slow: 1\u00a0ms or more")
    server.ask(b"INV_TAG\tauthor:1")
    row = page.locator('tr[data-event="invalidation"]').first
    expect(row).to_contain_text(re.compile("7.entries by INV_TAG of author:1"))
    expect(row).to_contain_text("127.0.0.1:")
    with server.connect() as client:
        client.send(b"PUT\tk\t-\t-\t" + b"v" * 100 + b"\n" + b"GET\tk\n" * 40_000)
        for _ in range(40_001):
            client.line()
    slow = page.locator('tr[data-event="slow"]').first
    expect(slow).to_contain_text("ms for")
    page.get_by_role("button", name="Slow").click()
    expect(page.locator('tr[data-event="invalidation"]')).to_have_count(0)
    expect(slow).to_be_visible()


def test_many_events_of_a_kind_do_not_push_out_another(start: Start, look: Look) -> None:
    server = start({"performance": {"max_connections": 12}})
    clients = [server.connect() for _ in range(12)]
    for client in clients:
        client.ask(b"PING")
    with server.connect() as refused:
        refused.rest()
    with clients[0] as client:
        client.send(b"INV_TAG\tnothing\n" * 600)
        for _ in range(600):
            client.line()
    for client in clients[1:]:
        client.sock.close()
    watched = look(server)
    page = watched.log_in()
    watched.go("Events")
    expect(page.locator('tr[data-event="invalidation"]').first).to_be_visible()
    page.get_by_role("button", name="Refused").click()
    expect(page.locator('tr[data-event="refused"]')).to_have_count(1)


def test_a_refused_connection_is_an_event(start: Start, look: Look) -> None:
    # A browser opens up to a dozen connections.
    server = start({"performance": {"max_connections": 30}})
    watched = look(server)
    page = watched.log_in()
    watched.go("Events")
    clients = [server.connect() for _ in range(30)]
    expect(page.locator('tr[data-event="refused"]')).to_contain_text("max_connections reached")
    for client in clients:
        client.sock.close()
    expect(page.locator(".pill")).to_have_text("Live")


@pytest.mark.slow
@pytest.mark.parametrize("by_hand", [False, True], ids=["by itself", "by hand"])
def test_a_server_that_is_gone_is_shown_and_comes_back(
    start: Start, look: Look, by_hand: bool
) -> None:
    server = start()
    watched = look(server)
    watched.expected.append(UNREACHABLE)
    page = watched.page
    page.clock.install()
    watched.log_in()
    token_is_void = r"status of 401"
    watched.expected.append(token_is_void)
    server.stop()
    expect(page.locator(".pill")).to_have_text("Disconnected")
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    if by_hand:
        # No timer fires any more, so only the button can cause what follows.
        page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
    start({"server": {"http_port": server.http_port}})
    if by_hand:
        page.get_by_role("button", name="Try now").click()
    # Tokens end with the server.
    expect(page.get_by_text("Your session has ended:")).to_be_visible()
    page.clock.resume()
    watched.log_in()
    expect(page.get_by_text("The server cannot be reached.")).to_be_hidden()


def test_a_connection_that_is_cut_comes_back_by_itself(server: RunningServer, look: Look) -> None:
    watched = look(server)
    watched.expected.append(UNREACHABLE)
    page = watched.log_in()
    for each in ask(server, "/connections")["connections"]:
        if each["listener"] == "http":
            server.ask(b"CLIENT_KILL\t%d" % each["id"])
    expect(page.locator(".pill")).to_have_text("Disconnected")
    expect(page.locator(".pill")).to_have_text("Live")
    expect(page.locator(".banner[role=alert]")).to_be_hidden()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_holds_every_view(server: RunningServer, look: Look, scheme: str) -> None:
    fill(server, 20)
    ask(server, "/put", {"key": "k" * 300, "value": "v", "tags": ["t" * 300]})
    server.ask(b"INV_TAG\tauthor:1")
    watched = look(server, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = watched.log_in()
    for tab in ("Overview", "Connections", "Tags", "Keys", "Configuration", "Events"):
        watched.go(tab)
        page.wait_for_timeout(400)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{tab} is {wide} wide"
        assert page.locator(".state.error").count() == 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == (scheme == "dark")


@pytest.mark.parametrize(
    "source",
    [
        '{"a":{},"b":[],"c":[{}],"d":"}{,:\\"[","e":-1.50e+10,"f":12345678901234567890}',
        '[1,[2,[3]],true,null,"\\u0041"]',
        " [ ] ",
        "{ }",
        '["a b",  "c\\\\"]',
    ],
)
def test_json_is_laid_out_and_nothing_in_it_changed(
    server: RunningServer, look: Look, source: str
) -> None:
    page = look(server).page
    laid_out = page.evaluate(
        "async (source) => (await import('/dashboard/entry.js')).prettyJson(source)", source
    )
    assert re.sub(r"\s", "", laid_out) == re.sub(r"\s", "", source)
    assert json.loads(laid_out) == json.loads(source)
    if len(json.loads(source)) > 0:
        assert laid_out.count("\n") >= len(json.loads(source))


def test_what_is_not_json_is_not_laid_out(server: RunningServer, look: Look) -> None:
    page = look(server).page
    for source in ("", "12", "{", "[1,]", "<b>{}</b>", "{} {}"):
        script = "async (source) => (await import('/dashboard/entry.js')).prettyJson(source)"
        assert page.evaluate(script, source) is None


def test_an_axis_begins_at_nothing_and_reaches_the_most(server: RunningServer, look: Look) -> None:
    page = look(server).page
    script = "async ([most, how]) => (await import('/dashboard/chart.js')).ticks(most, how)"
    for most in (0, 1e-6, 0.3, 1, 7, 99, 1000, 123_456, 5e9):
        for how in ({}, {"binary": True}, {"integer": True}):
            marks = page.evaluate(script, [most, how])
            assert marks[0] == 0
            assert marks[-1] >= most * 0.999
            assert 2 <= len(marks) <= 7
            steps = {round(b - a, 12) for a, b in itertools.pairwise(marks)}
            assert max(steps) == pytest.approx(min(steps))
    assert page.evaluate(script, [3.5 * 2**20, {"binary": True}])[1] == 2**20


def test_everything_is_reached_with_the_keyboard(server: RunningServer, look: Look) -> None:
    fill(server, 3)
    watched = look(server)
    page = watched.page
    expect(page.get_by_label("User")).to_be_focused()
    page.keyboard.type("admin")
    page.keyboard.press("Tab")
    page.keyboard.type("password")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.reload()
    expect(page.locator(".pill")).to_have_text("Live")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for _ in range(4):
        page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Keys")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="page:002").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="page:002")).to_be_visible()
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("button", name="Edit").focus()
    page.keyboard.press("Enter")
    expect(dialog(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Edit")).to_be_focused()
