"""Entries survive a restart of the real process. A broken snapshot does not prevent a start."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.running import Client, RunningServer, eventually

Restart = Callable[..., RunningServer]
pytestmark = pytest.mark.memory_engine("snapshots")


@pytest.fixture
def restart(tmp_path: Path) -> Restart:
    """Starts servers with the same snapshot file, one after the other."""

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


def test_all_databases_are_back_but_those_that_are_gone(tmp_path: Path) -> None:
    def start(databases: int) -> RunningServer:
        persistence = {"snapshot_file": tmp_path / "snapshot"}
        sections = {"persistence": persistence, "cache": {"databases": databases}}
        return RunningServer(tmp_path, sections)

    def stored(number: int) -> bytes:
        return b"SELECT\t%d\nPUT\tk\t-\tt\tof %d" % (number, number)

    with start(16) as server, server.connect() as client:
        for number in (0, 3, 15):
            assert say(client, *stored(number).split(b"\n")) == b"OK\nOK\n"
        server.stop()
    with start(4) as server, server.connect() as client:
        assert say(client, b"GET\tk", b"SELECT\t3", b"GET\tk", b"INV_TAG\tt") == (
            b"VALUE\tof 0\nOK\nVALUE\tof 3\nINV_TAG\t1\n"
        )
        assert [each["db"] for each in client.json(b"INFO")["databases"]] == [0, 3]
        assert say(client, b"SELECT\t15") == b"ERR invalid_db\n"
    assert "their database numbers are not less than cache.databases" in server.text()


@pytest.mark.slow
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
        # The process that writes does not keep connections open.
        with server.connect() as other:
            other.send(b"QUIT\n")
            assert other.rest() == b"OK\n"
        server.process.kill()
        server.process.wait()
    for _ in range(2):
        # The second time, from the file that the first start put aside.
        with restart(after_crash="load") as server, server.connect() as client:
            info = client.json(b"INFO")
            assert info["cache"]["items"] == 1000
            assert info["persistence"]["after_crash"] == "load"
            assert "overwritten later. It was loaded anyway" in server.text()


def test_what_was_removed_before_a_crash_stays_removed(restart: Restart, tmp_path: Path) -> None:
    """A snapshot is not loaded if a running server wrote it, or if it was loaded before."""
    with restart() as server, server.connect() as client:
        say(client, b"PUT\tgone\t-\ttag\t1", b"PUT\told\t-\t-\t1")
        server.stop()
    with restart(snapshot_interval_seconds=3600) as server, server.connect() as client:
        assert say(client, b"GET\tgone", b"GET\told") == b"VALUE\t1\nVALUE\t1\n"
        assert not (tmp_path / "snapshot").exists()
        assert say(client, b"INV_TAG\ttag", b"PUT\told\t-\t-\t2") == b"INV_TAG\t1\nOK\n"
        server.process.kill()
        server.process.wait()
    with restart(snapshot_interval_seconds=0.1) as server, server.connect() as client:
        assert say(client, b"GET\tgone", b"GET\told") == b"NF\nNF\n"
        assert client.json(b"INFO")["persistence"]["after_crash"] == "empty"
        text = f"{tmp_path}/snapshot.loaded was not written by a clean stop of this version"
        assert text in server.text()
        say(client, b"PUT\tgone\t-\ttag\t1", b"PUT\told\t-\t-\t1")
        eventually(lambda: client.json(b"INFO")["persistence"]["snapshot_entries"] == 2)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (10, 10))
        assert say(client, b"INV_TAG\ttag", b"PUT\told\t-\t-\t2") == b"INV_TAG\t1\nOK\n"
        server.process.kill()
        server.process.wait()
    assert (tmp_path / "snapshot").exists()
    with restart() as server, server.connect() as client:
        assert say(client, b"GET\tgone", b"GET\told") == b"NF\nNF\n"


def test_a_last_snapshot_that_failed_brings_nothing_back(restart: Restart) -> None:
    with restart() as server, server.connect() as client:
        say(client, b"PUT\tgone\t-\ttag\t1")
        server.stop()
    with restart(snapshot_interval_seconds=0.1) as server, server.connect() as client:
        eventually(lambda: client.json(b"INFO")["persistence"]["snapshot_seconds"])
        assert say(client, b"INV_TAG\ttag") == b"INV_TAG\t1\n"
        limit = server.log.stat().st_size + 4096
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        say(client, b"PUT\tlarge\t-\t-\t" + b"x" * 500_000)
        server.stop()
        server.wait_for_log("no snapshot was written")
    with restart() as server, server.connect() as client:
        assert say(client, b"GET\tgone", b"GET\tlarge") == b"NF\nNF\n"
        assert client.json(b"INFO")["persistence"]["after_crash"] == "empty"


def test_a_start_that_fails_keeps_the_snapshot(restart: Restart, tmp_path: Path) -> None:
    with restart() as server:
        fill(server)
        server.stop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sections = {
            "persistence": {"snapshot_file": tmp_path / "snapshot"},
            "server": {"http_port": taken.getsockname()[1]},
        }
        with RunningServer(tmp_path, sections, wait=False) as server:
            assert server.process.wait(60) == 1
            assert "Address already in use" in server.text()
    with restart() as server, server.connect() as client:
        assert client.json(b"INFO")["cache"]["items"] == 1000


def test_a_second_server_with_the_same_file_is_refused(restart: Restart, tmp_path: Path) -> None:
    with restart() as server:
        (tmp_path / "second").mkdir()
        knobs = {"persistence": {"snapshot_file": tmp_path / "snapshot"}}
        with RunningServer(tmp_path / "second", knobs, wait=False) as second:
            assert second.process.wait(60) == 1
            assert (
                f"tagcache: another server uses {tmp_path}/snapshot: process "
                f"{server.process.pid} has locked {tmp_path}/snapshot.lock"
            ) in second.text()
        fill(server)
        server.process.kill()
        server.process.wait()
    # The lock ended with its process.
    with restart() as server:
        assert server.ask(b"PING") == b"PONG\n"


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
        assert f"the snapshot {path} cannot be used: it" in errors[0]
        (aside,) = tmp_path.glob("snapshot.broken-*")
        assert aside.read_bytes() == broken
        server.stop()
    with restart() as server, server.connect() as client:
        assert say(client, b"GET\tk") == b"VALUE\tv\n"


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(
    restart: Restart, tmp_path: Path
) -> None:
    with restart(snapshot_interval_seconds=0.3) as server, server.connect() as client:
        fill(server)
        eventually(lambda: client.json(b"INFO")["persistence"]["snapshot_entries"] == 1000)
        # Like a full disk: no file of this process and its children can be larger.
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
        "snapshot.lock",
        "tagcache.conf",
    ]
    with restart(after_crash="load") as server, server.connect() as client:
        assert client.json(b"INFO")["cache"]["items"] == 1000


def test_a_place_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    knobs = {"snapshot_file": "/nowhere/snapshot"}
    server = RunningServer(tmp_path, {"persistence": knobs}, wait=False)
    assert server.process.wait(60) != 0
    assert "persistence.snapshot_file: there is no directory /nowhere" in server.text()
