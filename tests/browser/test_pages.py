"""Views of the dashboard in a real browser: addresses, groups, searches and hints."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_dashboard import ask, dialog, fill, load
from tests.browser.watched import Watched
from tests.integration.running import RunningServer, eventually

Start = Callable[..., RunningServer]
Look = Callable[..., Watched]
pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(180), pytest.mark.slow]

ODD = "a b/c?d#e%f&g=h+i%2Fü'\"<b>:\u202e"


def module(page: Page, name: str, call: str, argument: Any = None) -> Any:
    """Call an exported function of one of the page's modules."""
    script = f"async (given) => (await import('/dashboard/{name}.js')).{call}"
    return page.evaluate(script, argument)


def panel(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=name)


def tile(page: Page, name: str) -> Any:
    return page.locator(".tile", has=page.get_by_role("heading", name=name, exact=True))


def chart(page: Page, name: str) -> Any:
    return page.locator("figure", has=page.get_by_role("heading", name=name, exact=True))


# Logging in


def test_a_new_server_tells_how_to_log_in(server: RunningServer, look: Look) -> None:
    watched = look(server)
    page = watched.page
    hint = page.locator(".hint")
    expect(hint).to_contain_text("The default password is in use: user admin")
    expect(hint).to_contain_text("tagcache change-password")
    expect(hint).to_contain_text("authentication.password in tagcache.conf")
    ask(server, "/auth/change_password", {"new_password": "another"})
    page.reload()
    expect(page.get_by_label("Password")).to_be_visible()
    expect(hint).to_be_hidden()
    watched.log_in(password="another")


def test_a_rejected_token_is_told_and_the_address_is_kept(
    server: RunningServer, look: Look
) -> None:
    server.ask(b"PUT\tk\t-\tt\tv")
    watched = look(server)
    watched.expected.append(r"status of 401")
    page = watched.log_in()
    page.goto(f"{watched.origin}/#/keys/k")
    expect(page.locator(".value-view")).to_have_text("v")
    page.evaluate(
        """() => sessionStorage.setItem("tagcache.session", JSON.stringify(
            { token: "12345", user: "admin", expires: Date.now() + 600000 }))"""
    )
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("no longer accepts its token. Log in again.")
    watched.log_in()
    expect(page.locator(".value-view")).to_have_text("v")


