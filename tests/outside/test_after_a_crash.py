"""An invalidation that curl saw acknowledged holds, however the server ends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import start
from tests.integration.running import RunningServer, eventually

__all__ = ["start"]
Start = Callable[..., RunningServer]
pytestmark = [pytest.mark.needs("curl"), pytest.mark.memory_engine("snapshots")]


def curl(server: RunningServer, path: str, body: Any = None) -> Any:
    command = ["curl", "--silent", "--show-error", "--user", "admin:password"]
    if body is not None:
        command += ["--json", json.dumps(body)]
    command.append(f"http://127.0.0.1:{server.http_port}{path}")
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_an_invalidation_outlives_the_server(start: Start, tmp_path: Path, signal: str) -> None:
    knobs = {"snapshot_file": tmp_path / "snapshot", "snapshot_interval_seconds": 0.2}
    server = start({"persistence": knobs})
    curl(server, "/put", {"key": "price", "value": "10", "tags": ["product"]})
    curl(server, "/put", {"key": "name", "value": "lamp", "tags": []})
    eventually(lambda: curl(server, "/info")["persistence"]["snapshot_entries"] == 2)
    assert curl(server, "/invalidate-tag", {"tag": "product"}) == {"success": True, "count": 1}
    subprocess.run(["kill", f"-{signal}", str(server.process.pid)], check=True)
    server.process.wait(60)

    again = start({"persistence": knobs})
    assert curl(again, "/get/price") == {"error": "not_found"}
    kept = {"KILL": {"error": "not_found"}, "TERM": {"value": "lamp"}}
    assert curl(again, "/get/name") == kept[signal]
    assert curl(again, "/info")["persistence"]["after_crash"] == (
        "empty" if signal == "KILL" else None
    )
