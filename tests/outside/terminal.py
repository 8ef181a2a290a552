"""A program in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.integration.running import TIMEOUT

BIN = Path(sys.executable).parent
CTRL_C = b"\x03"


class Terminal:
    """A program in a terminal: its output, and typed input."""

    def __init__(self, *command: str, cwd: Path, environ: dict[str, str]) -> None:
        self.shown = b""
        self._leader, follower = pty.openpty()
        # Without a size, some programs ask the terminal for it, and wait for the answer.
        termios.tcsetwinsize(follower, (24, 100))
        self.process = subprocess.Popen(
            command,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            cwd=cwd,
            env={
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "HOME": str(cwd),
                "TERM": "xterm",
                **environ,
            },
            # Ctrl-C works in the terminal even if the tests were started with SIGINT ignored.
            preexec_fn=_take_terminal,
        )
        os.close(follower)

    def type(self, text: bytes) -> None:
        os.write(self._leader, text)

    def wait_for(self, pattern: bytes) -> re.Match[bytes]:
        """Wait until the output matches the pattern; drop the output up to the end of the match."""
        end = time.monotonic() + TIMEOUT
        while (match := re.search(pattern, self.shown)) is None:
            left = end - time.monotonic()
            ready, _, _ = select.select([self._leader], [], [], max(left, 0))
            assert ready, self.shown
            try:
                self.shown += os.read(self._leader, 65536)
            except OSError:
                raise AssertionError(f"it ended after {self.shown!r}") from None
        self.shown = self.shown[match.end() :]
        return match

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._leader)


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