def test_a_token_that_expired_while_the_page_was_away_is_told(
    server: RunningServer, look: Look
) -> None:
    watched = look(server)
    page = watched.log_in()
    page.evaluate(
        """() => sessionStorage.setItem("tagcache.session", JSON.stringify(
            { token: "12345", user: "admin", expires: Date.now() - 1 }))"""
    )
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("Your session has expired. Log in again.")
    page.reload()
    expect(page.get_by_label("Password")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("first", ["request", "stream"])
def test_an_open_server_that_begins_to_ask_is_told(start: Start, look: Look, first: str) -> None:
    """Whether the page asks for something first, or the server ends its stream of events."""
    server = start({"security": {"require_auth": "false"}})
    watched = look(server)
    watched.expected.append(r"status of 401")
    expect(watched.page.locator(".pill")).to_have_text("Live")
    server.reload(security={"require_auth": "true"})
    if first == "request":
        # Not by a click: the stream may end before it.
        watched.page.evaluate("location.hash = '#/connections'")
    expect(watched.page.get_by_role("alert")).to_contain_text("now requires you to log in")


# The overview


def test_top_tags_commands_and_errors_are_on_the_overview(
    server: RunningServer, look: Look
) -> None:
    fill(server, 30)
    server.ask(b"PUT\tword\t-\t-\tnot a number")
    watched = look(server)
    page = watched.log_in()
    tags = panel(page, "Top tags").locator("tbody tr")
    expect(tags.nth(0)).to_contain_text("all")
    expect(tags.nth(0)).to_contain_text("30")
    expect(tags).to_have_count(4)
    commands = panel(page, "Commands").locator("tbody tr")
    expect(commands.filter(has_text=re.compile("^PUT"))).to_contain_text("31")
    expect(panel(page, "Errors")).to_contain_text("No errors since the start")
    for _ in range(3):
        assert server.ask(b"INCR\tword").startswith(b"ERR")
    errors = panel(page, "Errors").locator("tbody tr")
    expect(errors).to_contain_text("value is not an integer")
    expect(errors.locator("td").last).to_have_text("3")
    with load(server):
        row = commands.filter(has_text=re.compile("^GET"))
        expect(row.first.locator("td").nth(1)).to_have_text(re.compile(r"^[1-9][\d,.]*/s$"))
    tags.nth(0).get_by_role("link").click()
    expect(page).to_have_url(f"{watched.origin}/#/tags/all")


def test_processor_and_memory_of_the_process_are_on_the_overview(
    server: RunningServer, look: Look
) -> None:
    page = look(server).log_in()
    expect(tile(page, "CPU").locator(".tile-value")).to_have_text(re.compile(r"^[\d.]+\s%$"))
    expect(tile(page, "Process memory").locator(".tile-value")).to_have_text(
        re.compile(r"^\d[\d.]+\sMiB$")
    )
    for name in ("CPU", "Process memory"):
        eventually(lambda name=name: chart(page, name).locator(".line").get_attribute("d"))


def test_where_nothing_was_read_there_is_no_hit_ratio(server: RunningServer, look: Look) -> None:
    page = look(server).log_in()
    expect(tile(page, "Hit ratio").locator(".tile-value")).to_have_text("no reads")
    ratio = chart(page, "Hit ratio")
    expect(ratio.locator(".legend .value")).to_have_text("no reads")
    expect(ratio.locator(".waiting")).to_have_text("No reads in this time")
    expect(ratio.locator(".waiting")).to_be_visible()
    assert not ratio.locator(".line").get_attribute("d")
    # Reads, no reads, and reads again: two lines with a gap between them.
    server.ask(b"GET\tnothing")
    eventually(lambda: ratio.locator(".line").get_attribute("d"))
    expect(tile(page, "Hit ratio").locator(".tile-value")).to_have_text("no reads")
    expect(ratio.locator(".waiting")).to_be_hidden()
    server.ask(b"PUT\tk\t-\t-\tv")
    server.ask(b"GET\tk")
    eventually(lambda: (ratio.locator(".line").get_attribute("d") or "").count("M") == 2)


def test_a_ratio_counts_each_read_once(server: RunningServer, look: Look) -> None:
    """The mean of several samples in one point is weighted by their reads."""
    page = look(server).page
    call = 'valueOf({ name: "hits", of: "lookups" }, given)'
    samples = [{"hits": 900, "lookups": 1000}, {"hits": 0, "lookups": 1}, {"hits": 0, "lookups": 0}]
    assert module(page, "chart", call, samples) == pytest.approx(900 / 1001)
    assert module(page, "chart", call, samples[2:]) is None


# Addresses


def test_a_key_has_an_address(server: RunningServer, look: Look) -> None:
    ask(server, "/put", {"key": ODD, "value": "found", "tags": [ODD]})
    watched = look(server)
    page = watched.log_in()
    page.goto(f"{watched.origin}/#/keys/{quote(ODD, safe='')}")
    expect(page.locator(".value-view")).to_have_text("found")
    page.reload()
    expect(page.locator(".value-view")).to_have_text("found")
    expect(page.get_by_role("heading", level=1)).to_contain_text("a b/c?d#e%f&g=h+i%2Fü")
    expect(page).to_have_title(re.compile(r"^a b/c\?d.* · Keys · TagCache$"))
    page.locator(".facts").get_by_role("link").click()
    expect(page.get_by_role("button", name="Invalidate…")).to_be_visible()
    assert page.evaluate("location.hash").startswith("#/tags/a%20b%2Fc%3Fd%23e%25f%26g")
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("tbody .key-cell a").click()
    expect(page.locator(".value-view")).to_have_text("found")
    page.go_back()
    expect(page.get_by_role("button", name="Invalidate…")).to_be_visible()
    page.go_back()
    expect(page.locator(".value-view")).to_have_text("found")


def test_a_key_that_is_not_there_is_told(server: RunningServer, look: Look) -> None:
    watched = look(server)
    page = watched.log_in()
    page.goto(f"{watched.origin}/#/keys/nothing")
    expect(page.get_by_text("There is no such entry")).to_be_visible()
    expect(page.get_by_role("button", name="Edit")).to_be_hidden()
    # An invalid escape, as somebody may type it.
    page.goto(f"{watched.origin}/#/keys/100%")
    expect(page.get_by_role("heading", name="100%", exact=True)).to_be_visible()


def test_a_search_and_its_page_have_an_address(server: RunningServer, look: Look) -> None:
    fill(server)
    server.ask(b"PUT\tother\t-\t-\tv")
    watched = look(server)
    page = watched.log_in()
    watched.go("Keys")
    cells = page.locator("tbody .key-cell")
    page.get_by_role("searchbox").fill("page:")
    page.keyboard.press("Enter")
    expect(cells.first).to_have_text("page:119")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".pager")).to_contain_text("51–100")
    page.reload()
    expect(page.locator(".pager")).to_contain_text("51–100")
    expect(page.get_by_role("searchbox")).to_have_value("page:")
    cells.first.get_by_role("link").click()
    expect(page.locator(".value-view")).to_be_visible()
    page.go_back()
    expect(page.locator(".pager")).to_contain_text("51–100")
    page.go_back()
    expect(page.locator(".pager")).to_contain_text("1–50")
    page.go_back()
    expect(cells.first).to_have_text("other")
    page.go_forward()
    expect(cells.first).to_have_text("page:119")


