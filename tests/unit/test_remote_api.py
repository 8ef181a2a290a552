"""What the endpoints tell of an engine that is elsewhere."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tagcache.server.http.messages import Call, Request, Response
from tagcache.server.http.remote_api import RemoteApi
from tests.unit.test_http import Door

TROUBLE = "Error 111 connecting to 10.0.0.7:6379. Connection refused."


@pytest.mark.parametrize(
    ("peer", "detail"),
    [("127.0.0.1", TROUBLE), ("10.0.0.9", "the engine is away: see /info")],
)
def test_health_tells_strangers_no_address(peer: str, detail: str) -> None:
    door = Door()
    backend = SimpleNamespace(trouble=TROUBLE)
    unused = cast(Any, None)
    api = RemoteApi(unused, cast(Any, backend), door.cache, *[unused] * 9)
    answer = api.health(Call(Request(b"GET", b"/health", b"", {}, peer), "", {}, {}))
    assert isinstance(answer, Response)
    told = json.loads(answer.body)
    assert (answer.status, told["status"], told["detail"]) == (200, "degraded", detail)
