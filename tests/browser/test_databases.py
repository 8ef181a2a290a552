"""The dashboard and numbered databases, in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_dashboard import Look, Start, ask, dialog
from tests.integration.running import RunningServer

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]


def put(server: RunningServer, db: int, *keys: str) -> None:
    for key in keys:
        ask(server, f"/put?db={db}", {"key": key, "value": f"of {db}", "tags": [f"tag{db}"]})


def test_with_a_single_database_there_is_no_choice(server: RunningServer, look: Look) -> None:
    put(server, 0, "k")
    page = look(server).log_in()
    page.get_by_role("link", name="Keys").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.get_by_label("Database")).to_be_hidden()


def test_a_database_is_chosen_and_stays(server: RunningServer, look: Look) -> None:
    put(server, 0, "zero")
    put(server, 3, "three", "third")
    watched = look(server)
    page = watched.log_in()
    choice = page.get_by_label("Database")
    page.get_by_role("link", name="Keys").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert choice.locator("option").all_text_contents() == ["Database 0", "Database 3"]
    choice.select_option("3")
    expect(page.locator("tbody tr")).to_have_count(2)
    assert page.evaluate("location.hash") == "#/keys?db=3"
    page.get_by_role("link", name="three").click()
    expect(page.locator(".value-view")).to_have_text("of 3")
    page.locator(".facts").get_by_role("link").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("region", name="Top tags · database 3")).to_contain_text("tag3")
    page.get_by_role("link", name="Configuration").click()
    expect(choice).to_be_hidden()
    page.get_by_role("link", name="Tags").click()
    expect(page.locator("tbody .key-cell")).to_have_text("tag3")
    choice.select_option("0")
    expect(page.locator("tbody .key-cell")).to_have_text("tag0")
    page.go_back()
    expect(page.locator("tbody .key-cell")).to_have_text("tag3")
    expect(choice).to_have_value("3")


def test_what_is_changed_is_in_the_chosen_database(server: RunningServer, look: Look) -> None:
    for db in (0, 5):
        put(server, db, "both")
    watched = look(server)
    page = watched.log_in()
    page.goto(f"{watched.origin}/#/keys?db=5")
    page.get_by_role("button", name="New entry").click()
    expect(dialog(page).get_by_role("heading")).to_have_text("New entry · database 5")
    page.get_by_label("Key", exact=True).fill("new")
    page.get_by_label("Value", exact=True).fill("stored here")
    page.get_by_role("button", name="Store", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(2)
    assert ask(server, "/get/new?db=5") == {"value": "stored here"}
    assert ask(server, "/get/new") == {"error": "not_found"}
    page.goto(f"{watched.origin}/#/tags/tag5?db=5")
    page.get_by_role("button", name="Invalidate…").click()
    dialog(page).get_by_role("button", name=re.compile("Invalidate 1 ")).click()
    expect(page.get_by_text("No entry carries this tag")).to_be_visible()
    assert ask(server, "/get/both?db=5") == {"error": "not_found"}
    page.goto(f"{watched.origin}/#/keys?db=5")
    page.get_by_role("button", name="Delete found…").click()
    dialog(page).get_by_role("button", name=re.compile("Delete 1 ")).click()
    expect(page.get_by_text("No entry found")).to_be_visible()
    assert ask(server, "/get/both") == {"value": "of 0"}
    page.get_by_role("link", name="Events").click()
    expect(page.locator("tbody tr").first).to_contain_text("in database 5")


def test_a_number_that_there_is_not_is_told(start: Start, look: Look) -> None:
    watched = look(start({"cache": {"databases": 4}}))
    page = watched.log_in()
    watched.expected.append("400")
    page.goto(f"{watched.origin}/#/keys?db=4")
    expect(page.get_by_role("alert").last).to_contain_text("there is no database 4")
    page.goto(f"{watched.origin}/#/tags?db=%3Cimg%3E")
    expect(page.get_by_text("db must be an integer from 0")).to_be_visible()