# Groups, and deleting the results


def test_keys_are_grouped_by_prefix(server: RunningServer, look: Look) -> None:
    with server.connect() as client:
        for key in ("user:1:name", "user:1:mail", "user:2:name", "user:", "plain", "a/b", "a/c"):
            client.ask(b"PUT\t%s\t-\t-\tv" % key.encode())
    watched = look(server)
    page = watched.log_in()
    watched.go("Keys")
    page.get_by_role("button", name="Groups").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_text(["user:…4", "a/b1", "a/c1", "plain1"])
    rows.nth(0).get_by_role("link").click()
    expect(rows).to_have_text(["user:1:…2", "user:1", "user:2:…1"])
    rows.nth(0).get_by_role("link").click()
    expect(rows).to_have_text(["user:1:mail1", "user:1:name1"])
    page.reload()
    expect(rows).to_have_text(["user:1:mail1", "user:1:name1"])
    page.get_by_role("link", name="user:", exact=True).click()
    expect(rows).to_have_text(["user:1:…2", "user:1", "user:2:…1"])
    page.go_back()
    page.go_back()
    page.go_back()
    expect(rows).to_have_count(4)
    page.get_by_label("Separator").fill("/")
    page.get_by_label("Separator").press("Enter")
    expect(rows.nth(0)).to_have_text("a/…2")
    rows.nth(0).get_by_role("link").click()
    rows.nth(0).get_by_role("link").click()
    expect(page.get_by_role("heading", name="a/b")).to_be_visible()


def test_what_is_found_is_deleted_after_a_count(server: RunningServer, look: Look) -> None:
    fill(server)
    server.ask(b"PUT\tother\t-\t-\tv")
    server.ask(b"PUT\tpage:\xff\t-\t-\tv")
    watched = look(server)
    page = watched.log_in()
    page.goto(f"{watched.origin}/#/keys?q=page%3A0")
    expect(page.locator(".pager")).to_contain_text("1–50")
    page.get_by_role("button", name="Delete found…").click()
    expect(dialog(page)).to_contain_text("Entries whose key begins with page:0.")
    preview = dialog(page).locator(".preview")
    expect(preview).to_have_text(re.compile(r"^50.entries will be deleted\.$"))
    dialog(page).get_by_role("button", name="All found").click()
    expect(preview).to_have_text(re.compile(r"^100.entries will be deleted\.$"))
    assert ask(server, "/stats")["items"] == 122
    dialog(page).get_by_role("button", name="This page").click()
    expect(preview).to_have_text(re.compile(r"^50.entries"))
    dialog(page).get_by_role("button", name=re.compile("^Delete 50")).click()
    expect(page.get_by_text(re.compile(r"50.entries deleted\."))).to_be_visible()
    expect(page.locator(".pager")).to_contain_text("1–50")
    assert ask(server, "/stats")["items"] == 72
    # The keys of a group are not listed, so all results are deleted.
    page.goto(f"{watched.origin}/#/keys?q=page%3A&view=groups")
    page.get_by_role("button", name="Delete found…").click()
    expect(preview).to_contain_text(re.compile(r"^70.entries will be deleted\."))
    expect(preview).to_contain_text(re.compile(r"1.entry cannot be named here"))
    dialog(page).get_by_role("button", name=re.compile("^Delete 70")).click()
    expect(page.get_by_text(re.compile(r"70.entries deleted\."))).to_be_visible()
    assert ask(server, "/stats")["items"] == 2
    assert server.ask(b"GET\tother").startswith(b"VALUE")


