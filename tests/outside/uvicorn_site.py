"""uvicorn with a site of this folder, in its own process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

TIMEOUT = 60.0
RUNNING = re.compile(r"Uvicorn running on (http://\S+)")


class UvicornSite:
    """The site of a module, on uvloop. After the ``with``, its log has no traceback."""

    def __init__(self, directory: Path, module: str, *options: str, **environ: str) -> None:
        self.log = directory / f"{module}.log"
        arguments = ["uvicorn", "--port", "0", "--loop", "uvloop", *options]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "dev", "-m", *arguments, f"tests.outside.{module}:app"],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
                env={**os.environ, **environ},
            )

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def url(self) -> str:
        end = time.monotonic() + TIMEOUT
        while (found := RUNNING.search(self.text())) is None:
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.02)
        return found[1]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url(), timeout=TIMEOUT, trust_env=False)

    def __enter__(self) -> UvicornSite:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()
        if kind is None:
            text = self.text()
            for wrong in ("Traceback", "Bad file descriptor"):
                assert wrong not in text, text
