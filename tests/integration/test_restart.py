"""Entries survive a restart of the real process, and nothing broken stops one."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.running import Client, RunningServer, eventually

Restart = Callable[..., RunningServer]
pytestmark = pytest.mark.memory_engine("snapshots")


@pytest.fixture
def restart(tmp_path: Path) -> Restart:
    """Starts a server on the same snapshot file, again and again."""

    def start(**persistence: object) -> RunningServer:
        knobs = {"snapshot_file": tmp_path / "snapshot", **persistence}
        return RunningServer(tmp_path, {"persistence": knobs})

    return start


def say(client: Client, *requests: bytes) -> bytes:
    """Send all the requests at once, and return all their replies."""
    client.send(b"".join(request + b"\n" for request in requests))
    return b"".join(client.line() for _ in requests)


def fill(server: RunningServer, count: int = 1000) -> None:
    with server.connect() as client:
        lines = [b"PUT\tk%d\t-\tall,t%d\tvalue %d" % (n, n % 7, n) for n in range(count)]
        assert say(client, *lines) == b"OK\n" * count


def test_everything_is_back_after_a_stop(restart: Restart) -> None:
    with restart() as server, server.connect() as client:
        fill(server)
        say(
            client,
            b"PUT\tshort\t1\t-\tx",
            b"PUT\tlong\t60000\ta\ty",
            b"PUT\tbinary\t-\t-\t\xff\0\t",
        )
        time.sleep(0.01)
        server.stop()
    with restart() as server, server.connect() as client:
        assert say(client, b"GET\tshort", b"GET\tlong", b"GET\tbinary") == (
            b"NF\nVALUE\ty\nVALUE\t\xff\0\t\n"
        )
        info = client.json(b"INFO")
        assert info["cache"]["items"] == 1002
        assert info["persistence"]["loaded_entries"] == 1002
        assert info["persistence"]["snapshot_age_seconds"] < 60
        assert info["cache"]["evictions"] == info["cache"]["reclaim_backlog"] == 0
        assert say(client, b"INV_TAG\tt3") == b"INV_TAG\t143\n"
        assert say(client, b"INV_TAG\tall") == b"INV_TAG\t857\n"
    text = server.text()
    assert text.index("loaded 1002 entries") < text.index("listening on")


def test_the_time_that_the_server_was_down_counts(restart: Restart) -> None:
    with restart() as server, server.connect() as client:
        say(client, b"PUT\tshort\t4000\t-\tx", b"PUT\tlong\t60000\t-\ty")
        server.stop()
    time.sleep(4.1)
    with restart() as server, server.connect() as client:
        assert say(client, b"GET\tshort", b"GET\tlong") == b"NF\nVALUE\ty\n"
    assert "1 had expired meanwhile" in server.text()


def test_snapshots_are_taken_while_it_runs(restart: Restart, tmp_path: Path) -> None:
    with restart(snapshot_interval_seconds=0.3) as server, server.connect() as client:
        fill(server)
        eventually(lambda: client.json(b"INFO")["persistence"]["snapshot_entries"] == 1000)
        told = client.json(b"INFO")["persistence"]
        assert told["snapshot_seconds"] > 0
        assert told["snapshot_bytes"] == (tmp_path / "snapshot").stat().st_size
        assert (tmp_path / "snapshot").stat().st_mode & 0o777 == 0o600
        # Connections are not held by the process that writes.
        with server.connect() as other:
            other.send(b"QUIT\n")
            assert other.rest() == b"OK\n"
        server.process.kill()
        server.process.wait()
    with restart() as server, server.connect() as client:
        assert client.json(b"INFO")["cache"]["items"] == 1000
    with restart() as server, server.connect() as client:
        assert client.json(b"INFO")["cache"]["items"] == 1000


@pytest.mark.parametrize("fault", ["cut", "flipped", "alien", "empty"])
def test_a_broken_snapshot_is_set_aside(restart: Restart, tmp_path: Path, fault: str) -> None:
    with restart() as server:
        fill(server)
        server.stop()
    path = tmp_path / "snapshot"
    good = path.read_bytes()
    middle = len(good) // 2
    broken = {
        "cut": good[:middle],
        "flipped": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "alien": b"\x80\x04cos\nsystem\n" * 100,
        "empty": b"",
    }[fault]
    path.write_bytes(broken)
    with restart() as server, server.connect() as client:
        assert client.json(b"INFO")["cache"]["items"] == 0
        assert say(client, b"PUT\tk\t-\t-\tv", b"GET\tk") == b"OK\nVALUE\tv\n"
        errors = [line for line in server.text().splitlines() if " error " in line]
        assert len(errors) == 1
        assert f"the snapshot {path} can not be used: it" in errors[0]
        (aside,) = tmp_path.glob("snapshot.broken-*")
        assert aside.read_bytes() == broken
        server.stop()
    with restart() as server, server.connect() as client:
        assert say(client, b"GET\tk") == b"VALUE\tv\n"


def test_a_snapshot_that_can_not_be_written_leaves_the_old_one(
    restart: Restart, tmp_path: Path
) -> None:
    with restart(snapshot_interval_seconds=0.3) as server, server.connect() as client:
        fill(server)
        eventually(lambda: client.json(b"INFO")["persistence"]["snapshot_entries"] == 1000)
        # As if the disk were full: no file of this process and its children may be longer.
        limit = 20_000
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        eventually(lambda: client.json(b"INFO")["persistence"]["snapshot_error"] is not None)
        before = (tmp_path / "snapshot").read_bytes()
        assert say(client, b"PUT\tlate\t-\t-\tv", b"GET\tlate") == b"OK\nVALUE\tv\n"
        server.wait_for_log("no snapshot was written")
        server.process.kill()
        server.process.wait()
    assert (tmp_path / "snapshot").read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "out.log",
        "snapshot",
        "tagcache.conf",
    ]
    with restart() as server, server.connect() as client:
        assert client.json(b"INFO")["cache"]["items"] == 1000


def test_a_place_that_can_not_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    knobs = {"snapshot_file": "/nowhere/snapshot"}
    server = RunningServer(tmp_path, {"persistence": knobs}, wait=False)
    assert server.process.wait(60) != 0
    assert "persistence.snapshot_file: there is no directory /nowhere" in server.text()
