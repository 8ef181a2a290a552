"""What the dashboard shows of leases and stale entries, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.test_dashboard import Look
from tests.integration.running import RunningServer

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]


def test_without_leases_nothing_is_shown_of_them(server: RunningServer, look: Look) -> None:
    page = look(server).log_in()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_role("region", name="Leases")).to_be_hidden()


def test_leases_and_what_happened_to_tags_are_shown(server: RunningServer, look: Look) -> None:
    with server.connect() as client:
        client.ask(b"PUT\tk\t-+600000\tpost\told")
        client.ask(b"SOFT_TAG\tpost")
        token = client.ask(b"FETCH\tk\t60000").split(b"\t")[1]
        client.ask(b"FETCH\tk\t60000")
        client.ask(b"SOFT_TAG\tpost")
        assert client.ask(b"FILL\t%b\tk\t-\tpost\tv" % token) == b"REFUSED\n"
        token = client.ask(b"FETCH\tk\t60000").split(b"\t")[1]
        client.ask(b"FILL\t%b\tk\t-\tpost\tv" % token)
        client.ask(b"FETCH\tother\t60000")
    page = look(server).log_in()
    section = page.get_by_role("region", name="Leases")
    facts = dict.fromkeys(("Leases", "Filled", "Refused"), "1") | {"Waiting": "0"}
    facts |= {"Stale served": "3", "Stale entries": "0"}
    for name, value in facts.items():
        fact = section.locator("dl > div").filter(has=page.get_by_text(name, exact=True))
        expect(fact.locator("dd")).to_have_text(value)
    page.get_by_role("link", name="Tags").click()
    row = page.locator("tbody tr").filter(has_text="post")
    expect(row.get_by_role("cell").nth(6)).to_have_text("3")
    expect(row.get_by_role("cell").nth(7)).to_have_text("1")
