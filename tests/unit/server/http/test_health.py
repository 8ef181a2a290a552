"""What the endpoints report of a remote engine."""

from __future__ import annotations

import json

import pytest

from tagcache.server.http.messages import Call, HttpRequest, Response
from tests.unit.server.http.test_protocol import Door

TROUBLE = "Error 111 connecting to 10.0.0.7:6379. Connection refused."


@pytest.mark.parametrize(
    ("peer", "detail"),
    [("127.0.0.1", TROUBLE), ("10.0.0.9", "the engine cannot be reached: see /info")],
)
def test_health_tells_strangers_no_address(peer: str, detail: str) -> None:
    door = Door()
    door.engine.trouble = TROUBLE
    answer = door.status.health(Call(HttpRequest(b"GET", b"/health", b"", {}, peer), "", {}, {}))
    assert isinstance(answer, Response)
    told = json.loads(answer.body)
    assert (answer.status, told["status"], told["detail"]) == (200, "degraded", detail)
