"""Minutes of mixed load: no resource may grow, and no client may wait for long."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.doors import http_ask
from tests.faults.processes import descriptors, resident_mb
from tests.integration.running import RunningServer, eventually
from tests.reliability import ROOT, Measured

SECTION = "soak"
Start = Callable[..., RunningServer]

SECONDS = int(os.environ.get("TAGCACHE_SOAK_SECONDS", "600"))
# Until then memory use may still settle.
WARM_UP = 0.25
CLIENTS = 3
MAX_MEMORY = 20_000_000
PLOT = ROOT / "docs" / "reliability" / "soak.svg"


class Churn(threading.Thread):
    """Short connections, HTTP, pipelines, and bulk stores with tags that are invalidated."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._stopped = threading.Event()
        self.rounds = 0
        self.failure: BaseException | None = None

    def stop(self) -> None:
        self._stopped.set()
        self.join(30)
        assert self.failure is None, self.failure

    def run(self) -> None:
        try:
            while not self._stopped.wait(0.02):
                self._round()
                self.rounds += 1
        except BaseException as error:
            self.failure = error

    def _round(self) -> None:
        number = self.rounds
        with self._server.connect() as client:
            # Half of them have a time to live. All together they exceed max_memory.
            lines = [
                b"PUT\tbulk%d\t%s\tall,group%d\t%s\n"
                % (n, (b"-", b"30000")[n & 1], n % 50, b"v" * (n % 400))
                for n in range(number * 200, number * 200 + 200)
            ]
            client.send(b"".join(lines) + b"GET\tbulk%d\n" % (number * 200) * 100)
            replies = [client.line() for _ in range(300)]
            assert replies[:200] == [b"OK\n"] * 200
            if not number % 20:
                assert client.ask(b"INV_TAG\tgroup%d" % (number % 50)).startswith(b"INV_TAG\t")
        if not number % 10:
            body = {"key": f"http{number % 100}", "value": "v" * 2000, "tags": ["web"]}
            assert http_ask(self._server, "POST", "/put", body)[0] == 200
            assert http_ask(self._server, "GET", f"/get/http{number % 100}")[0] == 200
        if not number % 7:
            with socket.create_connection(("127.0.0.1", self._server.port)) as sock:
                sock.sendall(b"PUT\thalf\t-")


class Samples:
    """Each second: resident memory in MB, open descriptors, and the longest wait in ms."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.resident: list[float] = []
        self.descriptors: list[int] = []
        self.longest: list[float] = []
        self.waits: list[float] = []

    def after(self, begin: float) -> slice:
        return slice(next(n for n, at in enumerate(self.seconds) if at >= begin), None)


def watch(server: RunningServer, seconds: float) -> Samples:
    samples = Samples()
    begin = time.monotonic()
    with server.connect() as client:
        while (now := time.monotonic()) < begin + seconds:
            longest = 0.0
            while time.monotonic() < now + 1:
                asked = time.perf_counter()
                assert client.ask(b"PING") == b"PONG\n"
                wait = (time.perf_counter() - asked) * 1000
                samples.waits.append(wait)
                longest = max(longest, wait)
                time.sleep(0.01)
            samples.seconds.append(time.monotonic() - begin)
            samples.resident.append(resident_mb(server.process.pid))
            samples.descriptors.append(descriptors(server.process.pid))
            samples.longest.append(longest)
    return samples


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 180)
def test_mixed_load(start: Start, tmp_path: Path, measured: Measured) -> None:
    server = start(
        {
            "cache": {"max_memory": MAX_MEMORY},
            "persistence": {
                "snapshot_file": tmp_path / "snapshot",
                "snapshot_interval_seconds": 10,
            },
            "logging": {"level": "info"},
        }
    )
    with server.connect() as client:
        client.ask(b"PING")
    eventually(lambda: descriptors(server.process.pid) > 0)
    before = descriptors(server.process.pid)
    workers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.faults.workload", str(server.port)),
                *(str(number), str(CLIENTS), str(SECONDS), "-"),
            ],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for number in range(CLIENTS)
    ]
    churn = Churn(server)
    churn.start()
    try:
        samples = watch(server, SECONDS)
    finally:
        churn.stop()
        outputs = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * CLIENTS
    answered = sum(map(int, outputs)) + churn.rounds * 300
    draw(samples)
    (tmp_path / "samples.json").write_text(json.dumps(vars(samples)))

    steady = samples.after(SECONDS * WARM_UP)
    seconds, resident = samples.seconds[steady], samples.resident[steady]
    # The regression line may not rise by more than the spread of the values.
    slope, level = statistics.linear_regression(seconds, resident)
    noise = statistics.pstdev(
        each - level - slope * at for at, each in zip(seconds, resident, strict=True)
    )
    growth = slope * (seconds[-1] - seconds[0])
    assert growth < max(3 * noise, 1.0), (growth, noise)
    waits = sorted(samples.waits)
    p99 = waits[len(waits) * 99 // 100]
    assert p99 < 50
    with server.connect() as client:
        eventually(lambda: client.json(b"INFO")["connections"]["open"] == 1)
        time.sleep(1)
        check = client.json(b"INFO\tcheck")["check"]
        assert check["faults"] == []
        cache = client.json(b"INFO")["cache"]
        assert cache["evictions"] > 0
        # One of them belongs to this client.
        assert descriptors(server.process.pid) <= before + 1
    measured(
        f"{SECONDS} s of mixed load: {CLIENTS} processes with random requests, pipelines, HTTP, "
        f"connections that come and go, max_memory {MAX_MEMORY / 1e6:.0f} MB, snapshots every 10 s",
        "resident memory flat after warm-up, no descriptor kept, bounded lag",
        f"{answered:,} requests; {min(resident):.0f} to {max(resident):.0f} MB resident, "
        f"{growth:+.2f} MB over the last {seconds[-1] - seconds[0]:.0f} s (it strays by "
        f"{noise:.2f} MB); "
        f"no more descriptors afterwards than the {before} before; a PING waited "
        f"{statistics.median(waits):.1f} ms (p99 {p99:.1f}, longest {waits[-1]:.0f})",
    )


def draw(samples: Samples) -> None:
    from tests.soak.plot import over_time

    over_time(
        PLOT,
        samples.seconds,
        [
            ("resident memory, MB", samples.resident, False),
            ("open descriptors", samples.descriptors, False),
            ("longest wait of a PING in each second, ms", samples.longest, True),
        ],
    )
