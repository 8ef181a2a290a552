"""Several processes send all kinds of requests to one server: their observations, and its state."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.history import Note, violations
from tests.integration.running import RunningServer, eventually
from tests.reliability import ROOT, Measured

SECTION = "concurrency"
Start = Callable[..., RunningServer]
CLIENTS = 8


def note(kind: str, begin: float, end: float, **more: Any) -> Note:
    given = {"key": "k", "version": None, "ttl_ms": None, "tags": []}
    return {"kind": kind, "begin": begin, "end": end, **given, **more}


FIRST = note("write", 0, 1, version=1, tags=["a", "b"])
SECOND = note("write", 2, 3, version=2)
WRONG: list[tuple[str, list[Note]]] = [
    ("before it was written", [note("read", 0, 1, version=1), note("write", 2, 3, version=1)]),
    ("before it was written", [note("read", 0, 1, version=7)]),
    ("a newer one was acknowledged", [FIRST, SECOND, note("read", 3.1, 4, version=1)]),
    (
        "a newer one was read",
        [FIRST, SECOND, note("read", 2.1, 2.2, version=2), note("read", 2.3, 2.4, version=1)],
    ),
    ("it was removed", [FIRST, note("remove", 1.1, 1.2), note("read", 1.3, 1.4, version=1)]),
    (
        "its time to live",
        [note("write", 0, 1, version=1, ttl_ms=500), note("read", 1.6, 1.7, version=1)],
    ),
    (
        "['a'] was invalidated",
        [FIRST, note("invalidate", 1.1, 1.2, tags=["a"]), note("read", 1.3, 2, version=1)],
    ),
    (
        "['a', 'b'] was invalidated",
        [FIRST, note("invalidate", 1.1, 1.2, tags=["b", "a"]), note("read", 1.3, 2, version=1)],
    ),
    ("[] was invalidated", [FIRST, note("invalidate", 1.1, 1.2), note("read", 1.3, 2, version=1)]),
]
RIGHT: list[list[Note]] = [
    [FIRST, note("read", 0.1, 0.2, version=1), note("read", 0.1, 0.2)],
    [FIRST, SECOND, note("read", 2.1, 2.2, version=1), note("read", 2.1, 2.2, version=2)],
    [FIRST, note("remove", 0.5, 1.2), note("read", 1.3, 1.4, version=1)],
    [FIRST, note("remove", 1.1, 1.4), note("read", 1.3, 1.5, version=1)],
    [FIRST, note("invalidate", 1.1, 1.2, tags=["c"]), note("read", 1.3, 2, version=1)],
    [FIRST, note("invalidate", 1.1, 1.2, tags=["a", "c"]), note("read", 1.3, 2, version=1)],
]


@pytest.mark.parametrize(("told", "notes"), WRONG)
def test_a_wrong_history_is_recognized(told: str, notes: list[Note]) -> None:
    (found,) = violations(notes)
    assert told in found


@pytest.mark.parametrize("notes", RIGHT)
def test_a_right_history_is_none(notes: list[Note]) -> None:
    assert violations(notes) == []


def run(start: Start, directory: Path, seconds: float, measured: Measured) -> None:
    server = start(
        {
            "cache": {"max_memory": 40_000},
            "persistence": {
                "snapshot_file": directory / "snapshot",
                "snapshot_interval_seconds": 0.3,
            },
            "logging": {"level": "info"},
        }
    )
    files = [directory / f"history{number}" for number in range(CLIENTS)]
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.faults.workload", str(server.port)),
                *(str(number), str(CLIENTS), str(seconds), str(file)),
            ],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for number, file in enumerate(files)
    ]
    outputs = [process.communicate(timeout=seconds + 60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * CLIENTS
    answered = sum(map(int, outputs))
    notes = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    wrong = violations(notes)
    assert wrong == []
    with server.connect() as client:
        eventually(lambda: client.json(b"INFO")["connections"]["open"] == 1)
        time.sleep(0.4)
        check = client.json(b"INFO\tcheck")["check"]
        told = client.json(b"INFO")
        assert check["faults"] == []
        cache = told["cache"]
        assert cache["evictions"] > 0
        assert cache["expirations"] > 0
        assert cache["invalidations"] > 0
        assert told["persistence"]["snapshot_taken"]
        assert told["persistence"]["snapshot_error"] is None
        assert cache["memory_used_bytes"] <= 40_000
    hits = sum(note["kind"] == "read" and note["version"] is not None for note in notes)
    assert hits > 100
    measured(
        f"{CLIENTS} client processes send random requests for {seconds:.0f} s: small max_memory, "
        "short times to live, invalidations, flushes, a snapshot every 0.3 s",
        "index and totals agree; every value that was read fits some serial order",
        f"{answered:,} requests, {hits:,} values read, {cache['evictions']:,} evictions, "
        f"{cache['expirations']:,} expirations, {cache['invalidations']:,} invalidations: "
        "no violation, no disagreement",
    )


@pytest.mark.slow
def test_many_clients(start: Start, tmp_path: Path, measured: Measured) -> None:
    run(start, tmp_path, 5, measured)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_many_clients_for_a_minute(start: Start, tmp_path: Path, measured: Measured) -> None:
    run(start, tmp_path, 60, measured)
