"""The database that a request names."""

from __future__ import annotations

import pytest

from tests.helpers import settings_with
from tests.unit.server.http.test_protocol import Door

# Routes that concern no entries.
WHOLE = {
    "/",
    "/auth/change_password",
    "/auth/login",
    "/auth/required",
    "/auth/reset",
    "/auth/rotate",
    "/auth/setup_required",
    "/config",
    "/connections",
    "/connections/close",
    "/dashboard/{key}",
    "/docs",
    "/events",
    "/events/log",
    "/health",
    "/history",
    "/info",
    "/metrics",
    "/openapi.json",
    "/slowlog",
    "/system",
    "/traffic",
}


@pytest.fixture
def door() -> Door:
    return Door()


def test_every_route_that_concerns_entries_takes_a_database(door: Door) -> None:
    _, document = door.call("GET", "/openapi.json")
    without = set()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            asked = operation.get("parameters", ())
            named = {each["name"]: each for each in asked if each["in"] == "query"}
            if "db" in named:
                assert named["db"]["schema"]["minimum"] == 0
                assert not named["db"]["required"]
            else:
                without.add(path)
    assert without == WHOLE


def test_each_has_its_own_entries(door: Door) -> None:
    for query in ("", "?db=0", "?db=3"):
        assert door.call("GET", f"/get/k{query}") == (200, {"error": "not_found"})
    door.call("POST", "/put?db=3", {"key": "k", "value": "three", "tags": ["t"]})
    door.call("POST", "/put", {"key": "k", "value": "none", "tags": ["t"]})
    assert door.call("GET", "/get/k?db=3") == (200, {"value": "three"})
    for query in ("", "?db=0"):
        assert door.call("GET", f"/get/k{query}") == (200, {"value": "none"})
    assert door.call("GET", "/stats?db=3")[1]["hits"] == 1
    assert door.call("GET", "/stats")[1]["hits"] == 2
    assert door.call("POST", "/invalidate-tag?db=3&dry_run=true", {"tag": "t"})[1]["count"] == 1
    assert door.call("POST", "/invalidate-tag?db=3", {"tag": "t"})[1]["count"] == 1
    assert door.call("GET", "/keys-by-tag?tag=t&db=3") == (200, {"keys": []})
    assert door.call("GET", "/keys-by-tag?tag=t") == (200, {"keys": ["k"]})
    # Only an invalidation elsewhere says in which database.
    door.call("POST", "/flush", {})
    _, told = door.call("GET", "/events/log")
    assert [event.get("db") for event in told["events"]] == [None, 3]


@pytest.mark.parametrize(
    ("query", "error", "detail"),
    [
        ("db=8", "invalid_db", "there is no database 8: cache.databases is 8"),
        ("db=-1", "bad_request", "db must be an integer from 0 to 2^64-1"),
        ("db=x", "bad_request", "db must be an integer from 0 to 2^64-1"),
        ("db=", "bad_request", "db must be an integer from 0 to 2^64-1"),
        ("db=1&db=1", "bad_request", "db is given twice"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/get/k", None),
        ("GET", "/stats", None),
        ("POST", "/put", {"key": "k", "value": "v"}),
        ("POST", "/incr", {"key": "k"}),
        ("POST", "/flush", {}),
        ("POST", "/search", {}),
        ("POST", "/keys/bulk/get", {"keys": ["k"]}),
    ],
)
def test_a_bad_number_is_refused(
    method: str, path: str, body: object, query: str, error: str, detail: str
) -> None:
    door = Door(settings_with(cache={"databases": 8}))
    answer = door.call(method, f"{path}?{query}", body)
    assert answer == (400, {"error": error, "detail": detail})
    assert [number for number, _ in door.databases] == [0]
    assert len(door.caches) == 0
