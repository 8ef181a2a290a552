"""Faults of the process: signals, full disks, unreadable files, clocks that jump."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import skip
from tests.faults.doors import http_ask
from tests.integration.running import Client, RunningServer, eventually
from tests.reliability import Measured

SECTION = "process"
Start = Callable[..., RunningServer]


class Counting:
    """A client in a thread that increments its own key, and records what was acknowledged."""

    def __init__(self, server: RunningServer, name: str) -> None:
        self.acknowledged = self.sent = 0
        self.broken_reply = b""
        self._client = server.connect()
        self._key = name.encode()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._client.sock.close()

    def _run(self) -> None:
        batch = b"INCR\t%s\n" % self._key * 20
        try:
            while True:
                self._client.send(batch)
                self.sent += 20
                for _ in range(20):
                    reply = self._client.line()
                    if not reply.endswith(b"\n"):
                        self.broken_reply = reply
                        return
                    assert reply == b"VALUE\t%d\n" % (self.acknowledged + 1)
                    self.acknowledged += 1
        except ConnectionError:
            pass


def test_sigterm_under_load(start: Start, tmp_path: Path, measured: Measured) -> None:
    """All acknowledged changes are in the snapshot, and no others."""
    snapshot = tmp_path / "snapshot"
    knobs = {"persistence": {"snapshot_file": snapshot}, "logging": {"level": "info"}}
    server = start({**knobs, "server": {"shutdown_grace_seconds": 60}})
    clients = [Counting(server, f"count{number}") for number in range(8)]
    time.sleep(1)
    eventually(lambda: sum(client.acknowledged for client in clients) > 100)
    seconds = server.stop()
    for client in clients:
        client.join()
    assert server.process.returncode == -signal.SIGTERM
    assert not any(client.broken_reply for client in clients)
    total = sum(client.acknowledged for client in clients)
    again = start(knobs)
    with again.connect() as asking:
        for number, client in enumerate(clients):
            kept = asking.ask(b"GET\tcount%d" % number)
            assert kept == b"VALUE\t%d\n" % client.acknowledged
    measured(
        "SIGTERM while 8 clients count as fast as they can; shutdown_grace_seconds = 60",
        "no acknowledged reply lost, none half sent, stopped within the grace",
        f"{total:,} counts acknowledged and all in the snapshot; stopped after {seconds:.2f} s",
    )


@pytest.mark.slow
def test_sigkill_in_the_middle_of_a_snapshot(
    start: Start, tmp_path: Path, measured: Measured
) -> None:
    """Killed at many moments: afterwards the old or the new snapshot is there, complete."""
    snapshot = tmp_path / "snapshot"
    kills = unfinished = 0
    found = set()
    generation = 0
    for delay in (0.0, 0.01, 0.03, 0.06, 0.1, 0.2):
        server = start(
            {
                "persistence": {
                    "snapshot_file": snapshot,
                    "snapshot_interval_seconds": 0.2,
                    "after_crash": "load",
                },
                "logging": {"level": "info"},
            }
        )
        with server.connect() as client:
            if generation:
                # The keys are written in order, so at any moment their values are in order.
                replies = [client.ask(b"GET\tk%d" % n) for n in range(0, 20_000, 1000)]
                values = [int(reply.split(b"\t")[1].split(b".")[0]) for reply in replies]
                assert values == sorted(values, reverse=True)
                assert {*values} <= {generation, generation - 1}
                assert client.json(b"INFO")["cache"]["items"] == 20_000
                found.add("old" if values[-1] == generation - 1 else "new")
            # One snapshot is complete. Then another begins, and the server is killed.
            for number in (generation + 1, generation + 2):
                put_all(client, number)
                if number == generation + 1:
                    wait_for_snapshot(client)
            generation += 2
        eventually(lambda: list(tmp_path.glob("snapshot.new-*")))
        time.sleep(delay)
        children = children_of(server.process.pid)
        for pid in [server.process.pid, *children]:
            os.kill(pid, signal.SIGKILL)
        server.process.wait()
        kills += 1
        unfinished += bool(list(tmp_path.glob("snapshot.new-*")))
    last = start({"persistence": {"snapshot_file": snapshot, "after_crash": "load"}})
    with last.connect() as client:
        assert client.json(b"INFO")["cache"]["items"] == 20_000
    assert not list(tmp_path.glob("snapshot.new-*"))
    assert not list(tmp_path.glob("snapshot.broken-*"))
    assert unfinished
    measured(
        f"SIGKILL of the server and of its writing process, {kills} times while a snapshot is made",
        "with after_crash = load the old snapshot or the new one, always a whole one",
        f"{unfinished} of {kills} left an unfinished file; loaded each time: the "
        f"{' or the '.join(sorted(found))} one, whole",
    )


def put_all(client: Client, generation: int) -> None:
    value = b"%d." % generation + b"x" * 500
    lines = (b"PUT\tk%d\t-\t-\t%s\n" % (number, value) for number in range(20_000))
    while batch := b"".join(itertools.islice(lines, 1000)):
        client.send(batch)
        assert [client.line() for _ in range(1000)] == [b"OK\n"] * 1000


def wait_for_snapshot(client: Client) -> None:
    """Wait until a snapshot that begins after this call is complete."""
    now = time.time()
    eventually(lambda: (client.json(b"INFO")["persistence"]["snapshot_taken"] or 0) > now)


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


def test_a_port_in_use(start: Start, measured: Measured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = {}
        for knob in ("tcp_port", "http_port"):
            server = start({"server": {knob: port}}, wait=False)
            assert server.process.wait(60) == 1
            told[knob] = server.text()
            assert f"127.0.0.1:{port}" in told[knob] or str(port) in told[knob]
            assert f"(server.{knob})" in told[knob]
            assert "Address already in use" in told[knob]
    measured(
        "a port that another process uses, for both ports",
        "the start fails, names the port and the knob, and the other port does not open",
        "exit code 1, both named",
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    if os.geteuid() != 0:
        skip("it takes root to mount")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", place]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.root
def test_a_full_disk(start: Start, small_disk: Path, measured: Measured) -> None:
    snapshot = small_disk / "snapshot"
    server = start(
        {
            "persistence": {"snapshot_file": snapshot, "snapshot_interval_seconds": 0.2},
            "logging": {"file": small_disk / "tagcache.log", "level": "info"},
        },
        wait=False,
    )
    log = small_disk / "tagcache.log"
    eventually(lambda: log.exists() and "http: listening on" in log.read_text())
    text = log.read_text()
    server.addresses = {
        name: text.split(f"{name}: listening on ")[1].split(";")[0] for name in ("cache", "http")
    }
    with server.connect() as client:
        assert client.ask(b"PUT\tsmall\t-\t-\tvalue") == b"OK\n"
        wait_for_snapshot(client)
        for number in range(40):
            assert client.ask(b"PUT\tbig%d\t-\t-\t" % number + b"x" * 100_000) == b"OK\n"
        eventually(lambda: client.json(b"INFO")["persistence"]["snapshot_error"])
        error = client.json(b"INFO")["persistence"]["snapshot_error"]
        assert "No space left" in error
        # The last snapshot that fits. All later ones fail.
        good = snapshot.read_bytes()
        assert b"small" in good
        time.sleep(0.5)
        assert snapshot.read_bytes() == good
        # Except for a moment, while the server tries again.
        lock = [small_disk / "snapshot.lock"]
        eventually(lambda: list(small_disk.glob("snapshot.*")) == lock)
        # Now there is no space for the log either.
        with (small_disk / "filler").open("wb") as filler, pytest.raises(OSError):
            while True:
                filler.write(b"x" * 65536)
                filler.flush()
        assert client.ask(b"AUTH\tadmin\twrong") == b"ERR auth_failed\n"  # which is logged
        assert http_ask(server, "GET", "/health")[0] == 200
        (small_disk / "filler").unlink()
        client.send(b"".join(b"DEL\tbig%d\n" % number for number in range(40)))
        assert {client.line() for _ in range(40)} == {b"DEL ok\n"}
        eventually(lambda: client.json(b"INFO")["persistence"]["snapshot_error"] is None)
        assert client.ask(b"GET\tsmall") == b"VALUE\tvalue\n"
    server.stop()
    measured(
        "a disk of 2 MB that is full: for a snapshot, then for the log too",
        "the old snapshot stays, serving continues, the next one with room is written",
        f"snapshot_error: {error}; served throughout; written again when there was room",
    )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter. Each run of pytest closes its own to the others."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_files_that_cannot_be_written(open_folder: Path, measured: Measured) -> None:
    """As another user than root, whom permissions stop."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        skip("setpriv is not installed (Debian: util-linux)")
    place = open_folder / "place"
    place.mkdir()
    place.chmod(0o777)
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    running = RunningServer(
        open_folder,
        {
            "persistence": {
                "snapshot_file": place / "snapshot",
                "snapshot_interval_seconds": 0.2,
            },
        },
        prefix=prefix if os.geteuid() == 0 else [],
        environ={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    with running as server, server.connect() as client:
        client.ask(b"PUT\tk\t-\t-\tv")
        wait_for_snapshot(client)
        place.chmod(0o555)
        eventually(lambda: client.json(b"INFO")["persistence"]["snapshot_error"])
        error = client.json(b"INFO")["persistence"]["snapshot_error"]
        good = (place / "snapshot").read_bytes()
        time.sleep(0.5)
        assert (place / "snapshot").read_bytes() == good
        # This user cannot write the configuration or its folder.
        status, answer = http_ask(server, "POST", "/auth/change_password", {"new_password": "n"})
        assert (status, answer["error"]) == (500, "not_persisted")
        assert http_ask(server, "GET", "/stats")[0] == 200
        assert client.ask(b"GET\tk") == b"VALUE\tv\n"
        place.chmod(0o777)
        eventually(lambda: client.json(b"INFO")["persistence"]["snapshot_error"] is None)
        assert "Traceback" not in server.text(), server.text()
    measured(
        "a snapshot's folder and a configuration file that may not be written",
        "reported; the old file and the current password stay; serving continues",
        f"snapshot_error: {error}; change_password: 500 not_persisted",
    )


def faketime() -> Path:
    for each in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"):
        return each
    skip("libfaketime is not installed (CONTRIBUTING.md names its Debian package)")
    raise AssertionError


def test_the_wall_clock_jumps(start: Start, tmp_path: Path, measured: Measured) -> None:
    """An hour forward and two back while entries have a TTL. The monotonic clock is unaffected."""
    offset = tmp_path / "offset"
    offset.write_text("+0")
    server = start(
        environ={
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    )

    def wall() -> float:
        """The time of day according to the server."""
        from datetime import datetime

        return datetime.fromisoformat(http_ask(server, "GET", "/health")[1]["time"]).timestamp()

    with server.connect() as client:
        drift = []
        for jump in (3600, -3600):
            begin = time.monotonic()
            for key, ttl_ms in ((b"long", 600_000), (b"short", 2000)):
                assert client.ask(b"PUT\t%s\t%d\tt\tv" % (key, ttl_ms)) == b"OK\n"
            stored = time.monotonic()
            offset.write_text(f"{jump:+d}")
            assert abs(wall() - time.time() - jump) < 600
            assert client.ask(b"GET\tlong") == b"VALUE\tv\n"
            asked = time.monotonic()
            while client.ask(b"GET\tshort") != b"NF\n":
                assert asked - stored < 2.01
                time.sleep(0.005)
                asked = time.monotonic()
            # It did not expire too early, and was not returned too late.
            drift.append(time.monotonic() - begin - 2)
            assert drift[-1] > -0.01
            assert client.ask(b"GET\tlong") == b"VALUE\tv\n"
            left = http_ask(server, "GET", "/keys/long")[1]["ttl_ms"]
            assert 400_000 < left < 600_000
    measured(
        "the wall clock moved an hour forward, then back, while times to live run (libfaketime)",
        "an entry with 2000 ms lives 2000 ms",
        f"{', '.join(f'{2000 + each * 1000:.0f} ms' for each in drift)}; the other one stayed",
    )


def test_a_reload_of_a_broken_file_under_load(start: Start, measured: Measured) -> None:
    server = start({"logging": {"level": "info"}})
    clients = [Counting(server, f"count{number}") for number in range(2)]
    # Until the start is complete, SIGHUP ends the process, as it does by default.
    eventually(lambda: all(client.acknowledged for client in clients))
    good = server.config.read_bytes()
    broken = {
        "no configuration": b"\x00\xff\xfe not a file",
        "an unknown knob": good + b"[cache]\nmax_kye_length = 5\n",
        "a bad value": good + b"[cache]\nmax_key_length = five\n",
        "a section twice": good + b"[logging]\nlevel = info\n",
        "empty quotes": good + b'[security]\nallowed_ips = "999.1.1.1",\n',
        "cut off": good[: len(good) // 2] + b"[unfinished",
    }
    for name, content in broken.items():
        server.config.write_bytes(content)
        assert "nothing changed" in server.hang_up(), name
    server.config.unlink()
    assert "nothing changed" in server.hang_up()
    server.config.write_bytes(good)
    assert "0 settings changed" in server.hang_up()
    time.sleep(0.1)
    server.stop()
    for client in clients:
        client.join()
        assert client.acknowledged > 0
        assert not client.broken_reply
    measured(
        f"SIGHUP under load with a file that is broken in {len(broken) + 1} ways, or missing",
        "nothing changes, and no reply is lost",
        f"{len(broken) + 1} times nothing changed; "
        f"{sum(client.acknowledged for client in clients):,} replies in this time",
    )
