"""How much one hostile client delays the others: the longest GET of a bystander during an attack.

python -m benchmarks.attacks [--quick] [--seconds N]
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import load, servers
from benchmarks.latency import READ, READS_PER_SECOND, read_steadily
from benchmarks.servers import HOST, Server
from benchmarks.suite import Benchmark, Options, main, progress
from benchmarks.tables import number, table

TAGGED = 300_000
BASIC = b"Authorization: Basic YWRtaW46cGFzc3dvcmQ=\r\n"

# The listener that is attacked, and the bytes that are sent over and over.
Attack = tuple[str, bytes]


def _login() -> Attack:
    body = rb'{"\u0061":0' + b',"":0' * 400_000 + b"}"
    head = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return "http", head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _body_of_names() -> Attack:
    body = rb'{"key":"a","value":"b","\u0061":0' + b',"":0' * 300_000 + b"}"
    head = b"POST /put HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + BASIC
    return "http", head + b"Content-Length: %d\r\n\r\n" % len(body) + body


ATTACKS: dict[str, Callable[[], Attack]] = {
    "nothing": lambda: ("line", b""),
    "2 MB of names to log in with": _login,
    "1.5 MB of names to store": _body_of_names,
    "1,000 INCRs of a megabyte of zeros": lambda: ("line", b"INCR\tzeros\n" * 1000),
    "KEYS of a tag of 300,000": lambda: ("line", b"KEYS\tall\n"),
    "KEYS of 300,000 keys with commas": lambda: ("line", b"KEYS\tcommas\n" * 5),
    "8,000 SLOWLOGs": lambda: ("line", b"SLOWLOG\n" * 8000),
    "600 /metrics": lambda: (
        "http",
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + BASIC + b"\r\n") * 600,
    ),
    "10,000 small requests of HTTP": lambda: (
        "http",
        b"GET /health HTTP/1.1\r\nHost:x\r\n\r\n" * 10_000,
    ),
    "1,000 GETs of 1 MB": lambda: ("line", b"GET\tlarge\n" * 1000),
}


def measure(options: Options) -> dict[str, Any]:
    seconds = options.seconds_or(10, 2)
    reactor = servers.default_reactor()
    found: dict[str, Any] = {}
    for name, attack in ATTACKS.items():
        progress(name)
        with servers.tagcache(reactor, sections={"logging": {"slow_command_ms": 1}}) as server:
            load.fill(server, READ)
            _prepare(server)
            found[name] = _under(server, attack(), seconds)
    return {"reactor": reactor, "seconds": seconds, "attacks": found}


def _prepare(server: Server) -> None:
    with socket.create_connection((HOST, server.port), 60) as client:
        client.sendall(b"PUT\tzeros\t-\t-\t" + b"0" * 1_000_000 + b"x\n")
        client.sendall(b"PUT\tlarge\t-\t-\t" + b"v" * 1_000_000 + b"\n")
        for tag, comma in ((b"all", b""), (b"commas", b",")):
            for start in range(0, TAGGED, 1000):
                client.sendall(
                    b"".join(
                        b"PUT\t%b%b%d\t-\t%b\tv\n" % (tag, comma, number, tag)
                        for number in range(start, start + 1000)
                    )
                )
        client.shutdown(socket.SHUT_WR)
        while client.recv(2**16):
            pass


def _under(server: Server, attack: Attack, seconds: float) -> dict[str, float]:
    """Read steadily while the attack is repeated."""
    over = threading.Event()
    attacker = threading.Thread(target=_repeat, args=(server, attack, over))
    attacker.start()
    try:
        samples = sorted(long for _, long in read_steadily(server, seconds))
    finally:
        over.set()
        attacker.join()
    return {
        "p99": samples[len(samples) * 99 // 100] / 1000,
        "max": samples[-1] / 1000,
    }


def _repeat(server: Server, attack: Attack, over: threading.Event) -> None:
    door, data = attack
    port = server.port if door == "line" else server.http_port
    while data and not over.is_set():
        with suppress(OSError), socket.create_connection((HOST, port), 1) as client:
            sender = threading.Thread(target=_send, args=(client, data))
            sender.start()
            for _ in _received(client):
                if over.is_set():
                    break
            # This ends the sender, too.
            client.close()
            sender.join()


def _send(client: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)


def _received(client: socket.socket) -> Iterator[bytes]:
    while data := client.recv(2**18):
        yield data


def section(found: Any, plots: Path) -> str:
    rows = [
        [name, *(number(content[which]) for which in ("p99", "max"))]
        for name, content in found["attacks"].items()
    ]
    return "\n".join(
        [
            (
                f"A bystander sends {READS_PER_SECOND:,} GETs a second for {found['seconds']:g} s "
                f"(TagCache on {found['reactor']}), while another client repeats one request, and "
                "reads as fast as it can.\n"
            ),
            table(("another client sends", "GET p99, µs", "longest GET, µs"), rows),
        ]
    )


BENCHMARK = Benchmark("attacks", "One client against the others", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
