"""Exchanges recorded from the reference implementation, replayed over a socket.

``OURS`` lists, by name, every exchange in which we differ on purpose, with our response. Of an
error only the status is compared; its text is ours.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.running import RunningServer

RECORDED: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "golden" / "http.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]

STORED = (200, {"ok": True, "ttl_ms": None})
REFUSED = object()  # an error: only the status counts
OURS: dict[str, tuple[int, Any]] = {
    # An SDK asks whether the default password is in use.
    "setup_required (sdk)": (200, {"setup_required": True}),
    # An array in place of an object, and garbage after it, are refused.
    "change_password array body": (422, REFUSED),
    "put as array": (422, REFUSED),
    "put trailing garbage accepted": (400, REFUSED),
    # A TTL of 0 means no TTL. One that is too long is capped, not wrapped around.
    "put ttl 0": STORED,
    "get ttl0": (200, {"value": "v"}),
    "put ttl_seconds u64max wraps": (200, {"ok": True, "ttl_ms": 2**64 - 1}),
    # Tags are optional.
    "put no tags": STORED,
    "put tags null": STORED,
    "add no tags": (200, {"ok": True, "added": False, "ttl_ms": None}),
    # A key cannot be empty, as on the line protocol.
    "put empty key allowed": (422, REFUSED),
    # Only "any" and "all" are modes.
    "inv tags weird mode = all": (422, REFUSED),
    # One more entry, because the mode above was refused.
    "flush with body no ct": (200, {"success": True, "count": 1}),
    # All entries, and those with a prefix, are listed newest first.
    "search q limit1": (200, {"keys": [{"key": "s3", "ttl_ms": None, "tags": ["B"]}]}),
    # An offset is not an unknown field here.
    "search unknown fields ignored": (
        200,
        {
            "keys": [
                {"key": "s1", "ttl_ms": None, "tags": ["A"]},
                {"key": "s2", "ttl_ms": None, "tags": ["A", "B"]},
            ]
        },
    ),
    # An unknown path is not a page.
    **{
        each["name"]: (404, REFUSED)
        for each in RECORDED
        if each["resp"] == "<html page>" and each["name"] not in {"root", "setup_required (sdk)"}
    },
    "options plain": (404, REFUSED),
}
# These values depend on the earlier requests, or on the machine.
ARBITRARY = {"flush", "stats", "system noauth", "login ok"}
CLOCKS = {"created_ms", "time", "timestamp", "token"}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[http.client.HTTPConnection]:
    with RunningServer(tmp_path_factory.mktemp("golden")) as server:
        yield http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
        assert "Traceback" not in server.text()


def test_every_difference_is_of_a_recorded_exchange() -> None:
    assert len(RECORDED) == 307
    assert set(OURS) | ARBITRARY <= {each["name"] for each in RECORDED}
    for each in RECORDED:
        if each["name"] in OURS:
            status, body = OURS[each["name"]]
            assert status != each["status"] or without_clocks(body) != without_clocks(
                parsed(each["resp"])
            ), each["name"]


@pytest.mark.parametrize(
    "exchange", RECORDED, ids=[f"{n} {each['name']}" for n, each in enumerate(RECORDED)]
)
def test_exchange(door: http.client.HTTPConnection, exchange: dict[str, Any]) -> None:
    name, body = exchange["name"], exchange["body"]
    if body is not None:
        body = body.encode("latin-1" if name == "put invalid utf8 body" else "utf-8")
    door.request(exchange["method"], exchange["path"], body, exchange["req_headers"])
    response = door.getresponse()
    content = response.read()
    status, expected = OURS.get(name, (exchange["status"], parsed(exchange["resp"])))
    assert response.status == status
    if exchange["method"] == "HEAD" or (exchange["method"] == "OPTIONS" and status == 200):
        assert content == b""
        return
    if name == "root":
        assert response.headers["content-type"].startswith("text/html")
        return
    assert response.headers["content-type"] == "application/json"
    answer = json.loads(content)
    if status == 405:
        theirs = exchange["headers"]["allow"].split(",")
        assert sorted(response.headers["allow"].split(",")) == sorted(theirs)
    if status >= 400 and not isinstance(expected, dict):
        assert isinstance(answer["error"], str)
        assert isinstance(answer["detail"], str)
    elif name in ARBITRARY:
        assert shape(answer, expected) == shape(expected, answer)
    else:
        assert without_clocks(answer) == without_clocks(expected)


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def without_clocks(value: Any) -> Any:
    """The response without times, and with lists of keys sorted."""
    if isinstance(value, dict):
        return {
            name: 0 if name == "ttl_ms" and type(each) is int and each < 10_000 else each
            for name, each in ((n, without_clocks(e)) for n, e in value.items())
            if name not in CLOCKS
        }
    if isinstance(value, list):
        items = [without_clocks(each) for each in value]
        if items and isinstance(items[0], dict) and "key" in items[0] and "value" not in items[0]:
            return sorted(items, key=lambda each: str(each["key"]))
        return items
    return value


def shape(value: Any, like: Any) -> Any:
    """Names and types, without names that only one side has."""
    if isinstance(value, dict):
        return {name: shape(each, like[name]) for name, each in value.items() if name in like}
    if isinstance(value, list):
        return [shape(value[0], like[0])] if value and like else []
    return "number" if type(value) in (int, float) else type(value).__name__


def test_bodies_of_two_mebibytes(door: http.client.HTTPConnection) -> None:
    """The two exchanges that are too long to record: the limit, and one more."""
    headers = {**RECORDED[0]["req_headers"], "Content-Type": "application/json"}
    frame = b'{"key":"big","value":"","tags":["' + b'"]}'
    for size, status in ((2_097_152, 422), (2_097_153, 413)):
        body = b'{"key":"big","value":"","tags":["' + b"x" * (size - len(frame)) + b'"]}'
        assert len(body) == size
        door.request("POST", "/put", body, headers)
        response = door.getresponse()
        answer = json.loads(response.read())
        assert response.status == status
        assert answer["error"] in ("tag_too_long", "body_too_large")
