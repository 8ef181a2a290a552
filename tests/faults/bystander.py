"""Another client, in its own process, that measures how long it waits for replies.

``python -m tests.faults.bystander PORT PID`` sends requests until its standard input ends, and then
prints JSON: ``count``, and ``p50``, ``p99`` and ``longest`` in ms. ``busy_p99`` is the CPU time of
the server's reactor thread during a wait. It does not grow on a busy machine, so a test may compare
it.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from tests.integration.running import RunningServer, busy_seconds

ROOT = Path(__file__).resolve().parents[2]
PAUSE_SECONDS = 0.001


class Bystander:
    """Runs that process during a ``with``. ``seen`` is its output."""

    def __init__(self, server: RunningServer) -> None:
        self.seen: dict[str, float] = {}
        self._arguments = [str(server.port), str(server.process.pid)]

    def __enter__(self) -> Bystander:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.bystander", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        output, _ = self._process.communicate(timeout=60)
        if kind is None:
            self.seen = json.loads(output)

    def __str__(self) -> str:
        seen = self.seen
        return f"p99 {seen['p99']:.1f} ms, longest {seen['longest']:.0f} ms"


def watch(port: int, pid: int) -> None:
    waits = []
    busy = []
    with (
        socket.create_connection(("127.0.0.1", port), 60) as sock,
        selectors.DefaultSelector() as selector,
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sys.stdin, selectors.EVENT_READ)
        print("ready", flush=True)
        while not selector.select(PAUSE_SECONDS):
            before, begin = busy_seconds(pid), time.perf_counter()
            sock.sendall(b"GET\tbystander\n")
            reply = sock.recv(100)
            waits.append(time.perf_counter() - begin)
            busy.append(busy_seconds(pid) - before)
            assert reply == b"NF\n", reply
    seen = {
        "p50": at(waits, 0.5),
        "p99": at(waits, 0.99),
        "longest": max(waits),
        "busy_p99": at(busy, 0.99),
    }
    told = {name: round(seconds * 1000, 3) for name, seconds in seen.items()}
    print(json.dumps({"count": len(waits), **told}))


def at(seconds: list[float], part: float) -> float:
    return sorted(seconds)[int(len(seconds) * part)]


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]))
