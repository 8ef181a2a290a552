"""A real server process, and a plain client for it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TWISTD = Path(sys.executable).with_name("twistd")
STARTED = re.compile(r"(\w+): listening on (\S+);")
# The longest wait. A wait ends as soon as its condition holds, so only a hang takes all of it.
TIMEOUT = 60.0
# The variables that a server inherits; the last ones are for sanitizers.
INHERITED = {
    *("PATH", "HOME", "LANG", "TAGCACHE_NATIVE"),
    *("ASAN_OPTIONS", "LD_PRELOAD", "PYTHONMALLOC", "PYTHONPATH"),
}
# The Redis URL for the entries of the servers, if they are not kept in memory.
ENGINE_URL = os.environ.get("TAGCACHE_TEST_ENGINE_URL")


class Client:
    """A blocking client that sends and reads lines."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(TIMEOUT)
        self._buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> bytes:
        """The next line with its line end; at the end of the stream, what is left."""
        while b"\n" not in self._buffer:
            data = self.sock.recv(65536)
            if not data:
                line, self._buffer = self._buffer, b""
                return line
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def ask(self, request: bytes) -> bytes:
        self.send(request + b"\n")
        return self.line()

    def json(self, request: bytes) -> Any:
        return json.loads(self.ask(request).split(b"\t", 1)[1])

    def rest(self) -> bytes:
        """All bytes until the server closes."""
        parts, self._buffer = [self._buffer], b""
        while more := self.sock.recv(65536):
            parts.append(more)
        return b"".join(parts)


def config_text(sections: Mapping[str, Mapping[str, object]]) -> str:
    lines = []
    for section, knobs in sections.items():
        lines.append(f"[{section}]")
        for key, value in knobs.items():
            items = value if isinstance(value, list) else [value]
            lines.append(f"{key} = " + ", ".join(f'"{each}"' for each in items))
    return "\n".join(lines) + "\n"


class RunningServer:
    """``twistd tagcache`` with its own configuration. Waits until the server listens."""

    def __init__(
        self,
        directory: Path,
        sections: Mapping[str, Mapping[str, object]] | None = None,
        environ: Mapping[str, str] | None = None,
        wait: bool = True,
        twistd: Path = TWISTD,
        config: str | None = "",
        prefix: Sequence[str] = (),
        reactor: str | None = None,
        **popen: Any,
    ) -> None:
        """``config`` is the text of a whole file instead of sections; None: no file.

        ``prefix`` is a program, with its arguments, that runs the server. ``reactor`` overrides
        the environment's.
        """
        self.directory = directory
        self.config = directory / "tagcache.conf"
        self.log = directory / "out.log"
        self.sections: dict[str, dict[str, object]] = {
            "server": {"tcp_port": 0, "http_port": 0},
            "logging": {"level": "debug"},
        }
        if ENGINE_URL:
            # Its own cache in the Redis that all servers of a test run share.
            self.sections["engine"] = {
                "backend": "redis",
                "url": ENGINE_URL,
                "key_prefix": f"{uuid.uuid4().hex}:",
            }
        for section, knobs in (sections or {}).items():
            self.sections.setdefault(section, {}).update(knobs)
        if config:
            self.config.write_text(config)
        elif config is not None:
            self.write_config()
        reactor = reactor or os.environ.get("TAGCACHE_TEST_REACTOR")
        arguments = [*prefix, str(twistd), "--nodaemon", "--pidfile="]
        arguments += [f"--reactor={reactor}"] if reactor else []
        arguments += ["tagcache"]
        arguments += [f"--config={self.config}"] if config is not None else []
        clean = {name: value for name, value in os.environ.items() if name in INHERITED}
        self.environ = {**clean, **(environ or {})}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                arguments,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=self.environ,
                **popen,
            )
        if wait:
            self.wait_for_log("http: listening on")
            # The log line precedes the end of the start. Until then a signal ends the process.
            eventually(lambda: takes_signals(self.process))
            self.addresses = dict(STARTED.findall(self.text()))

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def write_config(self) -> None:
        self.config.write_text(config_text(self.sections))

    def text(self) -> str:
        """The output of the server so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for_log(self, part: str, count: int = 1) -> str:
        """Wait until ``part`` is in the log ``count`` times; return the log."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            text = self.text()
            if text.count(part) >= count:
                return text
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"{part!r} is not in the log:\n{self.text()}")

    @property
    def port(self) -> int:
        return int(self.addresses["cache"].rpartition(":")[2])

    @property
    def http_port(self) -> int:
        return int(self.addresses["http"].rpartition(":")[2])

    def connect(self) -> Client:
        return Client(socket.create_connection(("127.0.0.1", self.port), TIMEOUT))

    def ask(self, request: bytes) -> bytes:
        with self.connect() as client:
            return client.ask(request)

    def reload(self, **sections: Mapping[str, object]) -> str:
        """Change the file and send SIGHUP; return what was logged afterwards."""
        for section, knobs in sections.items():
            self.sections.setdefault(section, {}).update(knobs)
        self.write_config()
        return self.hang_up()

    def hang_up(self) -> str:
        before = len(self.text())
        count = self.text().count("settings changed") + self.text().count("nothing changed")
        self.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            text = self.text()
            if text.count("settings changed") + text.count("nothing changed") > count:
                return text[before:]
            time.sleep(0.01)
        raise AssertionError(f"no reload:\n{self.text()}")

    def stop(self, by: signal.Signals = signal.SIGTERM) -> float:
        """Stop it; return how many seconds that took."""
        start = time.monotonic()
        self.process.send_signal(by)
        self.process.wait(TIMEOUT)
        return time.monotonic() - start


def eventually(condition: Any, timeout: float = TIMEOUT) -> None:
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def takes_signals(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has handlers for SIGHUP and SIGTERM."""
    wanted = 1 << (signal.SIGHUP - 1) | 1 << (signal.SIGTERM - 1)
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("SigCgt:")[1].split()[0], 16) & wanted == wanted


def busy_seconds(pid: int) -> float:
    """Return the CPU time of the first thread of a process; in a server, that of the reactor.

    Unlike wall-clock time, it does not grow while other processes use the CPU.
    """
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
