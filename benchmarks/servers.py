"""Starts and stops the servers to measure, each on free ports of the loopback interface."""

from __future__ import annotations

import functools
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil

from benchmarks.machine import REDIS_SERVERS, on_server_core
from tagcache import native

HOST = "127.0.0.1"
USER, PASSWORD = "admin", "password"
START_SECONDS = 20.0
STOP_SECONDS = 20.0
MOST_CLIENTS = 4000


@dataclass(frozen=True)
class Server:
    """A running server. ``pid`` is the process that does the work."""

    name: str
    protocol: str
    pid: int
    port: int
    http_port: int = 0
    has_tags: bool = False

    def over_resp(self) -> Server:
        """Return the same running TagCache as clients of RESP see it."""
        return replace(self, name=f"{self.name}, RESP", protocol="resp")

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads so far, in s, exact to ns.

        It is the CPU clock of the process (clock_getcpuclockid): the sum that /proc/PID/stat has
        in ticks.
        """
        return time.clock_gettime((~self.pid << 3) | 2)

    def resident_bytes(self) -> int:
        """Return its resident memory in bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)


@functools.cache
def installed(program: str) -> bool:
    """Return whether a program is installed. Print a line, once, if it is not."""
    if shutil.which(program) is None:
        print(f"{program} is not installed: skipped", flush=True)
        return False
    return True


def default_reactor() -> str:
    """Return the reactor that ``tagcache server`` uses on this machine."""
    return reactors()[0]


@functools.cache
def reactors() -> list[str]:
    """Return the reactors to measure, the fastest first. Print a line, once, for others."""
    usable = {
        "tagcache": native.core is not None,
        "uvloop": find_spec("uvloop") is not None,
        "epoll": True,
    }
    for name in [name for name, is_usable in usable.items() if not is_usable]:
        print(f"the reactor {name} cannot be used: skipped", flush=True)
    return [name for name, is_usable in usable.items() if is_usable]


@contextmanager
def tagcache(
    reactor: str,
    knobs: Mapping[str, object] | None = None,
    sections: Mapping[str, Mapping[str, object]] | None = None,
) -> Iterator[Server]:
    """Run ``tagcache server`` with ``knobs`` in the section [server] of its configuration."""
    with ExitStack() as stack:
        directory = _directory(stack)
        port, http_port = free_ports(2)
        configuration = directory / "tagcache.conf"
        server = {"tcp_port": port, "http_port": http_port, **(knobs or {})}
        lines = []
        for section, values in {"server": server, **(sections or {})}.items():
            lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        program = Path(sys.executable).with_name("tagcache")
        command = [str(program), "server", f"--reactor={reactor}", f"--config={configuration}"]
        pid = _start(stack, directory, command, [port, http_port])
        name = "native" if reactor == "tagcache" else reactor
        yield Server(f"TagCache ({name})", "line", pid, port, http_port, has_tags=True)


def others() -> dict[str, Callable[[], AbstractContextManager[Server]]]:
    """Return the starters of the installed servers that Redis's clients know, by name."""
    return {
        name: partial(redis, name=name, program=program)
        for name, program in REDIS_SERVERS.items()
        if installed(program)
    }


@contextmanager
def redis(
    more: Mapping[str, str] | None = None, name: str = "Redis", program: str = "redis-server"
) -> Iterator[Server]:
    """Run a server without persistence. ``more`` are further options."""
    with ExitStack() as stack:
        directory = _directory(stack)
        (port,) = free_ports(1)
        options = {
            "bind": HOST,
            "port": str(port),
            "save": "",
            "appendonly": "no",
            "maxclients": str(MOST_CLIENTS),
            "tcp-backlog": "1024",
            "dir": str(directory),
            **(more or {}),
        }
        command = [program]
        for option, value in options.items():
            command += [f"--{option}", value]
        yield Server(name, "resp", _start(stack, directory, command, [port]), port)


@contextmanager
def memcached() -> Iterator[Server]:
    """Run memcached with one worker thread, and enough memory for all measurements."""
    with ExitStack() as stack:
        directory = _directory(stack)
        (port,) = free_ports(1)
        command = ["memcached", "-l", HOST, "-p", str(port), "-U", "0", "-t", "1"]
        command += ["-m", "4096", "-I", "4m", "-b", "1024", "-c", str(MOST_CLIENTS), "-u", "root"]
        yield Server("memcached", "memcached", _start(stack, directory, command, [port]), port)


@contextmanager
def nginx(locations: Mapping[str, str]) -> Iterator[Server]:
    """Run nginx with one worker, which answers each location with a constant JSON text."""
    with ExitStack() as stack:
        directory = _directory(stack)
        (port,) = free_ports(1)
        answers = "\n".join(
            f"location {place} {{ return 200 '{text}'; }}" for place, text in locations.items()
        )
        configuration = directory / "nginx.conf"
        configuration.write_text(
            f"""daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections {MOST_CLIENTS}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    default_type application/json;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {HOST}:{port};
        {answers}
    }}
}}
""",
            encoding="utf-8",
        )
        command = ["nginx", "-p", str(directory), "-c", str(configuration), "-e", "stderr"]
        master = _start(stack, directory, command, [port])
        (worker,) = psutil.Process(master).children()
        yield Server("nginx", "http", worker.pid, 0, port)


def _directory(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tagcache-bench-")))


def free_ports(count: int) -> list[int]:
    """Return free ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def _start(stack: ExitStack, directory: Path, command: list[str], ports: list[int]) -> int:
    """Start a server that ``stack`` ends; return its pid when all its ports are open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*on_server_core(), *command], stdout=output, stderr=output, cwd=directory
        )
    stack.callback(_stop, process)
    end = time.monotonic() + START_SECONDS
    for port in ports:
        while not _is_open(port):
            if process.poll() is not None or time.monotonic() > end:
                told = log.read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"{command[0]} does not start:\n{told}")
            time.sleep(0.02)
    return process.pid


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