def test_more_than_fits_one_request_is_deleted(start: Start, look: Look) -> None:
    server = start({"server": {"max_body_bytes": 300_000}})
    with server.connect() as client:
        lines = [b"PUT\t%d%s\t-\t-\tv\n" % (n, b"k" * 1000) for n in range(400)]
        client.send(b"".join(lines))
        for _ in lines:
            assert client.line() == b"OK\n"
    watched = look(server)
    page = watched.log_in()
    page.goto(f"{watched.origin}/#/keys?view=groups")
    page.get_by_role("button", name="Delete found…").click()
    dialog(page).get_by_role("button", name=re.compile("^Delete 400")).click()
    expect(page.get_by_text(re.compile(r"400.entries deleted\."))).to_be_visible()
    assert ask(server, "/stats")["items"] == 0


def test_nothing_is_deleted_where_nothing_is_found(server: RunningServer, look: Look) -> None:
    watched = look(server)
    page = watched.log_in()
    watched.go("Keys")
    page.get_by_role("button", name="Delete found…").click()
    expect(dialog(page).get_by_role("button", name="Nothing to delete")).to_be_disabled()
    dialog(page).get_by_role("button", name="Cancel").click()
    expect(dialog(page)).to_have_count(0)


def test_bars_beside_a_giant_have_a_logarithmic_scale(server: RunningServer, look: Look) -> None:
    with server.connect() as client:
        lines = [b"PUT\tk%d\t-\tall,tag:%d\tv\n" % (n, n % 30) for n in range(900)]
        client.send(b"".join(lines))
        for _ in lines:
            client.line()
    watched = look(server)
    page = watched.log_in()
    watched.go("Tags")
    rows = page.locator(".view.tags tbody tr")
    expect(rows).to_have_count(31)
    expect(page.locator(".head")).to_contain_text("Bars: logarithmic scale")
    widths = [
        float((rows.nth(n).locator(".bar").get_attribute("style") or "").split(":")[1].strip(" %;"))
        for n in (0, 1)
    ]
    assert widths[0] == 100
    assert 40 < widths[1] < 70
    page.get_by_label("Tags with this prefix").fill("tag:")
    expect(rows).to_have_count(30)
    expect(page.locator(".head")).not_to_contain_text("logarithmic")
    call = "scale(given).log"
    for values, log in (([], False), ([0, 0], False), ([5], False), ([100, 90, 1], False)):
        assert module(page, "bars", call, values) is log
    assert module(page, "bars", call, [1000, 1]) is True


# Connections


def test_connections_of_the_dashboard_are_set_apart(server: RunningServer, look: Look) -> None:
    watched = look(server)
    page = watched.log_in()
    watched.go("Connections")
    ours = page.get_by_role("button", name=re.compile("connections? of the dashboard"))
    expect(ours).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_text("events for this page")).to_be_hidden()
    with server.connect() as client:
        client.ask(b"PING")
        expect(page.locator(".head")).to_contain_text(re.compile(r"1.client$"))
        expect(page.locator("tbody tr[data-id]:visible")).to_have_count(1)
        ours.click()
        expect(page.get_by_text("events for this page")).to_be_visible()
        listed = ask(server, "/connections")["connections"]
        marked = {str(each["id"]) for each in listed if each["dashboard"]}
        assert marked
        for each in listed:
            if each["listener"] == "cache":
                assert str(each["id"]) not in marked


