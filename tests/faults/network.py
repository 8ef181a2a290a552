"""Two network namespaces with a link between them, which can be cut or slowed down."""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import os
import selectors
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_numbers = itertools.count()
SERVER, CLIENT = "10.203.7.1", "10.203.7.2"


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


class Namespaces:
    """The network namespaces of a server and a client. It must be closed."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.server = f"tagcache-{os.getpid()}-{number}-s"
        self.client = f"tagcache-{os.getpid()}-{number}-c"
        for name in (self.server, self.client):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")

    def close(self) -> None:
        for name in (self.server, self.client):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    @property
    def prefix(self) -> list[str]:
        """The command that starts a program in the server's namespace."""
        return ["ip", "netns", "exec", self.server]

    def join(self) -> None:
        """Connect the two with a veth pair."""
        pair = ("link", "add", "link0", "netns", self.server, "type", "veth")
        run("ip", *pair, "peer", "name", "link0", "netns", self.client)
        for name, address in ((self.server, SERVER), (self.client, CLIENT)):
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "link0")
            run("ip", "-n", name, "link", "set", "link0", "up")

    def cut(self) -> None:
        """Take the link down at the client's end. No side receives a FIN."""
        run("ip", "-n", self.client, "link", "set", "link0", "down")

    def mend(self) -> None:
        run("ip", "-n", self.client, "link", "set", "link0", "up")

    def delay(self, milliseconds: int) -> None:
        """Delay each packet in both directions. Raises NotImplementedError if the kernel cannot."""
        for name in (self.server, self.client):
            command = ["tc", "-n", name, "qdisc", "add", "dev", "link0", "root", "netem"]
            done = subprocess.run(
                [*command, "delay", f"{milliseconds}ms"], capture_output=True, text=True
            )
            if done.returncode:
                raise NotImplementedError(f"tc netem: {done.stderr.strip()}")

    def connect(self, port: int, timeout: float = 20.0) -> socket.socket:
        """Connect from the client's namespace to the server."""
        return inside(self.client, lambda: socket.create_connection((SERVER, port), timeout))


def inside(namespace: str, action: Callable[[], T]) -> T:
    """Run a function in a network namespace. A socket created there stays there."""
    results: list[T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
            try:
                # Affects this thread only.
                if libc.setns(descriptor, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(descriptor)
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _tun() -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH14x", b"link0", _IFF_TUN | _IFF_NO_PI))
    return descriptor


class SlowLink:
    """A link between two namespaces: a thread carries its packets with a delay.

    It replaces ``tc netem delay`` on kernels that have only tun.
    """

    def __init__(self, namespaces: Namespaces, seconds: float) -> None:
        self._delay = seconds
        self._ends: list[int] = []
        for name, ours, theirs in (
            (namespaces.server, SERVER, CLIENT),
            (namespaces.client, CLIENT, SERVER),
        ):
            self._ends.append(inside(name, _tun))
            run("ip", "-n", name, "address", "add", ours, "peer", theirs, "dev", "link0")
            run("ip", "-n", name, "link", "set", "link0", "up")
        self._stopped = False
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def close(self) -> None:
        self._stopped = True
        self._thread.join()
        for end in self._ends:
            os.close(end)

    def _carry(self) -> None:
        selector = selectors.DefaultSelector()
        for number, end in enumerate(self._ends):
            selector.register(end, selectors.EVENT_READ, self._ends[1 - number])
        late: list[tuple[float, int, int, bytes]] = []
        count = 0
        while not self._stopped:
            wait = max(late[0][0] - time.monotonic(), 0) if late else 0.05
            for key, _ in selector.select(min(wait, 0.05)):
                with suppress(BlockingIOError):
                    packet = os.read(key.fd, 65536)
                    count += 1
                    due = time.monotonic() + self._delay
                    heapq.heappush(late, (due, count, key.data, packet))
            while late and late[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(late)
                os.write(end, packet)
        selector.close()