def test_all_as_requested_is_said_only_where_it_is_so(server: RunningServer, look: Look) -> None:
    watched = look(server)
    page = watched.log_in()
    watched.go("Connections")
    with server.connect() as client:
        client.ask(b"PING")
        badge = page.locator("tbody tr[data-id]:visible .disclose .badge").first
        expect(badge).to_have_text(re.compile(r"^2 of \d as requested$"))
    same = {"asked": 1, "effective": 1}
    left = {"asked": None, "effective": 9}
    rounded = {"asked": 5, "effective": 10}

    def words(**options: Any) -> str:
        return str(module(page, "connections", "summary(given)[1]", options))

    assert words(a=same, b=same) == "all 2 as requested"
    assert words(a=left, b=left) == "all system defaults"
    assert words(a=same, send_buffer_bytes=rounded) == "1 of 2 as requested, 1 rounded up"
    assert words(a=same, b={**left, "error": "no"}) == "1 of 2 differ"
    assert words() == "none"


# Configuration and events


def test_each_setting_is_described(server: RunningServer, look: Look) -> None:
    watched = look(server)
    page = watched.log_in()
    watched.go("Configuration")
    row = page.locator('tr[data-knob="performance.tcp_keepalive_seconds"]')
    expect(row.get_by_role("rowheader")).to_have_accessible_description(
        re.compile("^Seconds without traffic before the peer is probed")
    )
    told = ask(server, "/config")["knobs"]
    assert page.locator("tr[data-knob]").count() == len(told)
    names = page.locator("tr[data-knob] th")
    for index in range(0, len(told), 10):
        expect(names.nth(index)).to_have_accessible_description(
            re.compile(re.escape(told[index]["description"][:40]))
        )
    page.get_by_label("Filter settings").fill("TCP_NODELAY")
    expect(page.locator("tr[data-knob]")).to_have_count(1)


def test_events_are_searched_and_paused(start: Start, look: Look) -> None:
    # Slow commands are events too, and their number depends on the machine.
    server = start({"logging": {"slow_command_ms": 0}})
    fill(server, 20)
    watched = look(server)
    page = watched.log_in()
    watched.go("Events")
    rows = page.locator("tbody tr")
    server.ask(b"INV_TAG\tauthor:1")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Pause").click()
    server.ask(b"INV_TAG\tauthor:2")
    server.ask(b"INV_TAG\tall")
    expect(page.get_by_text("Paused, 2 new")).to_be_visible()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Resume").click()
    expect(rows).to_have_count(3)
    expect(page.get_by_text("Paused")).to_have_count(0)
    field = page.get_by_label("Search events")
    field.fill("AUTHOR:")
    expect(rows).to_have_count(2)
    field.fill("127.0.0.1")
    expect(rows).to_have_count(3)
    field.fill("nothing like this")
    expect(page.get_by_text("No event matches")).to_be_visible()
    server.ask(b"INV_TAG\tnothing like this")
    expect(rows).to_have_count(1)


# A narrow window


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_in_sight_in_a_narrow_window(
    server: RunningServer, look: Look, scheme: str
) -> None:
    fill(server, 5)
    watched = look(server, viewport={"width": 375, "height": 740}, color_scheme=scheme)
    page = watched.log_in()
    views = page.get_by_role("navigation", name="Views").get_by_role("link")
    names = ["Overview", "Connections", "Tags", "Keys", "Configuration", "Events"]
    expect(views).to_have_text(names)
    for name in names:
        watched.go(name)
        for index in range(len(names)):
            expect(views.nth(index)).to_be_in_viewport(ratio=1)
    for path in ("keys?view=groups", "keys/page%3A001", "tags/all"):
        page.goto(f"{watched.origin}/#/{path}")
        expect(page.locator(".view .card").first).to_be_visible()
        expect(page.locator(".state.loading")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
